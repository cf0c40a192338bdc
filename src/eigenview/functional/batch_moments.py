"""Second moments of a global batch: agreement of the views, variances, squared covariances.

Provider: own rows and processes in, statistics of the global batch out, the same on every process. Hand-written
backward passes (`fused/moments.py`) and collectives (`sharded/moments.py`) are behind it. Differentiable once.
"""

from __future__ import annotations

from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor

from eigenview.errors import require
from eigenview.functional.fused.moments import statistics
from eigenview.functional.sharded.moments import sharded_statistics
from eigenview.functional.whole_batch import whole_batch
from eigenview.records import ALONE, Processes


class BatchMoments(NamedTuple):
    """Statistics of V views of N samples in D dimensions."""

    invariance: Float[Tensor, ""]
    """Mean over pairs of views, samples and dimensions of the squared difference: 2 / (V - 1) times the mean over
    samples and dimensions of the squared distances to the mean view, summed over views. 0 for one view."""
    variances: Float[Tensor, "V D"]
    """Var(z_j) with N - 1, of each view."""
    off_diagonal: Float[Tensor, " V"]
    """sum over i != j of Cov(z)_ij^2, of each view, or its unbiased estimate."""


def batch_moments(z: Float[Tensor, "V n D"], processes: Processes = ALONE) -> BatchMoments:
    """Moments of the global batch, covariances with N - 1.

    For N < D `off_diagonal` is a difference, which rounding may bring below zero (relative 1e-7 of the whole squared
    norm in float32); otherwise it is a sum of squares. Nothing is clamped, so that the gradient stays exact.

    Time on one process: 1.6 to 2 times min(N, D) N D multiply-adds a view, forward and backward together. Memory:
    min(N, D)^2 numbers a view besides the gradient. On several processes it sends the smaller of V N D numbers and
    about 1.06 V D^2, all in the forward pass.

    Raises: UserError for fewer than 2 samples, and where it is differentiated twice.
    """
    samples, width = z.shape[1] * processes.size, z.shape[2]
    require(samples >= 2, "samples in the batch", samples, "2 or more", "Use a larger batch.")
    if processes.size == 1:
        scatter, variances, off_diagonal, _ = statistics(z)
    else:
        scatter, variances, off_diagonal = sharded_statistics(z, processes)
    return BatchMoments(scatter * (2 / max(1, len(z) - 1) / (samples * width)), variances, off_diagonal)


def unbiased_batch_moments(z: Float[Tensor, "V n D"], processes: Processes = ALONE) -> BatchMoments:
    """As `batch_moments`, with `off_diagonal` replaced by sum over i != j of U_ij, the U-statistic of Cov_ij^2.

    Its mean over batches of independent rows is that of the population covariances squared, at any N, where the plug-in
    is too large by about (tr C)^2 / (N - 1). It may be negative and is not clamped, which would bring a bias back:

        k [(N-1)(N-2) sum S_ij^2 + (sum_j v_j)^2 - sum_j v_j^2 - N Q],  k = (N-1)/(N (N-2)(N-3)), sums over i != j,
        Q = 1/(N-1) sum_a (|y_a|^4 - sum_j y_aj^4), y the centred rows.

    `moments.unbiased_covariance_sq_norm` has the derivation's source. On several processes every process gathers the
    whole batch.

    Raises: UserError for fewer than 4 samples, and where it is differentiated twice.
    """
    z = whole_batch(z, processes)
    n, width = z.shape[1:]
    require(n >= 4, "samples in the batch", n, "4 or more", "Use a larger batch.")
    scatter, variances, off_diagonal, fourth = statistics(z, with_fourth=True)
    products = variances.sum(dim=1).square() - variances.square().sum(dim=1)
    unbiased = (n - 1) / (n * (n - 2) * (n - 3)) * ((n - 1) * (n - 2) * off_diagonal + products - n * fourth)
    return BatchMoments(scatter * (2 / max(1, len(z) - 1) / (n * width)), variances, unbiased)
