"""Means over pairs of views against loops over the pairs, and log_sum_exp against the whole matrix, in float64."""

from __future__ import annotations

from itertools import permutations

import pytest
import torch
from torch import Tensor

from eigenview.errors import UserError
from eigenview.functional.fused import strips
from eigenview.functional.fused.log_sum_exp import log_sum_exp
from eigenview.functional.similarity import cosine, half_sq_distances, log_neighbours
from eigenview.functional.view_pairs import mean_cosine, mean_sq_distance, weighted
from tests.draws import random

ALL = [*permutations(range(4), 2)]
LOCAL = [(0, 1), (1, 0), (2, 0), (2, 1), (3, 0), (3, 1)]
"""Two whole views are targets, two local crops are not."""


@pytest.mark.parametrize(("targets", "pairs"), [(2, [(0, 1), (1, 0)]), (4, ALL), (2, LOCAL), (1, [(0, 0)])], ids=str)
def test_means_are_those_over_pairs(targets: int, pairs: list[tuple[int, int]]) -> None:
    p, t = random(4, 5, 3).requires_grad_(), random(targets, 5, 3, seed=1).requires_grad_()
    by_pair = {
        mean_cosine: lambda a, b: cosine(p[a], t[b]).mean(),
        mean_sq_distance: lambda a, b: (p[a] - t[b]).square().sum(dim=-1).mean(),
    }
    for mean, one in by_pair.items():
        ours = weighted(mean(p, t, pairs), pairs)
        plain = torch.stack([one(a, b) for a, b in pairs]).mean()
        torch.testing.assert_close(ours, plain, rtol=1e-13, atol=1e-14)
        for found, expected in zip(*(torch.autograd.grad(x, (p, t)) for x in (ours, plain)), strict=True):
            torch.testing.assert_close(found, expected, rtol=1e-11, atol=1e-14)


@pytest.mark.parametrize("skips_own", [False, True])
def test_strips_give_what_the_whole_matrix_gives(skips_own: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(strips.SHORTEST, "cpu", 4)  # so that eleven rows are three strips

    def plain(a: Tensor, b: Tensor, bias: Tensor) -> Tensor:
        own = torch.eye(11, dtype=torch.bool) & skips_own
        return (a @ b.T / 0.3 + bias).masked_fill(own, -torch.inf).logsumexp(dim=1)

    a, b, bias = (random(*shape, seed=k).requires_grad_() for k, shape in enumerate([(11, 3), (11, 3), (11,)]))
    weight = random(11, seed=3)
    found, expected = log_sum_exp(a, b, 0.3, bias, skips_own=skips_own), plain(a, b, bias)
    torch.testing.assert_close(found, expected, rtol=1e-13, atol=1e-13)
    gradients = (torch.autograd.grad((x * weight).sum(), (a, b, bias)) for x in (found, expected))
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


def test_log_sum_exp_is_differentiated_once() -> None:
    a, b = random(3, 2).requires_grad_(), random(4, 2, seed=1)
    (slope,) = torch.autograd.grad(log_sum_exp(a, b, 1.0).sum(), a, create_graph=True)
    with pytest.raises(UserError, match="log_sum_exp is differentiated twice"):
        slope.sum().backward()


def test_distances_of_views_and_of_neighbours() -> None:
    z = random(3, 6, 4) + 1e3
    expected = (z[:, None] - z).square().sum(dim=-1) / 2
    torch.testing.assert_close(half_sq_distances(z), expected, rtol=1e-9, atol=1e-9)
    near = (z[0][:, None] - z[0]).square().sum(dim=-1) / (2 * 0.7)
    away = [[-near[i, j] for j in range(6) if j != i] for i in range(6)]
    logs = torch.tensor(away, dtype=z.dtype).logsumexp(dim=1)
    torch.testing.assert_close(log_neighbours(z[0], 0.7), logs, rtol=1e-9, atol=1e-9)
