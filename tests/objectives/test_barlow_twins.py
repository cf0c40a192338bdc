"""Barlow Twins where its value is known: white, opposite, constant and independent views."""

from __future__ import annotations

from itertools import combinations

import pytest
import torch

from eigenview.errors import UserError
from eigenview.objectives.barlow_twins import BarlowTwins, BarlowTwinsConfig
from eigenview.objectives.base import total
from eigenview.views import Views
from tests.draws import random, whitened


def test_equal_white_views_cost_nothing() -> None:
    z = whitened(12, 5)
    assert total(BarlowTwins()(Views(z=torch.stack([z, z])))).item() == pytest.approx(0, abs=1e-8)


def test_opposite_views() -> None:
    z = whitened(12, 5)
    terms = BarlowTwins()(Views(z=torch.stack([z, -z])))
    assert terms["on_diagonal"].item() == pytest.approx(4 * 5, rel=1e-4)


def test_constant_views_cost_the_width() -> None:
    assert total(BarlowTwins()(Views(z=torch.ones(2, 6, 5)))).item() == pytest.approx(5)


def test_independent_views() -> None:
    """E c_ij^2 = 1 / (n - 1) for independent samples, so the off-diagonal sum is d (d - 1) / (n - 1) on average."""
    n, d, draws = 20, 6, 400
    objective = BarlowTwins(BarlowTwinsConfig(off_diagonal=1.0))
    sums = torch.stack([objective(Views(z=random(2, n, d, seed=s)))["off_diagonal"] for s in range(draws)])
    assert abs(sums.mean() - d * (d - 1) / (n - 1)) < 4 * sums.std() / draws**0.5


def test_three_views_are_the_mean_of_their_pairs() -> None:
    z, objective = random(3, 9, 4), BarlowTwins()
    pairs = [total(objective(Views(z=z[list(pair)]))) for pair in combinations(range(3), 2)]
    torch.testing.assert_close(total(objective(Views(z=z))), torch.stack(pairs).mean())


def test_scale_and_bad_options() -> None:
    views = Views(z=random(2, 9, 4))
    torch.testing.assert_close(
        total(BarlowTwins(BarlowTwinsConfig(scale=0.1))(views)), 0.1 * total(BarlowTwins()(views))
    )
    for option, bad in {"off_diagonal": -1.0, "eps": 0.0, "scale": 0.0}.items():
        with pytest.raises(UserError, match=f"objective.{option}"):
            BarlowTwinsConfig(**{option: bad})
