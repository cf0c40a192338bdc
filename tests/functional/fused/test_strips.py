"""Strips and blocks cover everything once; the Gram matrix made of strips is the whole one."""

from __future__ import annotations

import pytest
import torch

from eigenview.functional.fused import strips
from eigenview.functional.fused.strips import gram
from tests.draws import random


@pytest.mark.parametrize("kind", ["cpu", "cuda"])
@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (127, 5), (129, 1 << 22), (8192, 8192), (5000, 70), (300, 0)])
def test_strips_cover_every_row_once_and_stay_small(rows: int, columns: int, kind: str) -> None:
    parts = list(strips.strips(rows, columns, torch.device(kind)))
    assert [row for start, stop in parts for row in range(start, stop)] == list(range(rows))
    for start, stop in parts:
        assert start < stop
        assert stop - start <= strips.SHORTEST[kind] or (stop - start) * columns <= strips.LARGEST[kind]


@pytest.mark.parametrize(("count", "across"), [(1, 1), (255, 9), (256, 1 << 20), (5000, 100), (70_000, 3)])
def test_blocks_cover_an_axis_once(count: int, across: int) -> None:
    parts = list(strips.blocks(count, across, torch.device("cpu")))
    assert [i for part in parts for i in range(count)[part]] == list(range(count))
    assert all(p.stop - p.start <= 256 or (p.stop - p.start) * across <= strips.LARGEST["cpu"] // 16 for p in parts)


@pytest.mark.parametrize("keep_diagonal", [True, False])
@pytest.mark.parametrize("shortest", [1, 2, 3, 7, 128])
@pytest.mark.parametrize("is_turned", [False, True])
def test_the_gram_matrix_and_its_energy(is_turned: bool, shortest: int, keep_diagonal: bool) -> None:
    """Columns may be the contiguous axis."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(strips.SHORTEST, "cpu", shortest)
        x = random(7, 5)
        M = 0.3 * x @ x.T
        if not keep_diagonal:
            M = M - M.diagonal().diag()
        x = x.T.contiguous().T if is_turned else x
        found, energy = gram(x, 0.3, keep_diagonal=keep_diagonal, is_kept=True)
        assert found is not None
        torch.testing.assert_close(found, M, rtol=1e-13, atol=1e-14)
        assert energy.item() == pytest.approx(M.square().sum().item(), rel=1e-12)
        nothing, same = gram(x, 0.3, keep_diagonal=keep_diagonal, is_kept=False)
        assert nothing is None
        assert torch.equal(same, energy)
