"""Covariance energies and VICReg's terms: by hand, with leading axes, and where a difference would lose the digits."""

from __future__ import annotations

import pytest
import torch

from eigenview.errors import UserError
from eigenview.functional import moments
from eigenview.functional.fused.energies import (
    fused_covariance_sq_norm,
    fused_off_diagonal_sq_norm,
    fused_regulariser_terms,
    fused_vicreg_terms,
)
from eigenview.methods import vicreg
from tests.draws import random, whitened


def test_two_equal_features_by_hand() -> None:
    """Rows (1, 1) and (-1, -1): every covariance is 2. d/dz of 2 c_12^2: 4 c_12 times the other feature's column."""
    z = torch.tensor([[1.0, 1.0], [-1.0, -1.0]], dtype=torch.float64, requires_grad=True)
    assert fused_covariance_sq_norm(z).item() == 16
    energy = fused_off_diagonal_sq_norm(z)
    assert energy.item() == 8
    assert torch.equal(torch.autograd.grad(energy, z)[0], 8 * z.detach())


def test_vicreg_of_constant_views() -> None:
    """formulas: 25 * 0.99 with gamma = 1 and eps = 1e-4, no gradient; and views one apart differ by 1 on average."""
    z = torch.zeros(2, 5, 7, dtype=torch.float64)
    invariance, variance, covariance = fused_vicreg_terms(z.requires_grad_(), 1.0, 1e-4)
    assert (invariance.item(), covariance.item()) == (0, 0)
    assert 25 * variance.item() == pytest.approx(24.75, rel=1e-12)
    apart = torch.stack([torch.zeros(5, 7), torch.ones(5, 7), torch.full((5, 7), 2.0)])
    # squared differences of the three pairs: 1, 1, 4
    assert fused_vicreg_terms(apart, 1.0, 1e-4)[0].item() == pytest.approx(2.0)


@pytest.mark.parametrize("leading", [(), (3,), (2, 3)])
@pytest.mark.parametrize("sides", [(4, 6), (6, 4)])
def test_leading_axes_and_one_weight_for_each(leading: tuple[int, ...], sides: tuple[int, int]) -> None:
    z = random(*leading, *sides).requires_grad_()
    weights = random(*leading, seed=1)
    for fused, plain in (
        (fused_covariance_sq_norm, moments.covariance_sq_norm),
        (fused_off_diagonal_sq_norm, moments.off_diagonal_sq_norm),
    ):
        assert fused(z).shape == leading
        torch.testing.assert_close(fused(z), plain(z), rtol=1e-12, atol=1e-12)
        found, expected = (torch.autograd.grad((weights * form(z)).sum(), z)[0] for form in (fused, plain))
        torch.testing.assert_close(found, expected, rtol=1e-11, atol=1e-12)


def test_one_view_has_a_regulariser() -> None:
    z = random(1, 6, 4)
    variance, covariance = fused_regulariser_terms(z, 1.0, 1e-4)
    expected = (1.0 - moments.standard_deviations(z, 1e-4)).clamp_min(0).mean()
    torch.testing.assert_close(variance, expected)
    torch.testing.assert_close(covariance, moments.off_diagonal_sq_norm(z)[0] / 4)


def test_nearly_decorrelated_features_keep_their_digits() -> None:
    """The off-diagonal energy is 1e-5 of the whole: as a difference in float32 it has two digits, ours five."""
    width = 64
    mix = torch.eye(width, dtype=torch.float64) + 3e-4 * random(width, width, seed=1)
    z = (whitened(512, width) @ mix).float()
    truth = moments.off_diagonal_sq_norm(z.double())
    assert 1e-6 < truth / moments.covariance_sq_norm(z.double()) < 1e-4
    assert (fused_off_diagonal_sq_norm(z) - truth).abs() < 1e-5 * truth
    assert (moments.off_diagonal_sq_norm(z) - truth).abs() > 1e-4 * truth
    x, exact = z.clone().requires_grad_(), z.double().requires_grad_()
    found = torch.autograd.grad(fused_off_diagonal_sq_norm(x), x)[0]
    expected = torch.autograd.grad(moments.off_diagonal_sq_norm(exact), exact)[0]
    assert (found - expected).norm() < 1e-4 * expected.norm()


def test_decorrelated_features_never_give_a_negative_energy() -> None:
    assert 0 <= fused_off_diagonal_sq_norm(whitened(512, 64).float()) < 1e-9


@pytest.mark.parametrize("sides", [(40, 90), (90, 40)])
def test_a_far_mean_costs_no_more_digits_than_in_the_plain_form(sides: tuple[int, int]) -> None:
    """Features of mean 1000 and standard deviation 1 in float32."""
    z = (random(2, *sides) + 1000).float()
    exact = z.double().requires_grad_()
    expected = torch.autograd.grad(moments.off_diagonal_sq_norm(exact).sum(), exact)[0]
    errors = []
    for form in (fused_off_diagonal_sq_norm, moments.off_diagonal_sq_norm):
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
    truth, found = vicreg.invariance(exact), fused_vicreg_terms(x, 1.0, 1e-4)[0]
    assert (found - truth).abs() < 1e-6 * truth
    expected = torch.autograd.grad(truth, exact)[0]
    assert (torch.autograd.grad(found, x)[0] - expected).norm() < 1e-6 * expected.norm()


def test_refusals() -> None:
    with pytest.raises(UserError, match="samples in the batch is 1; allowed: 2 or more"):
        fused_off_diagonal_sq_norm(torch.zeros(1, 4))
    with pytest.raises(UserError, match="views is 1; allowed: 2 or more"):
        fused_vicreg_terms(torch.zeros(1, 4, 4), 1.0, 1e-4)
