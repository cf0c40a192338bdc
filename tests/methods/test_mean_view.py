"""Ghosh et al.'s providers by their definitions: each view beside the mean of the others. Numbers: test_golden.py."""

from __future__ import annotations

import pytest
import torch

from eigenview.functional.batch_moments import batch_moments
from eigenview.functional.contrast import contrast
from eigenview.functional.moments import off_diagonal_sq_norm, variances
from eigenview.methods.parts import mean_view
from tests.draws import random


def test_for_two_views_vicregs_statistics_are_the_same() -> None:
    z = random(2, 7, 4)
    found, pairs = mean_view.batch_moments(z), batch_moments(z)
    torch.testing.assert_close(found.invariance, pairs.invariance)
    # the mean of the others is the other view: all four tensors are views, each twice
    torch.testing.assert_close(found.variances, pairs.variances[[0, 1, 1, 0]])
    torch.testing.assert_close(found.off_diagonal, pairs.off_diagonal[[0, 1, 1, 0]])


def test_moments_of_three_views_and_of_the_means_of_the_others() -> None:
    z = random(3, 7, 4)
    others = torch.stack([(z[1] + z[2]) / 2, (z[0] + z[2]) / 2, (z[0] + z[1]) / 2])
    found = mean_view.batch_moments(z)
    torch.testing.assert_close(found.invariance, (z - others).square().mean())
    torch.testing.assert_close(found.variances, variances(torch.cat([z, others])))
    torch.testing.assert_close(found.off_diagonal, off_diagonal_sq_norm(torch.cat([z, others])))


@pytest.mark.parametrize("shape", [(2, 9, 4), (2, 4, 11), (3, 9, 4), (3, 4, 11)])
def test_cross_moments_have_one_mean_and_one_deviation_for_all_views(shape: tuple[int, int, int]) -> None:
    """Widths on both sides of the choice between the two products."""
    z, eps = random(*shape) * 2 + 1, 1e-3
    rows = z.flatten(0, 1)
    s = (z - rows.mean(dim=0)) / (rows.var(dim=0) + eps).sqrt()
    first, second = (s[0], s[1]) if len(s) == 2 else (s.mean(dim=0), s.mean(dim=0))
    c = first.T @ second / shape[1]
    found = mean_view.cross_moments(z, eps)
    torch.testing.assert_close(found.off_diagonal, c.square().sum() - c.diagonal().square().sum())
    diagonals = c.diagonal()[None] if len(s) == 2 else (s * s.mean(dim=0)).mean(dim=1)
    torch.testing.assert_close(found.diagonals, diagonals)


def test_for_two_views_nt_xent_differs_by_the_programs_floor_only() -> None:
    z = random(2, 6, 4)
    found, pairs = mean_view.contrast(z, 0.5), contrast(z, 0.5)
    torch.testing.assert_close(found.positive, pairs.positive)
    gap = (found.log_denominator - pairs.log_denominator).item()
    assert 0 < gap < 1e-8


def test_nt_xent_of_three_views_by_loops() -> None:
    """Of each view's unit rows and the means of the others' unit rows, which are not unit; a floor of 1e-9."""
    z, tau = random(3, 4, 5), 0.5
    u = torch.nn.functional.normalize(z, dim=-1)
    positives, logs = [], []
    for v in range(3):
        others = (u.sum(dim=0) - u[v]) / 2
        rows = torch.cat([u[v], others])
        positives += [u[v, i] @ others[i] / tau for i in range(4)]
        for i, row in enumerate(rows):
            scores = torch.stack([row @ other / tau for other in rows]).exp()
            logs.append((scores.sum() - scores[i] + 1e-9 * scores.max()).log())
    found = mean_view.contrast(z, tau)
    torch.testing.assert_close(found.positive, torch.stack(positives).mean())
    torch.testing.assert_close(found.log_denominator, torch.stack(logs).mean(), rtol=1e-12, atol=0)
