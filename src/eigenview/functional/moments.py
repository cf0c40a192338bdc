"""Second moments of a batch and their squared norms, computed from the smaller of two equivalent matrices.

For centred rows Y (N D) the covariance Y^T Y / (N-1) is D x D and the Gram matrix Y Y^T / (N-1) is N x N; they share
their non-zero eigenvalues, so their squared Frobenius norms are equal. With a wide embedding the Gram matrix is the
cheap one. Off-diagonal squared norms subtract that of the diagonal, which the feature variances give: no mask, no copy.

Everything here computes in the dtype it is given; objectives promote half precision first.
"""

from __future__ import annotations

from itertools import combinations

import torch
from jaxtyping import Float
from torch import Tensor


def in_range(square: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """`square` with infinity replaced by nan; otherwise a division by infinity would give zeros without gradient and
    hide that the run has diverged. In float32 squares overflow beyond 3.4e38, for numbers beyond 1.8e19."""
    return torch.where(square == torch.inf, torch.nan, square)


def centred(z: Float[Tensor, "*views N D"]) -> Float[Tensor, "*views N D"]:
    """Each feature minus its mean over the samples."""
    return z - z.mean(dim=-2, keepdim=True)


def variances(z: Float[Tensor, "*views N D"]) -> Float[Tensor, "*views D"]:
    """Unbiased variance of each feature: sum of squared deviations over N - 1. Needs N >= 2."""
    return centred(z).square().sum(dim=-2) / (z.shape[-2] - 1)


def standard_deviations(z: Float[Tensor, "*views N D"], eps: float = 0.0) -> Float[Tensor, "*views D"]:
    """sqrt(variance + eps) of each feature; with eps = 0 the gradient of a constant feature is not finite."""
    return (variances(z) + eps).sqrt()


def standardised(z: Float[Tensor, "*views N D"], eps: float = 1e-5) -> Float[Tensor, "*views N D"]:
    """Features with mean 0 and variance 1: centred, over sqrt(biased variance + eps), as batch norm without affine.

    Statistics are separate for each leading index (view).
    """
    y = centred(z)
    return y / (in_range(y.square().mean(dim=-2, keepdim=True)) + eps).sqrt()


def covariance_sq_norm(z: Float[Tensor, "*views N D"]) -> Float[Tensor, "*views"]:
    """||Cov(z)||_F^2, the sum of all squared entries of the unbiased covariance. O(min(N, D) N D) operations."""
    y = centred(z) * (z.shape[-2] - 1) ** -0.5
    samples, width = y.shape[-2:]
    smaller = y @ y.mT if samples < width else y.mT @ y
    return smaller.square().sum(dim=(-2, -1))


def off_diagonal_sq_norm(z: Float[Tensor, "*views N D"]) -> Float[Tensor, "*views"]:
    """sum over i != j of Cov(z)_ij^2: `covariance_sq_norm` less the squared variances.

    A difference: for decorrelated features it can come out below zero by the rounding of the variances' energy
    (relative 1e-7 in float32). It is not clamped, so that the gradient stays exact.
    """
    return covariance_sq_norm(z) - variances(z).square().sum(dim=-1)


def unbiased_covariance_sq_norm(z: Float[Tensor, "*views N D"]) -> Float[Tensor, "*views"]:
    """sum over i, j of U_ij, U_ij the order-4 U-statistic of C_ij^2, C the population's covariance. Needs N >= 4.

    U_ij = (N-1) / (N (N-2) (N-3)) [(N-1)(N-2) S_ij^2 + S_ii S_jj - N Q_ij], S the unbiased covariance,
    Q_ij = sum_a y_ai^2 y_aj^2 / (N-1), y centred rows. Its mean over batches of independent rows is ||C||_F^2 exactly,
    for every law with fourth moments, where `covariance_sq_norm` is too large by about (tr C)^2 / (N - 1). It may be
    negative; clamping it would bring a bias back. O(min(N, D) N D) operations.
    """
    y = centred(z)
    samples = z.shape[-2]
    trace = y.square().sum(dim=(-2, -1)) / (samples - 1)
    fourth = y.square().sum(dim=-1).square().sum(dim=-1) / (samples - 1)
    return _order_four(covariance_sq_norm(z), trace.square(), fourth, samples)


def unbiased_squared_variances(z: Float[Tensor, "*views N D"]) -> Float[Tensor, "*views D"]:
    """U_jj of `unbiased_covariance_sq_norm`: its mean over batches is Var_j^2. Needs N >= 4; may be negative."""
    y = centred(z)
    samples = z.shape[-2]
    square = (y.square().sum(dim=-2) / (samples - 1)).square()
    fourth = y.square().square().sum(dim=-2) / (samples - 1)
    return _order_four(square, square, fourth, samples)


def unbiased_off_diagonal_sq_norm(z: Float[Tensor, "*views N D"]) -> Float[Tensor, "*views"]:
    """sum over i != j of U_ij: its mean over batches is that of C_ij^2, exactly. Needs N >= 4; may be negative."""
    return unbiased_covariance_sq_norm(z) - unbiased_squared_variances(z).sum(dim=-1)


def half_batch_sq_norm(z: Float[Tensor, "*views N D"]) -> Float[Tensor, "*views"]:
    """sum over i, j of S^A_ij S^B_ij, S^A and S^B the covariances of the first and the second half of the rows.

    Unbiased for ||C||_F^2 as `unbiased_covariance_sq_norm`, with more variance: it uses fewer pairs. Needs N >= 4.
    """
    half = z.shape[-2] // 2
    a, b = centred(z[..., :half, :]), centred(z[..., half:, :])
    scale = (a.shape[-2] - 1) * (b.shape[-2] - 1)
    # <A^T A, B^T B> = ||A B^T||_F^2
    if half < z.shape[-1]:
        return (a @ b.mT).square().sum(dim=(-2, -1)) / scale
    return ((a.mT @ a) * (b.mT @ b)).sum(dim=(-2, -1)) / scale


def _order_four(square: Tensor, product: Tensor, fourth: Tensor, samples: int) -> Tensor:
    n = samples
    return (n - 1) / (n * (n - 2) * (n - 3)) * ((n - 1) * (n - 2) * square + product - n * fourth)


def pair_diagonals(x: Float[Tensor, "V N D"]) -> Float[Tensor, "pairs D"]:
    """Diagonals of the cross-moments x_a^T x_b / N of every unordered pair of views a < b."""
    return torch.stack([(x[a] * x[b]).mean(dim=0) for a, b in combinations(range(x.shape[0]), 2)])


def pair_sq_norms(x: Float[Tensor, "V N D"]) -> Float[Tensor, " pairs"]:
    """||x_a^T x_b / N||_F^2 of every unordered pair of views a < b; x is used as it is, standardise it first.

    Uses ||A^T B||_F^2 = <A A^T, B B^T>: one Gram matrix per view serves all its pairs. Two N x N products replace one
    D x D, forward and backward, hence the choice of Grams below 2 N = D.
    """
    views, samples, width = x.shape
    pairs = list(combinations(range(views), 2))
    x = x * samples**-0.5
    if 2 * samples < width:
        grams = x @ x.mT
        return torch.stack([(grams[a] * grams[b]).sum() for a, b in pairs])
    return torch.stack([(x[a].mT @ x[b]).square().sum() for a, b in pairs])


def unbiased_pair_off_diagonals(x: Float[Tensor, "V N D"]) -> Float[Tensor, " pairs"]:
    """sum over i != j of U_ij for every unordered pair of views, U_ij as in `unbiased_covariance_sq_norm` but of the
    cross-covariance: its mean over batches is Cov(x_ai, x_bj)^2. x is centred already (`standardised`). Needs N >= 4.

    The same statistic as the unbiased HSIC of linear kernels (Song et al. 2012, JMLR 13, equation 5).
    """
    views, samples, _ = x.shape
    pairs = list(combinations(range(views), 2))
    squares = x.square() / (samples - 1)
    of_features, of_rows = squares.sum(dim=1), squares.sum(dim=2)  # (V D), (V N)
    scale, more = (samples / (samples - 1)) ** 2, samples - 1

    def products(u: Tensor) -> Tensor:
        # not u[[...]] * u[[...]]: lists of indices are copied to a GPU, which the host waits for
        return torch.stack([u[a] * u[b] for a, b in pairs])

    whole = _order_four(
        scale * pair_sq_norms(x),
        products(of_features.sum(dim=1)),
        more * products(of_rows).sum(dim=1),
        samples,
    )
    diagonal = _order_four(
        scale * pair_diagonals(x).square(),
        products(of_features),
        more * torch.stack([(squares[a] * squares[b]).sum(dim=0) for a, b in pairs]),
        samples,
    )
    return whole - diagonal.sum(dim=1)
