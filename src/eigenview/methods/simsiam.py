"""SimSiam: predict the other view's own embedding, held constant by a stop-gradient (Chen and He 2021)."""

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
class SimSiamConfig(RegulariserConfig):
    """Options of SimSiam."""

    stop_gradient: bool = True
    """Hold the embedding constant when it is the thing predicted. Off, every image soon maps to one point."""


def negative_cosine(p: Float[Tensor, "N D"], z: Float[Tensor, "N D"]) -> Float[Tensor, ""]:
    """Minus the mean over samples of the cosine between prediction and embedding, in [-1, 1]."""
    return -cosine(p, z).mean()


class SimSiam(RegularisedObjective):
    """Minus the cosine between each view's prediction and every other view's embedding.

    Definition
        similarity = (1/2) n(p, sg z') + (1/2) n(p', sg z), n(p, z) = -(1/N) sum_i cos(p_i, z_i), sg the stop-gradient.

    Normalisation
        Mean over samples and directions: in [-1, 1], -1 where all agree (also after a collapse). Paper and code agree.
        With more than two views it is the mean over ordered pairs of different views: the range stays. Optional terms
        variance and covariance: VICReg's, summed over two views (methods/regulariser.py).

    Shapes
        p and z (V N D) -> one scalar, and one for each optional term. z receives a gradient only with
        `stop_gradient=False`, or where it is regularised.

    Raises
        ValueError where p or z (or the regularised field) is missing from Views.

    Reference
        Chen and He 2021, arXiv 2011.10566, equations 1 to 4.
    """

    reads: frozenset[str] = frozenset({"p", "z"})

    one_network = "it compares a prediction with an embedding of the same network"

    def __init__(self, config: SimSiamConfig = SimSiamConfig()) -> None:
        super().__init__(config)

    def forward(self, views: Views) -> dict[str, Tensor]:
        p, z = promote(views.read("p")), promote(views.read("z"))
        z = z.detach() if self.config.stop_gradient else z
        with without_autocast(p):
            each = [negative_cosine(p[a], z[b]) for a, b in ordered_pairs(len(p), views.targets)]
            similarity = torch.stack(each).mean()
        return {"similarity": similarity, **regulariser_terms(views, self.config)}
