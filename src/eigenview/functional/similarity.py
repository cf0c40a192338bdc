"""Angles between embeddings: cosine, NT-Xent, InfoNCE, alignment and uniformity, correlations."""

from __future__ import annotations

from itertools import combinations

import torch
from jaxtyping import Float
from torch import Tensor

from eigenview.functional.fused.log_sum_exp import log_sum_exp
from eigenview.functional.moments import centred, in_range

SMALLEST_SQUARE = 1e-24
"""A row shorter than 1e-12 has no direction: it becomes zero and receives no gradient."""
STRIP = 512
"""Features whose correlations with all others are in memory at a time."""


def unit(x: Float[Tensor, "*batch D"]) -> Float[Tensor, "*batch D"]:
    """Rows over their Euclidean length; a row shorter than 1e-12 gives zeros, with zero gradient, and one whose squared
    length is beyond the dtype's range nan."""
    return x * inverse_length(x.square().sum(dim=-1, keepdim=True))


def inverse_length(square: Float[Tensor, "*batch 1"]) -> Float[Tensor, "*batch 1"]:
    """1 / sqrt(square) of squared lengths; 0 for a row that `unit` treats as zero, nan if the square has overflowed."""
    # clamping alone would send 1e12 times the gradient back to a zero row
    return torch.where(square <= SMALLEST_SQUARE, 0.0, in_range(square).clamp_min(SMALLEST_SQUARE).rsqrt())


def cosine(a: Float[Tensor, "*batch D"], b: Float[Tensor, "*batch D"]) -> Float[Tensor, "*batch"]:
    """Cosine of the angle between matching rows, in [-1, 1]; 0 where either is zero."""
    return (unit(a) * unit(b)).sum(dim=-1)


def info_nce(a: Float[Tensor, "N D"], b: Float[Tensor, "N D"], temperature: float) -> Float[Tensor, ""]:
    """Cross-entropy, in nats, of finding row i of `b` from row i of `a` among the N rows of `b`: the mean over i.

    The logits are the dot products over the temperature, of the rows as they come: give `unit` rows for cosines. This
    is one way; exchange a and b for the other. The N - 1 negatives are all rows of the other side. Equal rows: log N.
    The N x N logits exist a strip at a time. Differentiable once.
    """
    return (log_sum_exp(a, b, temperature) - (a * b).sum(dim=-1) / temperature).mean()


def half_sq_distances(z: Float[Tensor, "V N D"]) -> Float[Tensor, "V V N"]:
    """|z_ai - z_bi|^2 / 2 between the views of each sample, from products of deviations from the sample's mean view.

    Time V^2 N D, memory V N D + V^2 N. Exact up to rounding relative to the distances from the mean view.
    """
    y = (z - z.mean(dim=0)).unbind()
    half = [view.square().sum(dim=-1) / 2 for view in y]
    # a product keeps its two views for the backward pass, where a difference would keep itself
    products = {(a, b): (y[a] * y[b]).sum(dim=-1) for a, b in combinations(range(len(y)), 2)}
    zero = torch.zeros_like(half[0])
    rows = [
        torch.stack([zero if a == b else half[a] + half[b] - products[min(a, b), max(a, b)] for b in range(len(y))])
        for a in range(len(y))
    ]
    return torch.stack(rows)


def log_neighbours(z: Float[Tensor, "N D"], temperature: float) -> Float[Tensor, " N"]:
    """log sum over j != i of exp(-|z_i - z_j|^2 / (2 temperature)). The N x N distances exist a strip at a time;
    one of at most one strip is kept for the backward pass. Differentiable once.
    """
    y = centred(z)  # moves no distance, and the dot products lose no digits to a common mean
    half = y.square().sum(dim=-1) / (2 * temperature)
    return log_sum_exp(y, y, temperature, -half, skips_own=True, keeps=True) - half


def alignment(z: Float[Tensor, "V N D"]) -> Float[Tensor, ""]:
    """Mean squared distance between unit embeddings of the same image, over samples and pairs of views; in [0, 4].

    0: views agree. Independent directions: 2. Source: Wang and Isola 2020, arXiv 2005.10242, with exponent 2.
    """
    u = unit(z)
    views = z.shape[0]
    # the mean over pairs equals 2 / (V - 1) times the summed squared distance to the mean view
    return (u - u.mean(dim=0)).square().sum(dim=(0, 2)).mean() * (2 / (views - 1))


def uniformity(z: Float[Tensor, "N D"], t: float = 2.0) -> Float[Tensor, ""]:
    """log of the mean over pairs of samples of exp(-t |u_i - u_j|^2), u unit rows; in [-4t, 0].

    0: all samples in one point. Uniform on a sphere of high dimension: near -2t. Source: as `alignment`. N >= 2.
    """
    u = unit(z)
    squares = u.square().sum(dim=1)
    distances = (squares[:, None] + squares - 2 * u @ u.T).clamp_min(0.0)  # rounding can fall below zero
    pairs = torch.tensor(len(u) * (len(u) - 1), dtype=u.dtype, device=u.device)
    return (-t * distances).fill_diagonal_(-torch.inf).flatten().logsumexp(dim=0) - pairs.log()


def correlation(z: Float[Tensor, "N D"]) -> Float[Tensor, "D D"]:
    """Correlation matrix of the features; zeros in the row and column of a feature that does not vary.

    A feature counts as not varying when its centred length is within rounding of zero next to its own magnitude.
    """
    y = _unit_features(z)
    return y.T @ y


def _unit_features(z: Float[Tensor, "N D"]) -> Float[Tensor, "N D"]:
    """Centred columns of length 1, whose products are correlations; zeros for a feature that does not vary."""
    y = centred(z)
    length = y.square().sum(dim=0).sqrt()
    rounding = 4 * torch.finfo(z.dtype).eps * z.square().sum(dim=0).sqrt()
    return torch.where(length > rounding, y / length.clamp_min(torch.finfo(z.dtype).tiny), 0.0)


def off_diagonal_correlation(z: Float[Tensor, "N D"]) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """(mean absolute value, root mean square) of the correlations between different features, both in [0, 1].

    Features that do not vary count as uncorrelated, so look at the standard deviations beside these. D >= 2.
    Independent features have a root mean square near 1 / sqrt(N - 1). Of the D x D correlations, those on one side of
    the diagonal are computed, a strip at a time.
    """
    y, width = _unit_features(z), z.shape[1]
    absolute, square = z.new_zeros(()), z.new_zeros(())
    for first in range(0, width, STRIP):
        strip, after = y[:, first : first + STRIP], y[:, first + STRIP :]
        among = (strip.T @ strip).triu(diagonal=1)
        others = strip.T @ after
        absolute = absolute + among.abs().sum() + others.abs().sum()
        square = square + among.square().sum() + others.square().sum()
    pairs = width * (width - 1) / 2
    return absolute / pairs, (square / pairs).sqrt()


def unit_standard_deviation(z: Float[Tensor, "N D"]) -> Float[Tensor, ""]:
    """Unbiased standard deviation of the unit rows, averaged over features: 1/sqrt(D) at best, 0 in one point.

    Source: the collapse measure of Chen and He 2021, arXiv 2011.10566, section 4.1. N >= 2.
    """
    return unit(z).std(dim=0).mean()
