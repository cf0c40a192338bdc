"""Barlow Twins where its value is known: white, opposite, constant and independent views."""

from __future__ import annotations

from itertools import combinations, permutations

import pytest
import torch

from eigenview.errors import UserError
from eigenview.functional.cross_moments import cross_moments, unbiased_cross_moments
from eigenview.methods.barlow_twins import BarlowTwins, BarlowTwinsConfig
from eigenview.views import Views
from tests.draws import random, whitened


def test_equal_white_views_cost_nothing() -> None:
    z = whitened(12, 5)
    assert BarlowTwins()(Views(z=torch.stack([z, z]))).total.item() == pytest.approx(0, abs=1e-8)


def test_opposite_views() -> None:
    z = whitened(12, 5)
    terms = BarlowTwins()(Views(z=torch.stack([z, -z]))).terms
    assert terms["on_diagonal"].item() == pytest.approx(4 * 5, rel=1e-4)


def test_constant_views_cost_the_width() -> None:
    assert BarlowTwins()(Views(z=torch.ones(2, 6, 5))).total.item() == pytest.approx(5)


def test_independent_views() -> None:
    """E c_ij^2 = 1 / (n - 1) for independent samples, so the off-diagonal sum is d (d - 1) / (n - 1) on average."""
    n, d, draws = 20, 6, 400
    objective = BarlowTwins(BarlowTwinsConfig(off_diagonal=1.0))
    sums = torch.stack([objective(Views(z=random(2, n, d, seed=s))).terms["off_diagonal"] for s in range(draws)])
    assert abs(sums.mean() - d * (d - 1) / (n - 1)) < 4 * sums.std() / draws**0.5


def test_three_views_are_the_mean_of_their_pairs() -> None:
    z, objective = random(3, 9, 4), BarlowTwins()
    pairs = [objective(Views(z=z[list(pair)])).total for pair in combinations(range(3), 2)]
    torch.testing.assert_close(objective(Views(z=z)).total, torch.stack(pairs).mean())


def test_scale_and_bad_options() -> None:
    views = Views(z=random(2, 9, 4))
    torch.testing.assert_close(BarlowTwins(BarlowTwinsConfig(scale=0.1))(views).total, 0.1 * BarlowTwins()(views).total)
    for option, bad in {"off_diagonal": -1.0, "eps": 0.0, "scale": 0.0}.items():
        with pytest.raises(UserError, match=rf"method\.{option} is {bad}"):
            BarlowTwinsConfig(**{option: bad})


def test_by_u_statistic_views_without_relation_have_no_redundancy() -> None:
    """Over all ways to pair the rows of two views the mean is 0, the plug-in's D (D - 1) / (N - 1)."""
    torch.manual_seed(0)
    n, width = 5, 3
    a, b = torch.randn(2, n, width, dtype=torch.float64)
    pairings = [torch.stack([a, b[list(order)]]) for order in permutations(range(n))]
    plug_in = [cross_moments(z, 1e-12).off_diagonal for z in pairings]
    unbiased = [unbiased_cross_moments(z, 1e-12).off_diagonal for z in pairings]
    assert torch.stack(plug_in).mean().item() == pytest.approx(width * (width - 1) / (n - 1), rel=1e-9)
    assert torch.stack(unbiased).mean().item() == pytest.approx(0, abs=1e-9)
    assert min(unbiased) < -0.1


def test_by_u_statistic_equal_white_views_cost_nothing_more_and_a_small_batch_is_refused() -> None:
    objective = BarlowTwins(BarlowTwinsConfig(estimator="unbiased"))
    z = torch.randn(4000, 4, dtype=torch.float64)
    terms = objective(Views(z=torch.stack([z, z]))).terms
    assert abs(terms["off_diagonal"].item()) < 0.0051 * 0.01
    with pytest.raises(UserError, match=r"samples in the batch is 3.*4 or more"):
        objective(Views(z=torch.randn(2, 3, 4)))
