"""Energies through either matrix against the plain definition, and moments of laws known in advance."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import TypeCheckError
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from eigenview.functional import moments
from tests.draws import random


def plain_energies(z: Tensor) -> tuple[Tensor, Tensor]:
    """(all entries, off-diagonal entries) of the covariance, squared and summed, from torch.cov and a mask."""
    c = torch.atleast_2d(torch.cov(z.T))
    return c.square().sum(), c.masked_fill(torch.eye(len(c), dtype=torch.bool), 0).square().sum()


@settings(max_examples=40)
@given(samples=st.integers(2, 12), width=st.integers(1, 12), seed=st.integers(0, 10**6))
def test_either_matrix_gives_the_energy_and_its_gradient(samples: int, width: int, seed: int) -> None:
    z = (random(samples, width, seed=seed) * 3 + 5).requires_grad_()
    plain = plain_energies(z)
    for ours, theirs in zip((moments.covariance_sq_norm(z), moments.off_diagonal_sq_norm(z)), plain, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-9)
        gradients = [torch.autograd.grad(value, z, retain_graph=True)[0] for value in (ours, theirs)]
        torch.testing.assert_close(*gradients, rtol=1e-9, atol=1e-8)


def test_leading_axes_are_independent_batches() -> None:
    z = random(3, 5, 7)
    each = torch.stack([moments.off_diagonal_sq_norm(view) for view in z])
    torch.testing.assert_close(moments.off_diagonal_sq_norm(z), each)
    torch.testing.assert_close(moments.variances(z), z.var(dim=1))


@pytest.mark.parametrize("samples", [3, 5, 6, 14])
def test_pair_energies_equal_the_cross_moment(samples: int) -> None:
    """Widths below, at and above twice the samples: both sides of the choice between Gram and cross-moment."""
    x = random(3, samples, 10, seed=samples).requires_grad_()
    pairs = [(0, 1), (0, 2), (1, 2)]
    crosses = [x[a].T @ x[b] / samples for a, b in pairs]
    plain = torch.stack([c.square().sum() for c in crosses])
    torch.testing.assert_close(moments.pair_sq_norms(x), plain, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(moments.pair_diagonals(x), torch.stack([c.diagonal() for c in crosses]))
    ours, theirs = (torch.autograd.grad(v.sum(), x)[0] for v in (moments.pair_sq_norms(x), plain))
    torch.testing.assert_close(ours, theirs, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize(("samples", "width"), [(4, 32), (32, 4)])
def test_the_smaller_matrix_is_the_one_built(samples: int, width: int) -> None:
    """Multiply-adds counted by torch: never those of the larger product."""
    z, least = random(2, samples, width), min(samples, width)
    with FlopCounterMode(display=False) as flops:
        moments.covariance_sq_norm(z)
    assert flops.get_total_flops() == 2 * 2 * least * samples * width
    with FlopCounterMode(display=False) as flops:
        moments.pair_sq_norms(z)
    gram = 2 * samples < width  # two Gram matrices, or one cross-moment
    assert flops.get_total_flops() == 2 * (2 if gram else 1) * least * samples * width


def test_standardised_is_batch_norm_of_each_view() -> None:
    z = random(2, 6, 4) * 3 + 1
    for ours, view in zip(moments.standardised(z), z, strict=True):
        torch.testing.assert_close(ours, torch.nn.functional.batch_norm(view, None, None, training=True))


def test_standard_deviation_of_a_constant_feature() -> None:
    z = torch.full((5, 2), 3.0, requires_grad=True)
    deviation = moments.standard_deviations(z, eps=1e-4)
    torch.testing.assert_close(deviation, torch.full((2,), 0.01))
    deviation.sum().backward()
    assert z.grad is not None
    assert torch.equal(z.grad, torch.zeros_like(z))


def test_expected_off_diagonal_energy_of_independent_gaussians() -> None:
    """E sum over i != j of S_ij^2 = d (d - 1) / (n - 1): the plug-in bias, within four standard errors."""
    n, d, draws = 16, 8, 4000
    energies = moments.off_diagonal_sq_norm(random(draws, n, d, seed=1)) / d
    error = energies.std() / draws**0.5
    assert abs(energies.mean() - (d - 1) / (n - 1)) < 4 * error
    assert error < 0.01


def test_shapes_are_checked_under_pytest() -> None:
    with pytest.raises(TypeCheckError):
        moments.pair_sq_norms(random(4, 3))
