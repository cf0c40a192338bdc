"""The U-statistics of squared covariances off the diagonal, at little more than the plug-in's cost.

    sum over i != j of U_ij = k [(N-1)(N-2) sum S_ij^2 + (sum_j v_j)^2 - sum_j v_j^2 - N Q],  k = (N-1)/(N (N-2)(N-3)),
    Q = sum over i != j of Q_ij = 1/(N-1) sum_a (|y_a|^4 - sum_j y_aj^4),  dQ/dy_aj = 4/(N-1) y_aj (|y_a|^2 - y_aj^2)

all from `energies.py`. The gradient of Q has columns with a mean, which centring takes out. Equal to
`moments.unbiased_off_diagonal_sq_norm`, which has the source.
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from eigenview.errors import require
from eigenview.functional.fused.energies import statistics


def fused_unbiased_terms(
    z: Float[Tensor, "V N D"],
) -> tuple[Float[Tensor, ""], Float[Tensor, "V D"], Float[Tensor, " V"]]:
    """(invariance, variances, sum over i != j of U_ij of each view); differentiable once, under any weights.

    Invariance as `fused_vicreg_terms`; variances with N - 1; the last may be negative and is not clamped.

    Raises: UserError for fewer than 2 views or 4 samples, and where it is differentiated twice.
    """
    views, samples, width = z.shape
    require(views >= 2, "views", views, "2 or more", "One view has nothing to agree with.")
    require(samples >= 4, "samples in the batch", samples, "4 or more", "Use a larger batch.")
    scatter, variances, energies, fourth = statistics(z, with_fourth=True)
    invariance = scatter * (2 / (views - 1) / (samples * width))
    n = samples
    products = variances.sum(dim=1).square() - variances.square().sum(dim=1)
    unbiased = (n - 1) / (n * (n - 2) * (n - 3)) * ((n - 1) * (n - 2) * energies + products - n * fourth)
    return invariance, variances, unbiased
