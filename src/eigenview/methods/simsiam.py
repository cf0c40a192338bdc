"""SimSiam: predict the other view's own embedding, held constant by a stop-gradient (Chen and He 2021)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from eigenview.diagnostics.remedies import SMALLER_RATE, STOP_GRADIENT
from eigenview.functional.similarity import cosine
from eigenview.functional.view_pairs import mean_cosine, weighted
from eigenview.methods.parts.building import Parts
from eigenview.methods.parts.joint_embedding import JointEmbedding
from eigenview.methods.parts.method import Objective
from eigenview.methods.parts.options import RegulariserConfig
from eigenview.methods.parts.regulariser import regulariser_terms
from eigenview.records import Card, Clock, Needs, PredictorTheory
from eigenview.views import Loss, Views


@dataclass(frozen=True, kw_only=True)
class SimSiamConfig(RegulariserConfig):
    """Options of SimSiam."""

    card: ClassVar[Card] = Card(
        name="simsiam",
        title="SimSiam",
        paper="Chen and He 2021, arXiv 2011.10566",
        summary="predictor and stop-gradient (Chen and He 2021)",
        augmentation="simsiam",
        recipe={
            "network": {"projector_width": 256, "projector_last_norm": True},
            "optim": {"lr_per_256": 4e-4, "predictor_lr_factor": 10.0},  # for the reason given on BYOL's card
        },
        remedies={
            "complete collapse": (
                STOP_GRADIENT,
                SMALLER_RATE,
                "--method vicreg",
            ),
            "dimensional collapse": (
                STOP_GRADIENT,
                "--method vicreg or --method barlow-twins",
            ),
        },
        theory=PredictorTheory(computed=False, time_scale=1),
    )

    stop_gradient: bool = True
    """Whether an embedding is held constant when it is the target; otherwise every image soon maps to one point."""

    @property
    def needs(self) -> Needs:
        return Needs(
            reads=frozenset({"p", "z"}) | self.regularised,
            parts="no" if self.is_on else "exact",
            parts_why="the variance and covariance terms are those of the whole batch",
            one_network="it compares a prediction with an embedding of the same network",
            stop_gradient=self.stop_gradient,
        )

    def build(self, parts: Parts) -> JointEmbedding:
        return parts.joint_embedding(self.needs, lambda widths: SimSiam(self))


def negative_cosine(p: Float[Tensor, "N D"], z: Float[Tensor, "N D"]) -> Float[Tensor, ""]:
    """Minus the mean over samples of the cosine between prediction and embedding, in [-1, 1]."""
    return -cosine(p, z).mean()


class SimSiam(Objective):
    """Minus the cosine between each view's prediction and every other view's embedding.

    Definition
        similarity = (1/2) n(p, sg z') + (1/2) n(p', sg z), n(p, z) = -(1/N) sum_i cos(p_i, z_i), sg the stop-gradient.

    Normalisation
        Mean over samples and directions: in [-1, 1], -1 where all agree (also after a collapse). Paper and code agree.
        With more than two views it is the mean over ordered pairs of different views: the range stays. Optional terms
        variance and covariance: VICReg's, summed over two views (methods/parts/regulariser.py).

    Shapes
        p and z (V n D) -> one scalar, and one for each optional term. z receives a gradient only with
        `stop_gradient=False`, or where it is regularised.

    Cost
        Time V N D, without forming pairs; memory V N D.

    Raises
        ValueError where p or z (or the regularised field) is missing from Views.

    Reference
        Chen and He 2021, arXiv 2011.10566, equations 1 to 4.
    """

    def __init__(self, config: SimSiamConfig = SimSiamConfig()) -> None:
        super().__init__()
        self.config = config

    def forward(self, views: Views, clock: Clock) -> Loss:
        p, z, pairs = views.read("p"), views.read("z"), views.pairs()
        z = z.detach() if self.config.stop_gradient else z
        similarity = -weighted(mean_cosine(p, z, pairs), pairs)
        return Loss({"similarity": similarity} | regulariser_terms(views, self.config, clock))
