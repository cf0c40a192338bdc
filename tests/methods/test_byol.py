"""BYOL where its value is known: its range, orthogonal views, pairs, its ratio to SimSiam."""

from __future__ import annotations

from itertools import combinations

import pytest
import torch

from eigenview.methods.byol import BYOL, BYOLConfig
from eigenview.methods.simsiam import SimSiam
from eigenview.views import Views
from tests.draws import random


def test_range() -> None:
    p = random(1, 5, 4).expand(3, 5, 4)
    for sign, expected in ((1, 0.0), (-1, 8.0)):
        assert BYOL()(Views(p=p, z_target=sign * p)).total.item() == pytest.approx(expected, abs=1e-12)


def test_a_view_never_predicts_itself() -> None:
    p = torch.eye(3, dtype=torch.float64)[:, None, :].expand(3, 4, 3)  # views mutually orthogonal
    assert BYOL()(Views(p=p, z_target=p)).total.item() == pytest.approx(4)


def test_three_views_are_the_mean_of_their_pairs() -> None:
    p, t = random(3, 5, 4), random(3, 5, 4, seed=1)
    for config in (BYOLConfig(), BYOLConfig(normalise=False)):
        objective = BYOL(config)
        pairs = [objective(Views(p=p[list(c)], z_target=t[list(c)])) for c in combinations(range(3), 2)]
        mean = torch.stack([terms.total for terms in pairs]).mean()
        torch.testing.assert_close(objective(Views(p=p, z_target=t)).total, mean)


def test_gradient_is_four_times_that_of_simsiam() -> None:
    p, t = random(2, 5, 4).requires_grad_(), random(2, 5, 4, seed=1)
    losses = BYOL()(Views(p=p, z_target=t)).total, SimSiam()(Views(p=p, z=t)).total
    byol, simsiam = (torch.autograd.grad(loss, p)[0] for loss in losses)
    torch.testing.assert_close(byol, 4 * simsiam)
