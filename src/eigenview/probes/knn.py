"""The weighted k-NN vote on frozen features."""

from __future__ import annotations

import numpy as np
import torch

from eigenview.errors import UserError, require
from eigenview.functional.neighbours import Neighbours, nearest, vote
from eigenview.functional.similarity import unit
from eigenview.probes.labels import accuracies, checked

CPU = torch.device("cpu")
BANK_ROWS, QUERY_ROWS = 32_768, 1024
"""Train and test rows in a block: their cosines take 128 MB of float32, however many rows there are."""


def knn_accuracy(
    train_x: np.ndarray,
    train_y: np.ndarray,
    test_x: np.ndarray,
    test_y: np.ndarray,
    *,
    k: int,
    temperature: float,
    num_classes: int,
    device: torch.device = CPU,
) -> float:
    """Percent of test rows that `knn_predictions` classifies correctly."""
    options = {"k": k, "temperature": temperature, "num_classes": num_classes, "device": device}
    return accuracies(knn_predictions(train_x, train_y, test_x, test_y, **options) == test_y, test_y)[0]


def knn_predictions(
    train_x: np.ndarray,
    train_y: np.ndarray,
    test_x: np.ndarray,
    test_y: np.ndarray,
    *,
    k: int,
    temperature: float,
    num_classes: int,
    device: torch.device = CPU,
) -> np.ndarray:
    """int64: for each test row the class that wins the vote of the k train rows with the largest cosine.

    Each neighbour votes with weight exp(cosine / temperature). With fewer than k train rows all of them vote; of train
    rows at the same cosine the first ones do.
    `num_classes` counts the classes of train and test together (`labels.count_classes`).

    Raises: UserError if labels are missing, negative, not one per row, or beyond `num_classes`.
    """
    require(k >= 1, "k", k, "1 or more")
    require(temperature > 0, "temperature", temperature, "above 0")
    train_y, test_y = checked(train_x, train_y, "train"), checked(test_x, test_y, "test")
    largest = int(max(train_y.max(), test_y.max()))
    if largest >= num_classes:
        raise UserError(
            f"a label is {largest}; allowed: 0 to {num_classes - 1}. Count classes over train and test together."
        )
    found = nearest_rows(train_x, test_x, k, device)
    labels = torch.from_numpy(train_y)
    parts = zip(*(each.split(QUERY_ROWS) for each in found), strict=True)
    votes = (vote(cosines, labels[rows], num_classes, temperature) for cosines, rows in parts)
    return torch.cat([each.argmax(dim=1) for each in votes]).numpy()


def nearest_rows(train_x: np.ndarray, test_x: np.ndarray, k: int, device: torch.device) -> Neighbours:
    """The k train rows with the largest cosines of each test row, or all of fewer, from products on `device`.

    Time N M H in float32, in matrix products of one block by one block; memory of a block. Each train row is brought to
    unit length once. A row whose squared length is beyond float32 has cosine 0 with all others.
    """
    found: list[Neighbours | None] = [None] * -(-len(test_x) // QUERY_ROWS)
    for first in range(0, len(train_x), BANK_ROWS):
        bank = _unit_rows(train_x[first : first + BANK_ROWS], device)
        for part, before in enumerate(found):
            queries = _unit_rows(test_x[part * QUERY_ROWS : (part + 1) * QUERY_ROWS], device)
            found[part] = nearest(queries @ bank.T, k, first=first, before=before)
    cosines, rows = zip(*(each for each in found if each is not None), strict=True)
    return torch.cat(cosines).cpu(), torch.cat(rows).cpu()


def _unit_rows(x: np.ndarray, device: torch.device) -> torch.Tensor:
    return unit(torch.from_numpy(x).float().to(device)).nan_to_num_(nan=0.0)
