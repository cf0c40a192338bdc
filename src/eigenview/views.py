"""What a network gives an objective, what the objective gives back, and the legend of every shape in this package.

Legend
    V views, N samples (global batch), n samples of one process, D embedding width, H representation width
    T views that are targets, K prototypes or length of a queue
    h  representation, the encoder's output                 (V n H)
    z  embedding, the projector's output                     (V n D)
    p  prediction, a learned predictor applied to z          (V n D)
    z_target  the target network's embedding, no gradient    (T n D)
    F  second moment of z, used by closed-form predictors    (D D)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import torch
from torch import Tensor

from eigenview.errors import require

FIELDS = ("h", "z", "p", "z_target")
PerView = Tensor | Sequence[Tensor]
"""One tensor (n, width) for each view, or all of them stacked (V, n, width)."""


@dataclass(frozen=True, kw_only=True)
class Views:
    """One batch seen V times: what an objective reads. A field that it does not read may be None.

    Every field has the views as its leading axis; row i of every view comes from image i. With local crops only the
    first `whole` views are targets of a prediction. `online` and `targets` number the views of z and z_target where not
    all views pass both networks.
    """

    h: Tensor | None = None
    z: Tensor | None = None
    p: Tensor | None = None
    z_target: Tensor | None = None
    whole: int | None = None
    """Number of leading views that are targets; None: all."""
    online: tuple[int, ...] | None = None
    """Numbers of the views in h, z and p; None: 0, 1, ..."""
    targets: tuple[int, ...] | None = None
    """Numbers of the views in z_target (or, without it, of those of z that are targets); None: the whole views."""
    index: Tensor | None = None
    """Rows of the data set (n), where known."""

    def __post_init__(self) -> None:
        shapes = {name: tuple(t.shape) for name in FIELDS if (t := getattr(self, name)) is not None}
        if not shapes:
            raise ValueError("Views needs at least one of h, z, p, z_target; all are None.")
        for name, shape in shapes.items():
            if len(shape) != 3:
                raise ValueError(f"Views.{name} has shape {shape}; expected three axes: views, samples, width.")
            if shape[0] < 2 and self.online is None and self.targets is None:
                raise ValueError(f"Views.{name} has {shape[0]} view; a joint-embedding objective needs at least 2.")
        counts = {name: shape[0] for name, shape in shapes.items()}
        views = len(self.online) if self.online is not None else max(counts.values())
        if self.whole is not None and self.online is None and not 2 <= self.whole <= views:
            raise ValueError(f"Views.whole is {self.whole}; expected 2 to the number of views, {views}.")
        targets = len(self.targets) if self.targets is not None else (self.whole or views)
        agree = all(count == (targets if name == "z_target" else views) for name, count in counts.items())
        if len({shape[1] for shape in shapes.values()}) > 1 or not agree:
            raise ValueError(f"Views fields disagree on (views, samples): {shapes}.")

    @classmethod
    def of(
        cls, *z: Tensor, h: PerView | None = None, p: PerView | None = None, z_target: PerView | None = None
    ) -> Views:
        """Views of tensors: one (n, width) for each view, or all views stacked as (V, n, width).

        Raises: UserError for what is no tensor, and for views of different shapes.
        """
        fields = {"h": h, "z": z or None, "p": p, "z_target": z_target}
        made = {name: None if value is None else _stacked(name, value) for name, value in fields.items()}
        return cls(h=made["h"], z=made["z"], p=made["p"], z_target=made["z_target"])

    def read(self, name: str) -> Tensor:
        """The field `name`; an error that says what is missing if it is None."""
        value = getattr(self, name)
        if value is None:
            raise ValueError(f"this objective reads Views.{name}, which is None: pass it to Views.")
        return value

    @property
    def shape(self) -> tuple[int, ...]:
        """(views, samples, width) of the first field there is."""
        return next(tuple(t.shape) for name in FIELDS if (t := getattr(self, name)) is not None)

    @property
    def device_type(self) -> str:
        """ "cpu", "cuda" or "mps"."""
        return next(t.device.type for name in FIELDS if (t := getattr(self, name)) is not None)

    def promoted(self) -> Views:
        """float32 where a field has half precision."""
        half = (torch.float16, torch.bfloat16)
        found = {name: getattr(self, name) for name in FIELDS}
        return replace(self, **{name: t.float() for name, t in found.items() if t is not None and t.dtype in half})

    def pairs(self) -> list[tuple[int, int]]:
        """(a, b), positions among the online views and among the targets, of different views: a predicts b."""
        first = self.z if self.z is not None else self.p if self.p is not None else self.h
        assert first is not None or self.z_target is not None
        count = len(first) if first is not None else len(self.read("z_target"))
        online = self.online or tuple(range(count))
        targets = self.targets or tuple(range(self.whole or count))
        return [(a, b) for a, v in enumerate(online) for b, w in enumerate(targets) if v != w]


def _stacked(name: str, given: PerView) -> Tensor:
    """(V n width) of one tensor for each view, or of views that are stacked already."""
    views = [given] if isinstance(given, Tensor) else list(given)
    for view in views:
        require(isinstance(view, Tensor), name, type(view).__name__, "torch tensors, one (n, width) for each view")
    shapes = [tuple(view.shape) for view in views]
    if len(views) == 1 and len(shapes[0]) == 3:
        return views[0]
    allowed = "at least two tensors (n, width) of one shape, one for each view, or one stacked (views, n, width)"
    require(len(views) >= 2 and len(set(shapes)) == 1 and len(shapes[0]) == 2, f"the shape of {name}", shapes, allowed)
    return torch.stack(views)


@dataclass(frozen=True)
class Loss:
    """What a method returns for one batch, or for one part of it."""

    terms: Mapping[str, Tensor]
    """Weighted scalars; the loss is their sum, and their names are the keys of the log."""
    carry: Mapping[str, Tensor] = field(default_factory=dict)
    """What the update after the step needs, detached, as small as possible, with an axis in front along which the parts
    of a batch are joined: rows (n ...), or (1 ...) for statistics to be averaged."""
    notes: Mapping[str, Tensor] = field(default_factory=dict)
    """Other scalars worth logging."""

    @property
    def total(self) -> Tensor:
        """The loss: the sum of the weighted terms."""
        return torch.stack(list(self.terms.values())).sum()


class Group(NamedTuple):
    """Parameters that are optimised alike."""

    name: str
    params: list[torch.nn.Parameter]
    lr_factor: float = 1.0
    """Learning rate as a multiple of the run's."""
    decay: float | None = None
    """Weight decay of the matrices (two axes or more); None: the run's. Biases and norms have none."""
    frozen_epochs: float = 0.0
    """Epochs at the start during which they do not move."""
