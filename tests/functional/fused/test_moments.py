"""Moments of a batch: by hand, by loops, for any number of views, and where a difference would lose the digits."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from eigenview.errors import UserError
from eigenview.functional import moments
from eigenview.functional.batch_moments import batch_moments, unbiased_batch_moments
from tests.draws import random, whitened
from tests.functional import naive
from tests.functional.fused.cases import vicreg_terms


def off_diagonal(z: Tensor) -> Tensor:
    """Of each view (V N D)."""
    return batch_moments(z).off_diagonal


def covariance_sq_norm(z: Tensor) -> Tensor:
    """||Cov||_F^2 of each view (V N D)."""
    m = batch_moments(z)
    return m.off_diagonal + m.variances.square().sum(dim=1)


@pytest.mark.parametrize("shape", [(2, 6, 4), (2, 4, 6), (3, 5, 5)])
def test_the_statistics_by_loops(shape: tuple[int, ...]) -> None:
    z = random(*shape)
    found, loops = batch_moments(z), naive.entries(z, 0.0)
    assert found.invariance.item() == pytest.approx(*loops["invariance"], rel=1e-12)
    assert found.variances.flatten().tolist() == pytest.approx(loops["variances"], rel=1e-12)
    assert found.off_diagonal.tolist() == pytest.approx(loops["off_diagonal"], rel=1e-12)
    unbiased = unbiased_batch_moments(z)
    assert torch.equal(unbiased.invariance, found.invariance)
    torch.testing.assert_close(unbiased.variances, found.variances, rtol=1e-13, atol=0)
    expected = moments.unbiased_off_diagonal_sq_norm(z)
    torch.testing.assert_close(unbiased.off_diagonal, expected, rtol=1e-11, atol=1e-12)


def test_two_equal_features_by_hand() -> None:
    """Rows (1, 1) and (-1, -1): every covariance is 2. d/dz of 2 c_12^2: 4 c_12 times the other feature's column."""
    z = torch.tensor([[[1.0, 1.0], [-1.0, -1.0]]], dtype=torch.float64, requires_grad=True)
    assert covariance_sq_norm(z).item() == 16
    energy = off_diagonal(z)
    assert energy.item() == 8
    assert torch.equal(torch.autograd.grad(energy.sum(), z)[0], 8 * z.detach())


def test_vicreg_of_constant_views() -> None:
    """formulas: 25 * 0.99 with gamma = 1 and eps = 1e-4, no gradient; and views one apart differ by 1 on average."""
    z = torch.zeros(2, 5, 7, dtype=torch.float64)
    invariance, variance, covariance = vicreg_terms(z.requires_grad_(), 1.0, 1e-4)
    assert (invariance.item(), covariance.item()) == (0, 0)
    assert 25 * variance.item() == pytest.approx(24.75, rel=1e-12)
    apart = torch.stack([torch.zeros(5, 7), torch.ones(5, 7), torch.full((5, 7), 2.0)])
    # squared differences of the three pairs: 1, 1, 4
    assert vicreg_terms(apart, 1.0, 1e-4)[0].item() == pytest.approx(2.0)


@pytest.mark.parametrize("views", [1, 3, 6])
@pytest.mark.parametrize("sides", [(4, 6), (6, 4)])
def test_any_number_of_views_and_one_weight_for_each(views: int, sides: tuple[int, int]) -> None:
    z = random(views, *sides).requires_grad_()
    weights = random(views, seed=1)
    for fused, plain in (
        (covariance_sq_norm, moments.covariance_sq_norm),
        (off_diagonal, moments.off_diagonal_sq_norm),
    ):
        assert fused(z).shape == (views,)
        torch.testing.assert_close(fused(z), plain(z), rtol=1e-12, atol=1e-12)
        found, expected = (torch.autograd.grad((weights * form(z)).sum(), z)[0] for form in (fused, plain))
        torch.testing.assert_close(found, expected, rtol=1e-11, atol=1e-12)


def test_one_view_has_moments_and_agrees_with_itself() -> None:
    z = random(1, 6, 4).requires_grad_()
    invariance, variance, covariance = vicreg_terms(z, 1.0, 1e-4)
    expected = (1.0 - moments.standard_deviations(z, 1e-4)).clamp_min(0).mean()
    torch.testing.assert_close(variance, expected)
    torch.testing.assert_close(covariance, moments.off_diagonal_sq_norm(z)[0] / 4)
    assert invariance == 0
    torch.testing.assert_close(
        torch.autograd.grad(variance, z, retain_graph=True)[0], torch.autograd.grad(expected, z)[0]
    )
    assert (torch.autograd.grad(invariance, z)[0] == 0).all()


def test_nearly_decorrelated_features_keep_their_digits() -> None:
    """The off-diagonal squares are 1e-5 of the whole: as a difference in float32 they have two digits, ours five."""
    width = 64
    mix = torch.eye(width, dtype=torch.float64) + 3e-4 * random(width, width, seed=1)
    z = (whitened(512, width) @ mix).float()[None]
    truth = moments.off_diagonal_sq_norm(z.double()).sum()
    assert 1e-6 < truth / moments.covariance_sq_norm(z.double()).sum() < 1e-4
    assert (off_diagonal(z).sum() - truth).abs() < 1e-5 * truth
    assert (moments.off_diagonal_sq_norm(z).sum() - truth).abs() > 1e-4 * truth
    x, exact = z.clone().requires_grad_(), z.double().requires_grad_()
    found = torch.autograd.grad(off_diagonal(x).sum(), x)[0]
    expected = torch.autograd.grad(moments.off_diagonal_sq_norm(exact).sum(), exact)[0]
    assert (found - expected).norm() < 1e-4 * expected.norm()


def test_decorrelated_features_never_give_a_negative_sum() -> None:
    assert 0 <= off_diagonal(whitened(512, 64).float()[None]) < 1e-9


@pytest.mark.parametrize("sides", [(40, 90), (90, 40)])
def test_a_far_mean_costs_no_more_digits_than_in_the_plain_form(sides: tuple[int, int]) -> None:
    """Features of mean 1000 and standard deviation 1 in float32."""
    z = (random(2, *sides) + 1000).float()
    exact = z.double().requires_grad_()
    expected = torch.autograd.grad(moments.off_diagonal_sq_norm(exact).sum(), exact)[0]
    errors = []
    for form in (off_diagonal, moments.off_diagonal_sq_norm):
        x = z.clone().requires_grad_()
        errors.append((torch.autograd.grad(form(x).sum(), x)[0] - expected).norm() / expected.norm())
    assert errors[0] < 2 * errors[1]
    assert errors[0] < 1e-3


@pytest.mark.parametrize("views", [2, 3, 5])
@pytest.mark.parametrize("sides", [(40, 90), (90, 40)])
def test_invariance_keeps_its_digits_where_views_are_close(views: int, sides: tuple[int, int]) -> None:
    """Float32 features near 1000 whose views differ by 0.1: the mean over views is rounded to 1e-4."""
    z = (random(1, *sides) + 0.1 * random(views, *sides, seed=1) + 1000).float()
    exact, x = z.double().requires_grad_(), z.clone().requires_grad_()
    truth, found = naive.invariance(exact), batch_moments(x).invariance
    assert (found - truth).abs() < 1e-6 * truth
    expected = torch.autograd.grad(truth, exact)[0]
    assert (torch.autograd.grad(found, x)[0] - expected).norm() < 1e-6 * expected.norm()


def test_too_few_samples_are_refused() -> None:
    with pytest.raises(UserError, match=r"samples in the batch is 1.*2 or more"):
        batch_moments(torch.zeros(2, 1, 4))
    with pytest.raises(UserError, match=r"samples in the batch is 3.*4 or more"):
        unbiased_batch_moments(torch.zeros(2, 3, 4))
