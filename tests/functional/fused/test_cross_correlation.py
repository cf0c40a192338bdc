"""Cross-correlations: both routes, a worked pair, limits, the unbiased form, refusals."""

from __future__ import annotations

import pytest
import torch

from eigenview.errors import UserError
from eigenview.functional.cross_moments import cross_moments, unbiased_cross_moments
from eigenview.functional.fused.cross_correlation import (
    gram_is_cheaper,
    off_diagonal_by_correlations,
    sq_norm_by_grams,
)
from eigenview.functional.moments import pair_diagonals, pair_sq_norms, standardised
from tests.draws import random, whitened
from tests.functional import naive
from tests.functional.fused.cases import barlow_terms


@pytest.mark.parametrize("shape", [(2, 6, 4), (2, 4, 6), (3, 5, 5), (4, 5, 7)])
def test_both_routes_give_the_same_energy_and_slope(shape: tuple[int, ...]) -> None:
    s = standardised(random(*shape)).requires_grad_()
    whole = pair_sq_norms(s).sum()
    diagonal = pair_diagonals(s).square().sum()
    slope = torch.full(shape, torch.nan, dtype=torch.float64)
    by_grams = sq_norm_by_grams(s.detach(), slope)
    torch.testing.assert_close(by_grams, whole.detach(), rtol=1e-12, atol=0)
    torch.testing.assert_close(slope, torch.autograd.grad(whole, s, retain_graph=True)[0], rtol=1e-11, atol=1e-12)
    slope = torch.full(shape, torch.nan, dtype=torch.float64)
    by_correlations = off_diagonal_by_correlations(s.detach(), slope)
    torch.testing.assert_close(by_correlations, (whole - diagonal).detach(), rtol=1e-11, atol=1e-12)
    torch.testing.assert_close(slope, torch.autograd.grad(whole - diagonal, s)[0], rtol=1e-11, atol=1e-12)


def test_equal_and_opposite_decorrelated_views() -> None:
    """c is the identity up to eps, and its negative: (c_ii - 1)^2 is 0 and 4, nothing is off the diagonal."""
    z = whitened(12, 5)
    on, off = barlow_terms(torch.stack([z, z]))
    assert on.item() == pytest.approx(5 * 1e-10, rel=1e-3)  # c_ii = 1 / (1 + 1e-5)
    assert abs(off.item()) < 1e-20
    on, off = barlow_terms(torch.stack([z, -z]))
    assert on.item() == pytest.approx(4 * 5, rel=1e-4)
    # of three views two agree and two pairs are opposite
    assert barlow_terms(torch.stack([z, z, -z]))[0].item() == pytest.approx(2 / 3 * 20, rel=1e-4)


def test_scale_and_shift_of_a_feature_change_nothing() -> None:
    z = random(2, 9, 4)
    moved = z * torch.tensor([2.0, 0.5, 3.0, 1.0], dtype=z.dtype) + 7
    torch.testing.assert_close(barlow_terms(z, 1e-12), barlow_terms(moved, 1e-12), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    ("views", "samples", "width", "grams"),
    [(2, 256, 2048, True), (2, 2048, 8192, True), (2, 768, 1024, False), (2, 767, 1024, True), (4, 2048, 1024, True)],
)
def test_the_route_is_the_cheaper_one(views: int, samples: int, width: int, grams: bool) -> None:
    """2 V N^2 D against 3 (V (V-1) / 2) N D^2."""
    assert gram_is_cheaper(views, samples, width) == grams
    cost = (2 * views * samples**2 * width, 3 * views * (views - 1) // 2 * samples * width**2)
    assert grams == (cost[0] < cost[1])


def test_refusals() -> None:
    with pytest.raises(UserError, match=r"views is 1.*2 or more"):
        cross_moments(torch.zeros(1, 4, 4), 1e-5)
    with pytest.raises(UserError, match=r"samples in the batch is 1.*2 or more"):
        cross_moments(torch.zeros(2, 1, 4), 1e-5)
    with pytest.raises(UserError, match=r"samples in the batch is 3.*4 or more"):
        unbiased_cross_moments(torch.zeros(2, 3, 4), 1e-5)


@pytest.mark.parametrize("shape", [(2, 6, 4), (2, 4, 9), (3, 5, 5)])
def test_the_statistics_by_loops(shape: tuple[int, ...]) -> None:
    z = random(*shape)
    found, loops = cross_moments(z, 1e-3), naive.entries(z, 1e-3)
    assert found.diagonals.flatten().tolist() == pytest.approx(loops["cross diagonals"], rel=1e-12)
    assert found.off_diagonal.item() == pytest.approx(*loops["cross off_diagonal"], rel=1e-12)


@pytest.mark.parametrize("shape", [(2, 6, 4), (2, 4, 9), (3, 5, 5)])
def test_the_unbiased_form(shape: tuple[int, ...]) -> None:
    """The same diagonals; off them U-statistics, and every derivative."""
    z = random(*shape).requires_grad_()
    found, plain = unbiased_cross_moments(z, 1e-3), naive.cross_correlation_terms(z, 1e-3, unbiased=True)[1]
    torch.testing.assert_close(found.diagonals, cross_moments(z, 1e-3).diagonals, rtol=1e-12, atol=1e-13)
    torch.testing.assert_close(found.off_diagonal, plain, rtol=1e-12, atol=1e-13)
    assert torch.autograd.gradgradcheck(lambda x: unbiased_cross_moments(x, 1e-3).off_diagonal, z)
