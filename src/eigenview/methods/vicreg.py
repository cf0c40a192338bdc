"""VICReg: views agree, every dimension varies, no two dimensions repeat each other (Bardes et al. 2022)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from eigenview.diagnostics.remedies import SMALLER_RATE, norms_of_one_image
from eigenview.errors import require
from eigenview.functional.batch_moments import batch_moments
from eigenview.methods.parts import mean_view
from eigenview.methods.parts.building import Parts
from eigenview.methods.parts.joint_embedding import JointEmbedding
from eigenview.methods.parts.method import Objective
from eigenview.methods.parts.orthogonality import note, vicreg_weight
from eigenview.records import Card, Clock, MethodConfig, Needs, Remedy
from eigenview.views import Loss, Views


@dataclass(frozen=True, kw_only=True)
class VICRegConfig(MethodConfig):
    """Options of VICReg. A weight of 0 removes its term, which is how its collapses are shown."""

    card: ClassVar[Card] = Card(
        name="vicreg",
        title="VICReg",
        paper="Bardes et al. 2022, arXiv 2105.04906",
        summary="variance, invariance, covariance (Bardes et al. 2022)",
        remedies={
            "complete collapse": (
                Remedy(
                    "--method.variance 25, which asks every dimension to vary",
                    unless=lambda run: run.method.variance >= 25,
                ),
                SMALLER_RATE,
            ),
            "dimensional collapse": (
                Remedy(
                    "--method.covariance 1, which decorrelates the dimensions",
                    unless=lambda run: run.method.covariance == "auto" or run.method.covariance >= 1,
                ),
                "a larger --batch-size",
            ),
        },
        unit_deviation=True,
        plug_in_remedies=(
            *norms_of_one_image(
                "norms of one image ({}), with --method unbiased-vicreg if the mean gradient has to be that of a "
                "larger batch"
            ),
            Remedy("--method unbiased-vicreg if the mean gradient has to be that of a larger batch"),
        ),
    )

    invariance: float = 25.0
    """Weight of the distance between views (lambda)."""
    variance: float = 25.0
    """Weight of the hinge on each dimension's standard deviation (mu); 0 invites complete collapse."""
    covariance: float | Literal["auto"] = 1.0
    """Weight of the covariances between dimensions (nu); 0 invites dimensional collapse. auto: 10.5 times the
    invariance's weight over the embedding's width."""
    gamma: float = 1.0
    """Standard deviation above which a dimension is left alone."""
    eps: float = 1e-4
    """Added to the variance inside the square root, so that a constant dimension has a finite gradient."""
    multiview: Literal["pairs", "mean-view"] = "pairs"
    """With more than two views: pairs averages over pairs and views; mean-view is Ghosh et al.'s form, each view beside
    the mean of the others."""

    def __post_init__(self) -> None:
        for name, weight in (("invariance", self.invariance), ("variance", self.variance)):
            require(weight >= 0, f"method.{name}", weight, "0 or more")
        weight = self.covariance
        is_weight = weight == "auto" if isinstance(weight, str) else weight >= 0
        require(is_weight, "method.covariance", weight, "0 or more, or auto")
        require(self.gamma > 0, "method.gamma", self.gamma, "above 0")
        require(self.eps > 0, "method.eps", self.eps, "above 0")
        require(self.multiview in ("pairs", "mean-view"), "method.multiview", self.multiview, "pairs, mean-view")

    def covariance_weight(self, width: int | None) -> float:
        """nu for an embedding of this width."""
        if not isinstance(self.covariance, str):
            return self.covariance
        if width is None:
            raise ValueError("covariance 'auto' depends on the embedding's width: VICReg(config, width=D).")
        return vicreg_weight(width, self.invariance)

    @property
    def needs(self) -> Needs:
        return Needs(weight_note=self._weight_note)

    def _weight_note(self, width: int) -> str | None:
        return note("--method.covariance", self.covariance, vicreg_weight(width, self.invariance), width)

    def build(self, parts: Parts) -> JointEmbedding:
        return parts.joint_embedding(self.needs, lambda widths: VICReg(self, width=widths.z))


class VICReg(Objective):
    """Variance, invariance and covariance of unnormalised embeddings.

    Definition
        invariance = lambda (1/(N D)) sum_i |z_i - z_i'|^2,
        variance = mu (v(z) + v(z'))/2 with v(z) = (1/D) sum_j max(0, gamma - sqrt(Var(z_j) + eps)),
        covariance = nu (c(z) + c(z')) with c(z) = (1/D) sum over i != j of Cov(z)_ij^2; the loss is their sum.

    Normalisation
        Var and Cov divide by N - 1, N the global batch. Default, the authors' code: invariance is a mean over samples
        AND dimensions, the variance is averaged over the two views, the covariance is summed over them. The paper sums
        the invariance over dimensions (D times ours: `invariance=25 * D`) and the variance over views (twice ours:
        `variance=50`); solo-learn doubles only the variance. With more than two views invariance is
        the mean over all pairs (computed as the distance to the mean view, which costs V and equals it), variance the
        mean over views and covariance twice the mean over views: each regulariser concerns one view's distribution, so
        all terms keep their two-view size and the coefficients carry over. `multiview="mean-view"` is the form of Ghosh
        et al. (methods/parts/mean_view.py), the same for two views.

    Shapes
        z (V n D) -> three scalars. variance lies in [0, mu gamma]; covariance may fall below 0 by rounding.

    Cost
        Time V N D min(N, D); memory V N D + V min(N, D)^2.

    Raises
        UserError for a negative weight, gamma or eps not above 0, or fewer than 2 samples (no variance); ValueError for
        `covariance="auto"` without `width`.

    Reference
        Bardes, Ponce, LeCun 2022, arXiv 2105.04906, equations 1 to 6; code: facebookresearch/vicreg, main_vicreg.py,
        commit 4e12602.
    """

    def __init__(self, config: VICRegConfig = VICRegConfig(), *, width: int | None = None) -> None:
        super().__init__()
        self.config = config
        self.covariance = config.covariance_weight(width)
        self.moments = mean_view.batch_moments if config.multiview == "mean-view" else batch_moments

    def forward(self, views: Views, clock: Clock) -> Loss:
        z, c = views.read("z"), self.config
        m = self.moments(z, clock.processes)
        v = (c.gamma - (m.variances + c.eps).sqrt()).clamp_min(0.0).mean()
        return Loss(
            {
                "invariance": c.invariance * m.invariance,
                "variance": c.variance * v,
                "covariance": self.covariance * (2 * m.off_diagonal.mean() / z.shape[-1]),
            }
        )
