"""Plain forms of what the providers in `functional/` compute: the definitions in torch, with every derivative.

They hold whole matrices and let autograd differentiate, so they are slow and easy to check. Tests compare the providers
with them in float64. `entries` goes one step further: sums over single entries.
"""

from __future__ import annotations

from itertools import combinations, permutations
from typing import Literal

import torch
from torch import Tensor

from eigenview.functional import moments
from eigenview.functional.similarity import unit


def invariance(z: Tensor) -> Tensor:
    """Mean over pairs of views, samples and dimensions of the squared difference.

    By sum over a < b |z_a - z_b|^2 = V sum_a |z_a - mean|^2, the mean over V (V - 1) / 2 pairs is 2 / (V - 1) times the
    squared distance to the mean view.
    """
    return (z - z.mean(dim=0)).square().sum(dim=0).mean() * (2 / (z.shape[0] - 1))


def variance(z: Tensor, gamma: float, eps: float) -> Tensor:
    """Mean over views and dimensions of max(0, gamma - sqrt(Var + eps)), Var with N - 1."""
    return (gamma - moments.standard_deviations(z, eps)).clamp_min(0.0).mean()


def covariance(z: Tensor) -> Tensor:
    """Mean over views of (1/D) times the sum of squared off-diagonal covariances."""
    return moments.off_diagonal_sq_norm(z).mean() / z.shape[-1]


def cross_correlation_terms(z: Tensor, eps: float = 1e-5, *, unbiased: bool = False) -> tuple[Tensor, Tensor]:
    """(sum_i (c_ii - 1)^2, sum over i != j of c_ij^2), each averaged over the unordered pairs of views.

    c = s_a^T s_b / N of standardised views; swapping a and b transposes c and changes neither sum. The off-diagonal
    sum is that of all squares less those of the diagonal, through Gram matrices where they are smaller. `unbiased`
    takes the U-statistics of the squared cross-covariances of s, brought to the scale of c (which divides by N, not by
    N - 1).
    """
    s = moments.standardised(z, eps)
    diagonal = moments.pair_diagonals(s)
    if unbiased:
        off = moments.unbiased_pair_off_diagonals(s) * (1 - 1 / z.shape[1]) ** 2
    else:
        off = moments.pair_sq_norms(s) - diagonal.square().sum(dim=1)
    return (diagonal - 1).square().sum(dim=1).mean(), off.mean()


def nt_xent_terms(
    z: Tensor, temperature: float, positives: Literal["outside", "inside"] = "outside"
) -> tuple[Tensor, Tensor]:
    """The two parts of NT-Xent: (alignment, logsumexp); their sum is the loss.

    With S the cosines of all V N rows over the temperature, each row i has V - 1 positives (the same image in the other
    views) and a denominator over the V N - 1 rows other than itself. logsumexp is the mean over rows of the log of
    that denominator. alignment is minus the mean over rows of the mean over positives of S_ij (`outside`), or of the
    log of the sum over positives of exp S_ij (`inside`). Both are the same number for V = 2.
    """
    u = unit(z)
    rows = u.flatten(0, 1)
    # the cosines of each image's own views, (V V N); the diagonal pairs a view with itself and is not a positive
    own = torch.einsum("and,bnd->abn", u, u) / temperature
    itself = torch.eye(z.shape[0], dtype=torch.bool, device=z.device)[:, :, None]
    if positives == "outside":
        pull = -own.masked_fill(itself, 0.0).sum(dim=1).mean() / (z.shape[0] - 1)
    else:
        pull = -own.masked_fill(itself, -torch.inf).logsumexp(dim=1).mean()
    logits = (rows / temperature) @ rows.T
    return pull, logits.fill_diagonal_(-torch.inf).logsumexp(dim=1).mean()


def entries(z: Tensor, eps: float) -> dict[str, list[float]]:
    """The statistics of `batch_moments` and `cross_moments`, as sums over single entries of z (V N D)."""
    views, samples, width = z.shape
    pairs = list(combinations(range(views), 2))
    mean = z.sum(dim=1) / samples

    def cov(a: int, i: int, b: int, j: int) -> float:
        """Sum over samples of the product of two features' deviations."""
        return sum(float((z[a, n, i] - mean[a, i]) * (z[b, n, j] - mean[b, j])) for n in range(samples))

    def correlation(a: int, i: int, b: int, j: int) -> float:
        scales = [(cov(v, k, v, k) / samples + eps) ** 0.5 for v, k in ((a, i), (b, j))]
        return cov(a, i, b, j) / samples / (scales[0] * scales[1])

    squares = [float((z[a, n, i] - z[b, n, i]) ** 2) for a, b in pairs for n in range(samples) for i in range(width)]
    off = list(permutations(range(width), 2))
    return {
        "invariance": [sum(squares) / len(squares)],
        "variances": [cov(a, i, a, i) / (samples - 1) for a in range(views) for i in range(width)],
        "off_diagonal": [sum((cov(a, i, a, j) / (samples - 1)) ** 2 for i, j in off) for a in range(views)],
        "cross diagonals": [correlation(a, i, b, i) for a, b in pairs for i in range(width)],
        "cross off_diagonal": [sum(correlation(a, i, b, j) ** 2 for a, b in pairs for i, j in off) / len(pairs)],
    }
