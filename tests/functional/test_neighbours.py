"""The k-NN vote by hand, and neighbours found block by block against a loop over single rows, with ties."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from eigenview.errors import UserError
from eigenview.functional.neighbours import Neighbours, knn_vote, nearest


def test_knn_vote_by_hand() -> None:
    bank = torch.tensor([[1.0, 0], [0, 1], [-1, 0]])
    labels = torch.tensor([2, 0, 0])
    votes = knn_vote(torch.tensor([[5.0, 0]]), bank, labels, num_classes=3, k=2, temperature=0.5)
    share = math.exp(2) / (math.exp(2) + 1)
    torch.testing.assert_close(votes, torch.tensor([[1 - share, 0, share]]))
    tiny = knn_vote(torch.tensor([[1.0, 0.1]]), bank, labels, num_classes=3, k=3, temperature=1e-4)
    torch.testing.assert_close(tiny, torch.tensor([[0.0, 0, 1]]))  # exp(10000) never happens
    for k in (0, 4):
        with pytest.raises(UserError, match=f"k is {k}"):
            knn_vote(bank, bank, labels, num_classes=3, k=k, temperature=1.0)


def one_by_one(cosines: Tensor, k: int) -> Neighbours:
    """The definition: each row sorted by falling cosine, then by number."""
    ranked = [sorted(range(len(row)), key=lambda j, row=row: (-row[j], j))[:k] for row in cosines.tolist()]
    rows = torch.tensor(ranked)
    return cosines.gather(1, rows), rows


@pytest.mark.parametrize("k", [1, 4, 11, 30])
@pytest.mark.parametrize("values", [2, 5, 1000])
def test_blocks_of_a_bank_find_the_same_rows_as_a_loop(values: int, k: int) -> None:
    """Cosines of few values are nearly all tied: the first rows are taken, wherever a block ends."""
    cosines = torch.randint(values, (17, 30), generator=torch.Generator().manual_seed(values)) / values
    expected = one_by_one(cosines, k)
    for block in (1, 7, 29, 30):
        found: Neighbours | None = None
        for first in range(0, 30, block):
            found = nearest(cosines[:, first : first + block], k, first=first, before=found)
        assert found is not None
        for ours, theirs in zip(found, expected, strict=True):
            assert torch.equal(ours, theirs)
