"""Every provider with a hand-written backward pass beside its plain form, and what bounds its rounding."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from torch import Tensor

from eigenview.functional import moments
from eigenview.functional.batch_moments import batch_moments, unbiased_batch_moments
from eigenview.functional.contrast import contrast
from eigenview.functional.cross_moments import cross_moments
from tests.functional import naive

Terms = Callable[[Tensor], tuple[Tensor, ...]]


@dataclass(frozen=True)
class Case:
    """`sizes(z)` bounds each term before anything is subtracted in it: rounding is relative to that."""

    fused: Terms
    plain: Terms
    sizes: Terms
    least: int = 2
    """Samples it needs."""


GAMMA, EPS = 1.2, 1e-4


def _whole(z: Tensor) -> Tensor:
    return moments.covariance_sq_norm(z)


def _covariance(z: Tensor) -> tuple[Tensor, ...]:
    """The whole squared norm: off the diagonal and on it."""
    m = batch_moments(z)
    return ((m.off_diagonal + m.variances.square().sum(dim=1)).sum(),)


def vicreg_terms(z: Tensor, gamma: float = GAMMA, eps: float = EPS) -> tuple[Tensor, ...]:
    """VICReg's (invariance, variance, covariance), without weights, from the provider."""
    m = batch_moments(z)
    return m.invariance, (gamma - (m.variances + eps).sqrt()).clamp_min(0.0).mean(), m.off_diagonal.mean() / z.shape[-1]


def _plain_vicreg(z: Tensor) -> tuple[Tensor, ...]:
    return naive.invariance(z), naive.variance(z, GAMMA, EPS), naive.covariance(z)


def _vicreg_sizes(z: Tensor) -> tuple[Tensor, ...]:
    return naive.invariance(z), torch.tensor(GAMMA), _whole(z).mean() / z.shape[-1]


def _sums(*terms: Tensor) -> tuple[Tensor, ...]:
    return tuple(term.sum() for term in terms)


def _unbiased_size(z: Tensor) -> Tensor:
    """The largest of the sums that the U-statistic subtracts from each other, with its factor."""
    n = z.shape[1]
    fourth = moments.centred(z).square().sum(dim=-1).square().sum() / (n - 1)
    trace = moments.variances(z).sum(dim=-1).square().sum()
    return (n - 1) / (n * (n - 2) * (n - 3)) * ((n - 1) * (n - 2) * _whole(z).sum() + trace + n * fourth)


def barlow_terms(z: Tensor, eps: float = 1e-5) -> tuple[Tensor, Tensor]:
    """Barlow Twins' (on_diagonal, off_diagonal), without weights, from the provider."""
    m = cross_moments(z, eps)
    return (m.diagonals - 1).square().sum(dim=1).mean(), m.off_diagonal


def _barlow_sizes(z: Tensor) -> tuple[Tensor, ...]:
    on, off = naive.cross_correlation_terms(z)
    diagonal = moments.pair_diagonals(moments.standardised(z)).square().sum(dim=1).mean()
    return on + diagonal, off + diagonal


def nt_xent_terms(
    z: Tensor, temperature: float, positives: Literal["outside", "inside"] = "outside"
) -> tuple[Tensor, Tensor]:
    """NT-Xent's (alignment, logsumexp) from the provider."""
    found = contrast(z, temperature, positives=positives)
    return -found.positive, found.log_denominator


def _nt_xent_sizes(z: Tensor, temperature: float) -> tuple[Tensor, ...]:
    return torch.tensor(1 / temperature), torch.tensor(1 / temperature + 1)


CASES: dict[str, Case] = {
    "covariance": Case(_covariance, lambda z: (_whole(z).sum(),), lambda z: (_whole(z).sum(),)),
    "off-diagonal": Case(
        lambda z: (batch_moments(z).off_diagonal.sum(),),
        lambda z: (moments.off_diagonal_sq_norm(z).sum(),),
        lambda z: (_whole(z).sum(),),
    ),
    "batch moments": Case(
        lambda z: _sums(*batch_moments(z)),
        lambda z: _sums(naive.invariance(z), moments.variances(z), moments.off_diagonal_sq_norm(z)),
        lambda z: _sums(naive.invariance(z), moments.variances(z), _whole(z)),
    ),
    "regulariser": Case(lambda z: vicreg_terms(z)[1:], lambda z: _plain_vicreg(z)[1:], lambda z: _vicreg_sizes(z)[1:]),
    "vicreg": Case(vicreg_terms, _plain_vicreg, _vicreg_sizes),
    "unbiased": Case(
        lambda z: _sums(*unbiased_batch_moments(z)),
        lambda z: _sums(naive.invariance(z), moments.variances(z), moments.unbiased_off_diagonal_sq_norm(z)),
        lambda z: (naive.invariance(z), moments.variances(z).sum(), _unbiased_size(z)),
        least=4,
    ),
    "barlow twins": Case(barlow_terms, naive.cross_correlation_terms, _barlow_sizes),
}
for _positives in ("outside", "inside"):
    for _temperature in (0.5, 0.1):
        CASES[f"nt-xent {_positives} {_temperature}"] = Case(
            partial(nt_xent_terms, temperature=_temperature, positives=_positives),  # type: ignore[arg-type]
            partial(naive.nt_xent_terms, temperature=_temperature, positives=_positives),  # type: ignore[arg-type]
            partial(_nt_xent_sizes, temperature=_temperature),
        )
KEEP_A_MATRIX = {"covariance", "off-diagonal", "batch moments", "regulariser", "vicreg", "unbiased"}
"""Cases that keep the smaller matrix for the backward pass."""
