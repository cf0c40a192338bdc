"""VICReg's variance and covariance terms, attached to a siamese method (Bardes et al. 2022, section 5)."""

from __future__ import annotations

from torch import Tensor

from eigenview.functional.batch_moments import batch_moments
from eigenview.methods.parts.options import FIELD, RegulariserConfig
from eigenview.records import Clock
from eigenview.views import Views


def regulariser_terms(views: Views, config: RegulariserConfig, clock: Clock, eps: float = 1e-4) -> dict[str, Tensor]:
    """mu (v(x) + v(x')) and nu (c(x) + c(x')) of VICReg at the chosen site x; twice the mean over more views.

    v is the mean over dimensions of max(0, gamma - sqrt(Var + eps)), c the sum of squared off-diagonal covariances over
    D. The published ablation gives neither site nor coefficients: both are the caller's. No term if both weights are 0.
    """
    if not config.is_on:
        return {}
    x = views.read(FIELD[config.site])
    moments = batch_moments(x, clock.processes)
    hinge = (config.gamma - (moments.variances + eps).sqrt()).clamp_min(0.0)
    terms = {
        "variance": config.variance * 2 * hinge.mean(),
        "covariance": config.covariance * 2 * (moments.off_diagonal.mean() / x.shape[-1]),
    }
    weights = {"variance": config.variance, "covariance": config.covariance}
    return {name: term for name, term in terms.items() if weights[name] > 0}
