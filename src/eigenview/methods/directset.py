"""DirectSet(alpha): BYOL with a linear predictor that is set from the second moment of the embeddings.

Tian et al. 2021, Wang et al. 2021. DirectPred is its case alpha = 1/2, DirectCopy alpha = 1, which needs no
eigen-decomposition.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from eigenview.diagnostics.remedies import CLOSED_FORM
from eigenview.methods.parts.building import Parts
from eigenview.methods.parts.closed_form import ClosedFormObjective, ClosedFormPredictor
from eigenview.methods.parts.joint_embedding import JointEmbedding
from eigenview.methods.parts.options import DirectConfig
from eigenview.methods.parts.regression import between_views
from eigenview.records import Card, Clock, PredictorTheory
from eigenview.views import Loss, Views


@dataclass(frozen=True, kw_only=True)
class DirectSetConfig(DirectConfig):
    """Options of DirectSet; by default DirectCopy with its paper's eps and rho."""

    card: ClassVar[Card] = Card(
        name="directset",
        title="DirectSet",
        paper="Wang et al. 2021, arXiv 2110.04947",
        summary="predictor F^alpha, EMA target (Wang et al. 2021)",
        # as the method it is a variant of here; published: --augmentation simclr-small
        augmentation="simsiam",
        recipe={"network": {"projector_width": 128}},
        remedies=CLOSED_FORM,
        theory=PredictorTheory(computed=True),
    )

    def build(self, parts: Parts) -> JointEmbedding:
        return parts.joint_embedding(self.needs, lambda widths: DirectSet(self, width=widths.z))


class DirectSet(ClosedFormObjective):
    """Distance from each view's closed-form prediction W_p z to the target network's embedding of every other view.

    Definition
        similarity = r(W_p z, t') + r(W_p z', t), r(p, t) = (1/N) sum_i (2 - 2 cos(p_i, t_i)), t without gradient.
        F <- rho F + (1 - rho) (1/(2N)) sum over both views of z z^T, the first F being the first batch's;
        F = U diag(s) U^T, W_p = U diag(p) U^T, p_j = max((s_j / max s)^alpha + eps, floor).

    Normalisation
        As BYOL: mean over samples, SUM over the two directions; twice the mean over ordered pairs for more views. F is
        the raw second moment of projector outputs, neither centred nor of unit vectors, over all views. The paper
        prints p_j = sqrt(s_j) + eps max s: up to scale the same with another eps; ours is the authors' code (spectral
        norm; luckmatters), whose loss also drops the constant 4. Its DirectCopy without normalisation is
        `ClosedFormPredictor(normalise_by="none")`. A batch's loss uses the W_p of the batches before it: gradient step
        (on W_p too if `refresh_every` is above 1), then F and W_p, then the target. `rho` weights the past.

    Shapes
        z (V n D) and z_target (T n D) -> one scalar. z_target never receives a gradient, nor does F.

    Cost
        Time V N D^2, for W_p z and F; memory V N D + D^2. The update: D^2 for alpha = 1, else D^3 (an
        eigen-decomposition) at each computation of W_p.

    Raises
        UserError for alpha not above 0, rho outside [0, 1), a negative eps; ValueError if z or z_target is missing
        or of another width; NonFiniteError if F overflows.

    Reference
        Tian, Chen, Ganguli 2021, arXiv 2102.06810, section 4 (DirectPred); Wang, Chen, Du, Tian 2021, arXiv 2110.04947
        (DirectSet, DirectCopy). Numbers: facebookresearch/luckmatters, commit 625b5f7; no line of it is used.
    """

    def __init__(
        self,
        config: DirectConfig = DirectSetConfig(),
        *,
        width: int | None = None,
        predictor: ClosedFormPredictor | None = None,
    ) -> None:
        if predictor is None:
            if width is None:
                raise ValueError("the predictor is a D x D matrix: DirectSet(config, width=D).")
            predictor = ClosedFormPredictor(config, width)
        super().__init__(predictor)
        self.config = config

    def forward(self, views: Views, clock: Clock) -> Loss:
        z, target = views.read("z"), views.read("z_target").detach()
        similarity = between_views(self.predictor.predict(z), target, views.pairs(), self.config.normalise)
        return Loss({"similarity": similarity}, carry=self.predictor.moments(z))
