"""U-statistics of squared covariances: exact enumeration, brute force over 4-tuples, Monte Carlo, gradients."""

from __future__ import annotations

import math
from itertools import permutations, product

import pytest
import torch
from torch import Tensor

from eigenview.functional.moments import (
    centred,
    covariance_sq_norm,
    half_batch_sq_norm,
    unbiased_covariance_sq_norm,
    unbiased_off_diagonal_sq_norm,
    unbiased_pair_off_diagonals,
    unbiased_squared_variances,
    variances,
)

# a three-point law in two dimensions
VALUES = torch.tensor([[0.0, 1.0], [2.0, -1.0], [-1.0, 0.5]], dtype=torch.float64)
PROBABILITIES = torch.tensor([0.2, 0.3, 0.5], dtype=torch.float64)
SQUARES = {"C_11^2": 2.8561, "C_12^2": 0.748225, "C_22^2": 0.36300625}


def every_batch(n: int) -> tuple[Tensor, Tensor]:
    """All 3^n batches of the law, and their probabilities."""
    index = torch.tensor(list(product(range(3), repeat=n)))
    return VALUES[index], PROBABILITIES[index].prod(dim=1)


@pytest.mark.parametrize("n", [4, 5, 6])
def test_the_mean_over_all_batches_is_the_population(n: int) -> None:
    batches, weights = every_batch(n)
    off = 2 * SQUARES["C_12^2"]
    assert (weights @ unbiased_off_diagonal_sq_norm(batches)).item() == pytest.approx(off, rel=1e-13)
    whole = off + SQUARES["C_11^2"] + SQUARES["C_22^2"]
    assert (weights @ unbiased_covariance_sq_norm(batches)).item() == pytest.approx(whole, rel=1e-13)
    squared = weights @ unbiased_squared_variances(batches)
    assert squared.tolist() == pytest.approx([SQUARES["C_11^2"], SQUARES["C_22^2"]], rel=1e-13)
    assert (weights @ half_batch_sq_norm(batches)).item() == pytest.approx(whole, rel=1e-13)


@pytest.mark.parametrize(("n", "plug_in"), [(4, 1.0853291667), (5, 0.9884675)])
def test_the_plug_in_is_biased_by_the_known_amount(n: int, plug_in: float) -> None:
    batches, weights = every_batch(n)
    off = covariance_sq_norm(batches) - variances(batches).square().sum(dim=-1)
    assert (weights @ off).item() / 2 == pytest.approx(plug_in, rel=1e-9)


@pytest.mark.parametrize(("n", "d"), [(4, 2), (4, 7), (6, 3), (7, 9)])
def test_equal_to_brute_force_over_four_tuples(n: int, d: int) -> None:
    z = torch.randn(n, d, generator=torch.Generator().manual_seed(n * d), dtype=torch.float64) + 3
    tuples = torch.tensor(list(permutations(range(n), 4)))
    x, y = z[tuples[:, 0]] - z[tuples[:, 1]], z[tuples[:, 2]] - z[tuples[:, 3]]
    U = torch.einsum("ti,tj,ti,tj->ij", x, x, y, y) / (4 * len(tuples))
    torch.testing.assert_close(unbiased_covariance_sq_norm(z), U.sum(), rtol=1e-10, atol=0)
    torch.testing.assert_close(unbiased_squared_variances(z), U.diagonal(), rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(unbiased_off_diagonal_sq_norm(z), U.sum() - U.trace(), rtol=1e-9, atol=1e-11)


def draw(law: str, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Independent coordinates of variance 1: skewed, heavy-tailed (moments up to the eighth exist), or Gaussian."""
    normal = torch.randn(shape, generator=generator, dtype=torch.float64)
    if law == "skewed":  # log-normal with sigma 1/2, standardised
        mean, std = math.exp(0.125), math.sqrt((math.exp(0.25) - 1) * math.exp(0.25))
        return ((0.5 * normal).exp() - mean) / std
    if law == "heavy-tailed":  # Student's t with 12 degrees of freedom
        square = torch.randn((12, *shape), generator=generator, dtype=torch.float64).square().sum(dim=0)
        return normal / (square / 12).sqrt() / (12 / 10) ** 0.5
    return normal


MIX = torch.tensor([[1.0, 0.0, 0.0], [0.6, 0.8, 0.0], [0.0, 0.5, 0.7]], dtype=torch.float64)
COV = MIX @ MIX.T


@pytest.mark.parametrize("law", ["skewed", "heavy-tailed", "gaussian"])
@pytest.mark.parametrize("n", [4, 8, 32])
def test_value_and_gradient_are_unbiased_within_four_standard_errors(law: str, n: int) -> None:
    """The gradient with respect to the mixing matrix A of z = A x: of sum over i, j of C_ij^2 it is 4 A A^T A."""
    generator = torch.Generator().manual_seed(n)
    batches = 40_000
    x = draw(law, (batches, n, 3), generator)
    A = MIX.expand(batches, -1, -1).clone().requires_grad_()
    energy = unbiased_covariance_sq_norm(x @ A.mT)
    gradient = torch.autograd.grad(energy.sum(), A)[0]
    for estimate, truth in ((energy.detach(), COV.square().sum()), (gradient, 4 * COV @ MIX)):
        error = estimate.std(dim=0) / batches**0.5
        assert ((estimate.mean(dim=0) - truth).abs() < 4 * error).all()
    plug_in = covariance_sq_norm(x @ MIX.T)
    assert (plug_in.mean() - COV.square().sum()).abs() > 4 * plug_in.std() / batches**0.5


def test_shifting_the_rows_changes_nothing_and_scaling_is_of_fourth_power() -> None:
    z = torch.randn(3, 9, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for estimate in (unbiased_covariance_sq_norm, unbiased_off_diagonal_sq_norm, half_batch_sq_norm):
        torch.testing.assert_close(estimate(2 * z + 100), 16 * estimate(z), rtol=1e-9, atol=1e-9)


def test_a_constant_feature_adds_nothing() -> None:
    z = torch.randn(6, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    wider = torch.cat([z, torch.full((6, 1), 5.0, dtype=torch.float64)], dim=1)
    torch.testing.assert_close(unbiased_covariance_sq_norm(wider), unbiased_covariance_sq_norm(z))
    assert unbiased_squared_variances(wider)[-1].abs() < 1e-20


def test_across_views_the_mean_over_all_batches_is_the_population() -> None:
    """Two views of a three-point law, whose features are other numbers in each."""
    other = torch.tensor([[1.0, 0.0], [-1.0, 3.0], [0.5, -0.5]], dtype=torch.float64)
    n = 5
    index = torch.tensor(list(product(range(3), repeat=n)))
    weights = PROBABILITIES[index].prod(dim=1)
    found = [unbiased_pair_off_diagonals(torch.stack([centred(VALUES[i]), centred(other[i])])).item() for i in index]
    cross = (VALUES * PROBABILITIES[:, None]).T @ (other - PROBABILITIES @ other)
    truth = cross[0, 1] ** 2 + cross[1, 0] ** 2
    assert (weights @ torch.tensor(found, dtype=torch.float64)).item() == pytest.approx(truth.item(), rel=1e-12)


@pytest.mark.parametrize("width", [2, 7])
def test_across_equal_views_it_is_the_one_view_statistic(width: int) -> None:
    x = centred(torch.randn(6, width, dtype=torch.float64))
    expected = unbiased_off_diagonal_sq_norm(x).expand(3)
    torch.testing.assert_close(unbiased_pair_off_diagonals(torch.stack([x] * 3)), expected)
