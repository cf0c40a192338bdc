"""BYOL: predict the target network's embedding of another view (Grill et al. 2020)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from eigenview.functional.similarity import cosine
from eigenview.methods.base import promote, without_autocast
from eigenview.methods.regulariser import RegularisedObjective, RegulariserConfig, regulariser_terms
from eigenview.views import Views, ordered_pairs


@dataclass(frozen=True, kw_only=True)
class BYOLConfig(RegulariserConfig):
    """Options of BYOL."""

    normalise: bool = True
    """Compare directions, 2 - 2 cosine; off: squared Euclidean distance of the raw vectors."""
    stop_gradient: bool = True
    """Hold the target constant. Off makes a difference only where the target is the network itself
    (network.target online); every image then soon maps to one point."""


def regression(p: Float[Tensor, "N D"], target: Float[Tensor, "N D"], normalise: bool = True) -> Float[Tensor, ""]:
    """Mean over samples of |p - target|^2, of unit vectors (2 - 2 cosine, in [0, 4]) unless `normalise` is off."""
    if normalise:
        return 2 - 2 * cosine(p, target).mean()
    return (p - target).square().sum(dim=-1).mean()


def between_views(
    p: Float[Tensor, "V N D"], target: Float[Tensor, "T N D"], normalise: bool = True
) -> Float[Tensor, ""]:
    """Twice the mean over ordered pairs of different views a, b of `regression(p_a, target_b)`; the sum for two. The
    targets are those of the first T views: of all, or of those that are no local crops."""
    pairs = ordered_pairs(len(p), len(target))
    return 2 * torch.stack([regression(p[a], target[b], normalise) for a, b in pairs]).mean()


class BYOL(RegularisedObjective):
    """Distance from each view's prediction to the target network's embedding of every other view.

    Definition
        similarity = r(p, t') + r(p', t), r(p, t) = (1/N) sum_i (2 - 2 cos(p_i, t_i)), t the target without gradient.

    Normalisation
        Mean over samples, SUM over the two directions: in [0, 8]. Paper and code agree (luckmatters drops the constant
        4; fastssl divides by D and uses one direction). Four times SimSiam's loss plus a constant. With more than two
        views it is twice the mean over ordered pairs of different views, so the range and the gradient's size stay.

        Optional terms variance and covariance: VICReg's, summed over two views (methods/regulariser.py).

    Shapes
        p and z_target (V N D) -> one scalar, and one for each optional term. z_target receives no gradient unless
        `stop_gradient=False`.

    Raises
        ValueError where p or z_target (or the regularised field) is missing from Views.

    Reference
        Grill et al. 2020, arXiv 2006.07733, equation 2 and the symmetrisation below it.
    """

    reads = frozenset({"p", "z_target"})
    one_network = "its target network is an average of one network's weights"

    def __init__(self, config: BYOLConfig = BYOLConfig()) -> None:
        super().__init__(config)

    def forward(self, views: Views) -> dict[str, Tensor]:
        p, target = promote(views.read("p")), promote(views.read("z_target"))
        target = target.detach() if self.config.stop_gradient else target
        with without_autocast(p):
            similarity = between_views(p, target, self.config.normalise)
        return {"similarity": similarity, **regulariser_terms(views, self.config)}
