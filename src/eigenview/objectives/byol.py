"""BYOL: predict the target network's embedding of another view (Grill et al. 2020)."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from eigenview.functional.similarity import cosine
from eigenview.objectives.base import Objective, promote, without_autocast
from eigenview.views import Views


@dataclass(frozen=True, kw_only=True)
class BYOLConfig:
    """Options of BYOL."""

    normalise: bool = True
    """Compare directions, 2 - 2 cosine; off: squared Euclidean distance of the raw vectors."""


def regression(p: Float[Tensor, "N D"], target: Float[Tensor, "N D"], normalise: bool = True) -> Float[Tensor, ""]:
    """Mean over samples of |p - target|^2, of unit vectors (2 - 2 cosine, in [0, 4]) unless `normalise` is off."""
    if normalise:
        return 2 - 2 * cosine(p, target).mean()
    return (p - target).square().sum(dim=-1).mean()


class BYOL(Objective):
    """Distance from each view's prediction to the target network's embedding of every other view.

    Definition
        similarity = r(p, t') + r(p', t), r(p, t) = (1/N) sum_i (2 - 2 cos(p_i, t_i)), t the target without gradient.

    Normalisation
        Mean over samples, SUM over the two directions: in [0, 8]. Paper and code agree (luckmatters drops the constant
        4; fastssl divides by D and uses one direction). Four times SimSiam's loss plus a constant. With more than two
        views it is twice the mean over ordered pairs of different views, so the range and the gradient's size stay.

    Shapes
        p and z_target (V N D) -> one scalar. z_target never receives a gradient.

    Raises
        ValueError where p or z_target is missing from Views.

    Reference
        Grill et al. 2020, arXiv 2006.07733, equation 2 and the symmetrisation below it.
    """

    reads: ClassVar[frozenset[str]] = frozenset({"p", "z_target"})

    def __init__(self, config: BYOLConfig = BYOLConfig()) -> None:
        super().__init__()
        self.config = config

    def forward(self, views: Views) -> dict[str, Tensor]:
        p, target = promote(views.read("p")), promote(views.read("z_target")).detach()
        pairs = permutations(range(p.shape[0]), 2)
        with without_autocast(p):
            each = [regression(p[a], target[b], self.config.normalise) for a, b in pairs]
        return {"similarity": 2 * torch.stack(each).mean()}
