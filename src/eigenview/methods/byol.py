"""BYOL: predict the target network's embedding of another view (Grill et al. 2020)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from eigenview.diagnostics.remedies import SLOWER_TARGET, SMALLER_RATE, STOP_GRADIENT
from eigenview.methods.parts.building import Parts
from eigenview.methods.parts.joint_embedding import JointEmbedding
from eigenview.methods.parts.method import Objective
from eigenview.methods.parts.options import RegulariserConfig
from eigenview.methods.parts.regression import between_views
from eigenview.methods.parts.regulariser import regulariser_terms
from eigenview.records import Card, Clock, Needs, PredictorTheory, Remedy
from eigenview.views import Loss, Views


@dataclass(frozen=True, kw_only=True)
class BYOLConfig(RegulariserConfig):
    """Options of BYOL."""

    card: ClassVar[Card] = Card(
        name="byol",
        title="BYOL",
        paper="Grill et al. 2020, arXiv 2006.07733",
        summary="predictor and EMA target (Grill et al. 2020)",
        recipe={
            "network": {"projector_width": 256},
            # a predictor that lags behind its network lets all but a few directions die in the first epoch, and they
            # come back slowly (Tian et al. 2021: a larger alpha_p shrinks the basin of collapse; docs/log.md)
            "optim": {"lr_per_256": 4e-4, "predictor_lr_factor": 10.0},
        },
        remedies={
            "complete collapse": (STOP_GRADIENT, SLOWER_TARGET, SMALLER_RATE, "--method vicreg"),
            "dimensional collapse": (
                STOP_GRADIENT,
                Remedy("--network.projector-last-norm", unless=lambda run: run.network.projector_last_norm),
                "more --epochs",
                "--method vicreg or --method barlow-twins",
            ),
        },
        theory=PredictorTheory(computed=False),
    )

    normalise: bool = True
    """Whether directions are compared, 2 - 2 cosine; otherwise the squared Euclidean distance of the raw vectors."""
    stop_gradient: bool = True
    """Whether the target is held constant. Otherwise, if the target is the network itself (--network.target online),
    every image soon maps to one point; with an EMA target it makes no difference."""

    @property
    def needs(self) -> Needs:
        return Needs(
            reads=frozenset({"p", "z_target"}) | self.regularised,
            parts="no" if self.is_on else "exact",
            parts_why="the variance and covariance terms are those of the whole batch",
            one_network="its target network is an average of one network's weights",
            stop_gradient=self.stop_gradient,
        )

    def build(self, parts: Parts) -> JointEmbedding:
        return parts.joint_embedding(self.needs, lambda widths: BYOL(self))


class BYOL(Objective):
    """Distance from each view's prediction to the target network's embedding of every other view.

    Definition
        similarity = r(p, t') + r(p', t), r(p, t) = (1/N) sum_i (2 - 2 cos(p_i, t_i)), t the target without gradient.

    Normalisation
        Mean over samples, SUM over the two directions: in [0, 8]. Paper and code agree (luckmatters drops the constant
        4; fastssl divides by D and uses one direction). Four times SimSiam's loss plus a constant. With more than two
        views it is twice the mean over ordered pairs of different views, so the range and the gradient's size stay.

        Optional terms variance and covariance: VICReg's, summed over two views (methods/parts/regulariser.py).

    Shapes
        p (V n D) and z_target (T n D) -> one scalar, and one for each optional term. z_target receives no
        gradient unless `stop_gradient=False`.

    Cost
        Time V N D, without forming pairs; memory V N D.

    Raises
        ValueError where p or z_target (or the regularised field) is missing from Views.

    Reference
        Grill et al. 2020, arXiv 2006.07733, equation 2 and the symmetrisation below it.
    """

    def __init__(self, config: BYOLConfig = BYOLConfig()) -> None:
        super().__init__()
        self.config = config

    def forward(self, views: Views, clock: Clock) -> Loss:
        p, target = views.read("p"), views.read("z_target")
        target = target.detach() if self.config.stop_gradient else target
        similarity = between_views(p, target, views.pairs(), self.config.normalise)
        return Loss({"similarity": similarity} | regulariser_terms(views, self.config, clock))
