"""VICReg: views agree, every dimension varies, no two dimensions repeat each other (Bardes et al. 2022)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from jaxtyping import Float
from torch import Tensor

from eigenview.errors import require
from eigenview.functional.fused.energies import fused_vicreg_terms
from eigenview.functional.moments import off_diagonal_sq_norm, standard_deviations
from eigenview.functional.sharded.energies import sharded_vicreg_terms
from eigenview.methods import mean_view
from eigenview.methods.base import Objective, promote, require_samples, without_autocast
from eigenview.methods.orthogonality import vicreg_rule
from eigenview.views import Views


@dataclass(frozen=True, kw_only=True)
class VICRegConfig:
    """Options of VICReg. A weight of 0 removes its term, which is how its collapses are shown."""

    invariance: float = 25.0
    """Weight of the distance between views (lambda)."""
    variance: float = 25.0
    """Weight of the hinge on each dimension's standard deviation (mu); 0 invites complete collapse."""
    covariance: float | Literal["auto"] = 1.0
    """Weight of the covariances between dimensions (nu); 0 invites dimensional collapse. auto: by the embedding's
    width, 10.5 times the invariance's weight over the width."""
    gamma: float = 1.0
    """Standard deviation above which a dimension is left alone."""
    eps: float = 1e-4
    """Added to the variance inside the square root, so that a constant dimension has a finite gradient."""
    multiview: Literal["pairs", "mean-view"] = "pairs"
    """With more than two views: pairs averages over pairs and views; mean-view is Ghosh et al.'s form, each view beside
    the mean of the others."""
    convention: Literal["code", "paper"] = "code"
    """code: invariance averaged over dimensions, variance averaged over views, as in the authors' program, for which
    25, 25, 1 were tuned; paper: invariance summed over dimensions, variance summed over views."""

    def __post_init__(self) -> None:
        for name, weight in (("invariance", self.invariance), ("variance", self.variance)):
            require(weight >= 0, f"objective.{name}", weight, "0 or more")
        weight = self.covariance
        is_weight = weight == "auto" if isinstance(weight, str) else weight >= 0
        require(is_weight, "objective.covariance", weight, "0 or more, or auto")
        require(self.gamma > 0, "objective.gamma", self.gamma, "above 0")
        require(self.eps > 0, "objective.eps", self.eps, "above 0")
        require(self.multiview in ("pairs", "mean-view"), "objective.multiview", self.multiview, "pairs, mean-view")
        require(self.convention in ("code", "paper"), "objective.convention", self.convention, "code, paper")


def invariance(z: Float[Tensor, "V N D"]) -> Float[Tensor, ""]:
    """Mean over pairs of views, samples and dimensions of the squared difference.

    By sum over a < b |z_a - z_b|^2 = V sum_a |z_a - mean|^2, the mean over V (V - 1) / 2 pairs is 2 / (V - 1) times the
    squared distance to the mean view: V subtractions instead of V (V - 1) / 2.
    """
    return (z - z.mean(dim=0)).square().sum(dim=0).mean() * (2 / (z.shape[0] - 1))


def variance(z: Float[Tensor, "V N D"], gamma: float, eps: float) -> Float[Tensor, ""]:
    """Mean over views and dimensions of max(0, gamma - sqrt(Var + eps)), Var with N - 1."""
    return (gamma - standard_deviations(z, eps)).clamp_min(0.0).mean()


def covariance(z: Float[Tensor, "V N D"]) -> Float[Tensor, ""]:
    """Mean over views of (1/D) times the sum of squared off-diagonal covariances."""
    return off_diagonal_sq_norm(z).mean() / z.shape[-1]


class VICReg(Objective):
    """Variance, invariance and covariance of unnormalised embeddings.

    Definition
        invariance = lambda (1/(N D)) sum_i |z_i - z_i'|^2,
        variance = mu (v(z) + v(z'))/2 with v(z) = (1/D) sum_j max(0, gamma - sqrt(Var(z_j) + eps)),
        covariance = nu (c(z) + c(z')) with c(z) = (1/D) sum over i != j of Cov(z)_ij^2; the loss is their sum.

    Normalisation
        Var and Cov divide by N - 1, N the global batch. Default, the authors' code: invariance is a mean over samples
        AND dimensions, the variance is averaged over the two views, the covariance is summed over them. The paper
        (`convention="paper"`) sums the invariance over dimensions (D times ours) and the variance over views (twice
        ours); solo-learn doubles only the variance, which is `variance=50` here. With more than two views invariance is
        the mean over all pairs (computed as the distance to the mean view, which costs V and equals it), variance the
        mean over views and covariance twice the mean over views: each regulariser speaks of one view's distribution, so
        all terms keep their two-view size and the coefficients carry over. `multiview="mean-view"` is the form of Ghosh
        et al. (methods/mean_view.py), the same for two views.

    Shapes
        z (V N D) -> three scalars. variance lies in [0, mu gamma], twice that with the paper's convention; covariance
        may fall below 0 by rounding.

    Raises
        UserError for a negative weight, gamma or eps not above 0, or fewer than 2 samples (no variance).

    Reference
        Bardes, Ponce, LeCun 2022, arXiv 2105.04906, equations 1 to 6; code: facebookresearch/vicreg, main_vicreg.py,
        commit 4e12602.
    """

    def __init__(self, config: VICRegConfig = VICRegConfig()) -> None:
        super().__init__()
        if isinstance(config.covariance, str):
            raise ValueError("covariance 'auto' depends on the width: VICReg.build(config, width=D, ...).")
        self.config = config
        self.weight = config.covariance
        self.takes_shards = config.multiview == "pairs"

    @classmethod
    def build(cls, config: VICRegConfig, *, representation: int, width: int, views: int) -> Objective:
        """With the weight that `auto` means at this width."""
        if config.covariance == "auto":
            config = replace(config, covariance=vicreg_rule(config, width))
        return cls(config)

    def forward(self, views: Views) -> dict[str, Tensor]:
        z, c = promote(views.read("z")), self.config
        require_samples(z, 2, views.processes)
        by_code = c.convention == "code"
        with without_autocast(z):
            if c.multiview == "mean-view":
                near, spread, shared = mean_view.regularised_terms(z, c.gamma, c.eps)
            elif views.processes is not None:
                near, spread, one_view = sharded_vicreg_terms(z, c.gamma, c.eps, views.processes)
                shared = 2 * one_view
            else:
                near, spread, one_view = fused_vicreg_terms(z, c.gamma, c.eps)
                shared = 2 * one_view
            return {
                "invariance": c.invariance * (1 if by_code else z.shape[-1]) * near,
                "variance": c.variance * (1 if by_code else 2) * spread,
                "covariance": self.weight * shared,
            }
