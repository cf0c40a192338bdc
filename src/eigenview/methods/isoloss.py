"""IsoLoss: the closed-form prediction's error, sent to the embedding past the predictor (Halvagal et al. 2023)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from jaxtyping import Float
from torch import Tensor

from eigenview.diagnostics.remedies import CLOSED_FORM
from eigenview.errors import require
from eigenview.methods.parts.building import Parts
from eigenview.methods.parts.closed_form import ClosedFormObjective, ClosedFormPredictor
from eigenview.methods.parts.joint_embedding import JointEmbedding
from eigenview.methods.parts.options import ClosedFormConfig
from eigenview.methods.parts.regression import between_views
from eigenview.records import Card, Clock, Needs, PredictorTheory
from eigenview.views import Loss, Views


@dataclass(frozen=True, kw_only=True)
class IsoLossConfig(ClosedFormConfig):
    """Options of IsoLoss, with its authors' defaults for runs with a target network."""

    card: ClassVar[Card] = Card(
        name="isoloss",
        title="IsoLoss",
        paper="Halvagal et al. 2023, arXiv 2212.04858",
        summary="closed-form predictor left out of the gradient (Halvagal et al. 2023)",
        recipe={"network": {"projector_width": 256}},
        remedies=CLOSED_FORM,
        theory=PredictorTheory(computed=True, in_gradient=False, eps_inside=True, floor=0.0),
    )

    cheaper: ClassVar[str] = "--method.alpha 1 needs none"

    metric: Literal["cosine", "euclidean"] = "cosine"
    """Compare directions, or squared Euclidean distances."""
    alpha: float = 0.5
    """Power of F: 1 copies it (DirectCopy), 0.5 takes its square root (DirectPred)."""
    rho: float = 0.998
    """Weight of the past in the running second moment. Without a target network: 0.5."""
    eps: float = 0.0
    """Added to the eigenvalues of the normalised F, before the power is taken."""
    floor: float = 0.0
    """Smallest value whose power is taken: eigenvalues of the normalised F plus eps."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.metric in ("cosine", "euclidean"), "method.metric", self.metric, "cosine, euclidean")
        require(
            self.refresh_every == 1,
            "method.refresh_every",
            self.refresh_every,
            "1: no gradient reaches W_p under IsoLoss, so it would stand still in between",
        )

    @property
    def needs(self) -> Needs:
        return Needs(
            reads=frozenset({"z", "z_target"}),
            parts="exact",
            one_network="its target network is an average of one network's weights",
            weight_note=self.decomposition_note,
        )

    def build(self, parts: Parts) -> JointEmbedding:
        return parts.joint_embedding(self.needs, lambda widths: IsoLoss(self, width=widths.z))


def straight_through(z: Float[Tensor, "V N D"], p: Float[Tensor, "V N D"]) -> Float[Tensor, "V N D"]:
    """p in value, z in gradient: z + sg(p - z)."""
    return z + (p - z).detach()


class IsoLoss(ClosedFormObjective):
    """BYOL's loss with a closed-form predictor whose matrix is left out of the gradient.

    Definition
        p = W_p z, t the other view's target. The loss of p and t is r(p, t) = (1/N) sum_i (2 - 2 cos(p_i, t_i)), or
        (1/N) sum_i |p_i - t_i|^2; the gradient that reaches z is dr/dp instead of W_p^T dr/dp. As a program: r of
        z + sg(p - z). similarity = r over (p, t') plus r over (p', t).

    Normalisation
        As BYOL: mean over samples, SUM over the two directions, twice the mean over ordered pairs for more views. The
        published program has the same gradients, and the same value for the Euclidean metric; its cosine value differs
        and cannot be compared between runs (methods/parts/isoloss_values.py). W_p: the authors move F view by view
        inside the step, from zero and in evaluation too; our order is DirectPred's.

    Shapes
        z (V n D) and z_target (T n D) -> one scalar. z_target and W_p receive no gradient through the loss.

    Cost
        Time V N D^2, for W_p z and F; memory V N D + D^2. The update: D^3 (an eigen-decomposition) at every
        step, unless alpha = 1.

    Raises
        UserError for alpha not above 0, rho outside [0, 1), a negative eps, an unknown metric, or
        `refresh_every` above 1 (no gradient reaches W_p); ValueError if z or z_target is missing or of another
        width; NonFiniteError if F overflows.

    Reference
        Halvagal, Laborieux, Zenke 2023, arXiv 2212.04858. Numbers: fmi-basel/implicit-var-reg, commit 2e8d364.
    """

    def __init__(
        self,
        config: IsoLossConfig = IsoLossConfig(),
        *,
        width: int | None = None,
        predictor: ClosedFormPredictor | None = None,
    ) -> None:
        if predictor is None:
            if width is None:
                raise ValueError("the predictor is a D x D matrix: IsoLoss(config, width=D).")
            # the identity is symmetric, as W_p always is
            predictor = ClosedFormPredictor(config, width, start="identity", eps_inside=True)
        super().__init__(predictor)
        self.config = config

    def forward(self, views: Views, clock: Clock) -> Loss:
        z, target = views.read("z"), views.read("z_target").detach()
        p = straight_through(z, self.predictor.predict(z))
        similarity = between_views(p, target, views.pairs(), self.config.metric == "cosine")
        return Loss({"similarity": similarity}, carry=self.predictor.moments(z))
