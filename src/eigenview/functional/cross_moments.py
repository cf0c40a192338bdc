"""Cross-correlations of the views of a global batch: the statistics of Barlow Twins.

Provider: own rows and processes in, statistics of the global batch out, the same on every process. Hand-written
backward passes (`fused/cross_correlation.py`) and collectives (`sharded/cross_correlation.py`) are behind it.
"""

from __future__ import annotations

from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor

from eigenview.errors import require
from eigenview.functional.fused.cross_correlation import cross_correlations
from eigenview.functional.moments import pair_diagonals, standardised, unbiased_pair_off_diagonals
from eigenview.functional.sharded.cross_correlation import sharded_cross_correlations
from eigenview.functional.whole_batch import whole_batch
from eigenview.records import ALONE, Processes


class CrossMoments(NamedTuple):
    """Statistics of c = s^T s' / N for the P unordered pairs of views, s the standardised views."""

    diagonals: Float[Tensor, "P D"]
    """c_ii, between -1 and 1."""
    off_diagonal: Float[Tensor, ""]
    """Mean over pairs of sum over i != j of c_ij^2, or its unbiased estimate."""


def cross_moments(z: Float[Tensor, "V n D"], eps: float, processes: Processes = ALONE) -> CrossMoments:
    """Cross-correlations of standardised views, each view with its own mean and sqrt(biased variance + eps).

    Where Gram matrices are used (N below 3/4 (V-1) D) `off_diagonal` is a difference that rounding can bring below
    zero. Differentiable once. Memory: the gradient and one more tensor of the size of z, one view, and V strips of the
    smaller matrix. Several processes send the smaller of V N D and V (V-1) D^2 numbers, all in the forward pass.

    Raises: UserError for fewer than 2 views or samples, and where it is differentiated twice.
    """
    samples = z.shape[1] * processes.size
    require(len(z) >= 2, "views", len(z), "2 or more", "One view has nothing to be correlated with.")
    require(samples >= 2, "samples in the batch", samples, "2 or more", "Use a larger batch.")
    found = cross_correlations(z, eps) if processes.size == 1 else sharded_cross_correlations(z, eps, processes)
    return CrossMoments(*found)


def unbiased_cross_moments(z: Float[Tensor, "V n D"], eps: float, processes: Processes = ALONE) -> CrossMoments:
    """As `cross_moments`, with `off_diagonal` replaced by U-statistics of the squared cross-covariances of s, at the
    scale of c (which divides by N, not by N - 1).

    Its mean is 0 where the features of two views are independent, at any N. On several processes every process gathers
    the whole batch. Any derivative.

    Raises: UserError for fewer than 4 samples.
    """
    z = whole_batch(z, processes)
    require(z.shape[1] >= 4, "samples in the batch", z.shape[1], "4 or more", "Use a larger batch.")
    s = standardised(z, eps)
    off_diagonal = unbiased_pair_off_diagonals(s) * (1 - 1 / z.shape[1]) ** 2
    return CrossMoments(pair_diagonals(s), off_diagonal.mean())
