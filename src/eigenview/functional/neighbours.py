"""The nearest rows in angle, found a block of cosines at a time, and the weighted k-NN vote."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from eigenview.errors import require
from eigenview.functional.similarity import unit

Neighbours = tuple[Float[Tensor, "M K"], Int[Tensor, "M K"]]
"""Cosines of the nearest rows of a bank, descending, and the numbers of these rows; of equal cosines the first row."""


def knn_vote(
    queries: Float[Tensor, "M D"],
    bank: Float[Tensor, "N D"],
    bank_labels: Int[Tensor, " N"],
    num_classes: int,
    k: int,
    temperature: float,
) -> Float[Tensor, "M C"]:
    """Share of the vote of each class among the k bank rows nearest in angle, weighted by exp(cosine / temperature).

    Rows sum to 1. Of bank rows at the same cosine the first ones are taken. Needs M x N memory; `nearest` takes a bank
    in blocks. Source: Wu et al. 2018, arXiv 1805.01978, section 3.4.

    Raises: UserError where k is not between 1 and the size of the bank.
    """
    require(1 <= k <= len(bank), "k", k, f"between 1 and the {len(bank)} rows of the bank")
    cosines, rows = nearest(unit(queries) @ unit(bank).T, k)
    return vote(cosines, bank_labels[rows], num_classes, temperature)


def vote(
    cosines: Float[Tensor, "M K"], labels: Int[Tensor, "M K"], num_classes: int, temperature: float
) -> Float[Tensor, "M C"]:
    """Share of each class in the votes of K neighbours with these labels, weighted by exp(cosine / temperature)."""
    weights = (cosines / temperature).softmax(dim=1)
    return weights.new_zeros(len(cosines), num_classes).scatter_add(1, labels, weights)


def nearest(
    cosines: Float[Tensor, "M C"],
    k: int,
    *,
    first: int = 0,
    before: tuple[Float[Tensor, "M B"], Int[Tensor, "M B"]] | None = None,
) -> Neighbours:
    """The k nearest rows of a bank, or all if it has fewer, from the cosines with its rows `first` to `first` + C.

    `before` is the result for the rows before `first`: a bank is taken block by block. The result does not depend on
    the blocks, up to the rounding of the cosines.
    """
    columns = _largest(cosines, min(k, cosines.shape[1]))
    found, rows = cosines.gather(1, columns), columns + first
    if before is not None:
        found, rows = torch.cat([before[0], found], dim=1), torch.cat([before[1], rows], dim=1)
        columns = _largest(found, min(k, found.shape[1]))
        found, rows = found.gather(1, columns), rows.gather(1, columns)
    # a stable sort: rows of one cosine stay in their order
    found, order = found.sort(dim=1, descending=True, stable=True)
    return found, rows.gather(1, order)


def _largest(values: Float[Tensor, "M C"], k: int) -> Int[Tensor, "M k"]:
    """Columns of the k largest values of each row, ascending; of equal values the first.

    `topk` takes any of equal values. Where the value after the last one taken equals it, the row is looked at again.
    """
    width = values.shape[1]
    top, columns = values.topk(min(k + 1, width), dim=1)
    columns = columns[:, :k]
    if k < width:
        tied_rows = (top[:, k - 1] == top[:, k]).nonzero().squeeze(1)
        if len(tied_rows):
            some, least = values[tied_rows], top[tied_rows, k - 1 : k]
            above, equal = some > least, some == least
            missing = k - above.sum(dim=1, keepdim=True)
            taken = above | (equal & (equal.cumsum(dim=1, dtype=torch.int32) <= missing))
            columns = columns.index_copy(0, tied_rows, taken.nonzero()[:, 1].view(-1, k))
    return columns.sort(dim=1).values
