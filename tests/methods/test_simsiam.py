"""SimSiam where its value is known: agreement, pairs, and the stop-gradient."""

from __future__ import annotations

from itertools import permutations

import pytest
import torch

from eigenview.methods.simsiam import SimSiam, SimSiamConfig
from eigenview.views import Views
from tests.draws import random


def test_agreement_is_minus_one() -> None:
    p = random(1, 5, 4).expand(2, 5, 4)
    assert SimSiam()(Views(p=p, z=3 * p)).total.item() == pytest.approx(-1)


def test_three_views_are_the_mean_over_ordered_pairs() -> None:
    p, z = random(3, 5, 4), random(3, 5, 4, seed=1)
    each = [-torch.cosine_similarity(p[a], z[b], dim=-1).mean() for a, b in permutations(range(3), 2)]
    torch.testing.assert_close(SimSiam()(Views(p=p, z=z)).total, torch.stack(each).mean())


@pytest.mark.parametrize("stop", [True, False])
def test_stop_gradient(stop: bool) -> None:
    p, z = random(2, 5, 4).requires_grad_(), random(2, 5, 4, seed=1).requires_grad_()
    SimSiam(SimSiamConfig(stop_gradient=stop))(Views(p=p, z=z)).total.backward()
    assert p.grad is not None
    assert (z.grad is None) == stop
