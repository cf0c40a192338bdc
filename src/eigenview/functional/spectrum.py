"""Measures of a spectrum: how many directions an embedding uses, and how fast its eigenvalues decay.

Spectra are descending and non-negative. A spectrum of zeros (all samples in one point) counts as one direction.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from eigenview.functional.moments import centred


def singular_values(z: Float[Tensor, "N D"]) -> Float[Tensor, " K"]:
    """Singular values of z as it is, descending, K = min(N, D) of them."""
    # LAPACK takes ten times as long for a wide matrix (512 x 8,192) as for the same one transposed
    return torch.linalg.svdvals(z if z.shape[0] >= z.shape[1] else z.T)  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]


def covariance_eigenvalues(z: Float[Tensor, "N D"]) -> Float[Tensor, " K"]:
    """Eigenvalues of the unbiased covariance, descending, K = min(N, D) of them; the rest are zero. N >= 2.

    Squared singular values of the centred matrix: small ones keep their digits, unlike those of a formed covariance.
    """
    return singular_values(centred(z)).square() / (z.shape[0] - 1)


def effective_rank(spectrum: Float[Tensor, " K"], eps: float = 0.0) -> Float[Tensor, ""]:
    """exp(-sum p log p) for p = spectrum / its sum + eps: between 1 and K (with eps > 0 it may exceed K slightly).

    Source: Roy and Vetterli 2007, for singular values and eps = 0.
    """
    p = spectrum / spectrum.sum().clamp_min(torch.finfo(spectrum.dtype).tiny) + eps
    return (-torch.xlogy(p, p).sum()).exp()


def rankme(z: Float[Tensor, "N D"], eps: float = 1e-7, centre: bool = False) -> Float[Tensor, ""]:
    """RankMe: effective rank of the singular values of z, between 1 and min(N, D).

    The published measure does not centre, so a large common mean lowers it; `centre=True` removes that mean.
    Normalisation: eps is added after dividing by the sum (1e-7 in the paper, 1e-5 in some code), p is not rescaled.
    Source: Garrido et al. 2023, arXiv 2210.02885, equation 1.
    """
    return effective_rank(singular_values(centred(z) if centre else z), eps)


def participation_ratio(spectrum: Float[Tensor, " K"]) -> Float[Tensor, ""]:
    """(sum s)^2 / sum s^2, between 1 and K: the number of equal eigenvalues that would give the same ratio."""
    p = spectrum / spectrum.sum().clamp_min(torch.finfo(spectrum.dtype).tiny)
    # the sum of p is 1, or 0 for a spectrum of zeros, which counts as one direction
    return torch.where(p.sum() > 0, 1 / p.square().sum().clamp_min(torch.finfo(p.dtype).tiny), 1.0)


class PowerLaw(NamedTuple):
    """spectrum_k = exp(intercept) * k^-alpha at rank k = 1, 2, ..."""

    alpha: float
    intercept: float


def power_law(spectrum: Float[Tensor, " K"], first: int = 4, last: int = 50, weighted: bool = True) -> PowerLaw:
    """alpha-ReQ: the power law fitted to ranks first..last (one-based, both included) of a covariance spectrum.

    Least squares of log eigenvalue on log rank with weights 1/rank, or without weights. Scaling the spectrum changes
    the intercept only. Ranks past the end, and eigenvalues that are rounding noise, are left out; both numbers are nan
    where fewer than two ranks remain. Source: Agrawal et al. 2022 (alpha-ReQ); ranks 4 to 50 as fastssl tracks it.
    """
    ranks, logs = _log_spectrum(spectrum, first, last)
    if len(ranks) < 2:
        return PowerLaw(torch.nan, torch.nan)
    x = ranks.log()
    w = 1 / ranks if weighted else torch.ones_like(ranks)
    w = w / w.sum()
    x_mean, y_mean = (w * x).sum(), (w * logs).sum()
    slope = (w * (x - x_mean) * (logs - y_mean)).sum() / (w * (x - x_mean).square()).sum()
    return PowerLaw(-slope.item(), (y_mean - slope * x_mean).item())


def power_law_r2(spectrum: Float[Tensor, " K"], law: PowerLaw, first: int = 4, last: int = 50) -> float:
    """Share of the variance of the log eigenvalues of ranks first..last that `law` explains; at most 1.

    The ranks need not be those of the fit: fastssl reports it from two ranks after the fit's start to the 500th, or
    to ten before the end. nan where fewer than two ranks remain.
    """
    ranks, logs = _log_spectrum(spectrum, first, last)
    if len(ranks) < 2:
        return torch.nan
    residual = logs - (law.intercept - law.alpha * ranks.log())
    return 1 - (residual.square().sum() / (logs - logs.mean()).square().sum()).item()


def _log_spectrum(spectrum: Tensor, first: int, last: int) -> tuple[Tensor, Tensor]:
    """Ranks first..last and their log eigenvalues in float64, without eigenvalues that are rounding noise."""
    values = spectrum.detach().cpu().double()  # a handful of numbers; not every device has float64
    # singular values are known to eps times the largest; eigenvalues are their squares
    noise = values[:1] * (torch.finfo(spectrum.dtype).eps * len(values)) ** 2
    ranks = torch.arange(1, len(values) + 1, dtype=torch.float64, device=values.device)
    kept = (ranks >= first) & (ranks <= last) & (values > noise)
    return ranks[kept], values[kept].log()
