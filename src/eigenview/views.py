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

from torch import Tensor

FIELDS = ("h", "z", "p", "z_target")


@dataclass(frozen=True, kw_only=True)
class Views:
    """One batch seen V times: whatever an objective reads of it; fields it does not read may be None.

    Every field has V as its leading axis; row i of each view comes from the same image i.
    """

    h: Tensor | None = None
    z: Tensor | None = None
    p: Tensor | None = None
    z_target: Tensor | None = None

    def __post_init__(self) -> None:
        shapes = {name: tuple(t.shape) for name in FIELDS if (t := getattr(self, name)) is not None}
        if not shapes:
            raise ValueError("Views needs at least one of h, z, p, z_target; all are None.")
        for name, shape in shapes.items():
            if len(shape) != 3:
                raise ValueError(f"Views.{name} has shape {shape}; expected three axes: views, samples, width.")
            if shape[0] < 2:
                raise ValueError(f"Views.{name} has {shape[0]} view; a joint-embedding objective needs at least 2.")
        if len({shape[:2] for shape in shapes.values()}) > 1:
            raise ValueError(f"Views fields disagree on (views, samples): {shapes}.")

    def read(self, name: str) -> Tensor:
        """The field `name`, or an error that says what is missing."""
        value = getattr(self, name)
        if value is None:
            raise ValueError(f"this objective reads Views.{name}, which is None: give it when you build Views.")
        return value

    def detach(self) -> Views:
        """The same values without their graph."""
        return Views(**{name: t.detach() for name in FIELDS if (t := getattr(self, name)) is not None})
