"""Every fused function beside its plain form, and what their rounding is to be measured by."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from eigenview.functional import moments, similarity
from eigenview.functional.fused.cross_correlation import fused_cross_correlation_terms
from eigenview.functional.fused.energies import (
    fused_covariance_sq_norm,
    fused_off_diagonal_sq_norm,
    fused_regulariser_terms,
    fused_vicreg_terms,
)
from eigenview.functional.fused.nt_xent import fused_nt_xent_terms
from eigenview.functional.fused.unbiased import fused_unbiased_terms
from eigenview.methods import vicreg
from eigenview.methods.barlow_twins import cross_correlation_terms

Terms = Callable[[Tensor], tuple[Tensor, ...]]


@dataclass(frozen=True)
class Case:
    """`sizes(z)` bounds each term before anything is subtracted in it: rounding is relative to that."""

    fused: Terms
    plain: Terms
    sizes: Terms
    least: int = 2
    """Samples it needs."""


def _whole(z: Tensor) -> Tensor:
    return moments.covariance_sq_norm(z)


def _plain_vicreg(z: Tensor, gamma: float, eps: float) -> tuple[Tensor, ...]:
    return vicreg.invariance(z), vicreg.variance(z, gamma, eps), vicreg.covariance(z)


def _vicreg_sizes(z: Tensor, gamma: float) -> tuple[Tensor, ...]:
    return vicreg.invariance(z), torch.tensor(gamma), _whole(z).mean() / z.shape[-1]


def _sums(*terms: Tensor) -> tuple[Tensor, ...]:
    return tuple(term.sum() for term in terms)


def _unbiased_size(z: Tensor) -> Tensor:
    """The largest of the sums that the U-statistic subtracts from each other, with its factor."""
    n = z.shape[1]
    fourth = moments.centred(z).square().sum(dim=-1).square().sum() / (n - 1)
    trace = moments.variances(z).sum(dim=-1).square().sum()
    return (n - 1) / (n * (n - 2) * (n - 3)) * ((n - 1) * (n - 2) * _whole(z).sum() + trace + n * fourth)


def _barlow_sizes(z: Tensor) -> tuple[Tensor, ...]:
    on, off = cross_correlation_terms(z)
    diagonal = moments.pair_diagonals(moments.standardised(z)).square().sum(dim=1).mean()
    return on + diagonal, off + diagonal


def _nt_xent_sizes(z: Tensor, temperature: float) -> tuple[Tensor, ...]:
    return torch.tensor(1 / temperature), torch.tensor(1 / temperature + 1)


GAMMA, EPS = 1.2, 1e-4
CASES: dict[str, Case] = {
    "covariance energy": Case(
        lambda z: (fused_covariance_sq_norm(z).sum(),), lambda z: (_whole(z).sum(),), lambda z: (_whole(z).sum(),)
    ),
    "off-diagonal energy": Case(
        lambda z: (fused_off_diagonal_sq_norm(z).sum(),),
        lambda z: (moments.off_diagonal_sq_norm(z).sum(),),
        lambda z: (_whole(z).sum(),),
    ),
    "regulariser": Case(
        lambda z: fused_regulariser_terms(z, GAMMA, EPS),
        lambda z: _plain_vicreg(z, GAMMA, EPS)[1:],
        lambda z: _vicreg_sizes(z, GAMMA)[1:],
    ),
    "vicreg": Case(
        lambda z: fused_vicreg_terms(z, GAMMA, EPS),
        lambda z: _plain_vicreg(z, GAMMA, EPS),
        lambda z: _vicreg_sizes(z, GAMMA),
    ),
    "unbiased": Case(
        lambda z: _sums(*fused_unbiased_terms(z)),
        lambda z: _sums(vicreg.invariance(z), moments.variances(z), moments.unbiased_off_diagonal_sq_norm(z)),
        lambda z: (vicreg.invariance(z), moments.variances(z).sum(), _unbiased_size(z)),
        least=4,
    ),
    "barlow twins": Case(fused_cross_correlation_terms, cross_correlation_terms, _barlow_sizes),
}
for _positives in ("outside", "inside"):
    for _temperature in (0.5, 0.1):
        CASES[f"nt-xent {_positives} {_temperature}"] = Case(
            partial(fused_nt_xent_terms, temperature=_temperature, positives=_positives),  # type: ignore[arg-type]
            partial(similarity.nt_xent_terms, temperature=_temperature, positives=_positives),  # type: ignore[arg-type]
            partial(_nt_xent_sizes, temperature=_temperature),
        )
