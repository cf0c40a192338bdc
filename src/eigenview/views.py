"""The one record that flows from the network to an objective, and the legend of every shape in this package.

Legend
    V views, N samples (global batch), D embedding width, H representation width
    h  representation, the encoder's output                 (V N H)
    z  embedding, the projector's output                     (V N D)
    p  prediction, a learned predictor applied to z          (V N D)
    z_target  the target network's embedding, no gradient    (V N D)
    F  second moment of z, used by closed-form predictors    (D D)
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations

from torch import Tensor

from eigenview.functional.sharded.processes import Processes

FIELDS = ("h", "z", "p", "z_target")


@dataclass(frozen=True, kw_only=True)
class Views:
    """One batch seen V times: whatever an objective reads of it; fields it does not read may be None.

    Every field has V as its leading axis; row i of each view comes from the same image i. With local crops only the
    first `targets` views are whole enough to be predicted: z_target holds those alone.
    """

    h: Tensor | None = None
    z: Tensor | None = None
    p: Tensor | None = None
    z_target: Tensor | None = None
    targets: int | None = None
    """Views that may be predicted, the first of all; None: every one."""
    processes: Processes | None = None
    """Those on which the rest of the batch lies, for an objective that `takes_shards`; None: these rows are all."""

    def __post_init__(self) -> None:
        shapes = {name: tuple(t.shape) for name in FIELDS if (t := getattr(self, name)) is not None}
        if not shapes:
            raise ValueError("Views needs at least one of h, z, p, z_target; all are None.")
        for name, shape in shapes.items():
            if len(shape) != 3:
                raise ValueError(f"Views.{name} has shape {shape}; expected three axes: views, samples, width.")
            if shape[0] < 2:
                raise ValueError(f"Views.{name} has {shape[0]} view; a joint-embedding objective needs at least 2.")
        # z_target holds the views that may be predicted, every other field all views
        counts = {name: (shape[0], shape[1]) for name, shape in shapes.items()}
        views = max(count for count, _ in counts.values())
        expected = {name: views if name != "z_target" else (self.targets or views) for name in counts}
        if len({n for _, n in counts.values()}) > 1 or any(counts[name][0] != v for name, v in expected.items()):
            raise ValueError(f"Views fields disagree on (views, samples): {shapes}.")
        if self.targets is not None and not 2 <= self.targets <= views:
            raise ValueError(f"Views.targets is {self.targets}; expected 2 to the number of views, {views}.")

    def read(self, name: str) -> Tensor:
        """The field `name`, or an error that says what is missing."""
        value = getattr(self, name)
        if value is None:
            raise ValueError(f"this objective reads Views.{name}, which is None: give it when you build Views.")
        return value

    def detach(self) -> Views:
        """The same values without their graph."""
        fields = {name: t.detach() for name in FIELDS if (t := getattr(self, name)) is not None}
        return Views(**fields, targets=self.targets, processes=self.processes)


def ordered_pairs(views: int, targets: int | None = None) -> list[tuple[int, int]]:
    """(a, b) of different views, b one of the first `targets` (all by default): a predicts b."""
    return [(a, b) for a, b in permutations(range(views), 2) if targets is None or b < targets]
