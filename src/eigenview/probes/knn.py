"""The weighted k-NN vote on frozen features."""

from __future__ import annotations

import numpy as np
import torch

from eigenview.errors import UserError, require
from eigenview.functional.similarity import knn_vote
from eigenview.probes.labels import accuracies, checked

CHUNK = 32_000_000
"""Similarities in memory at a time, 128 MB of float32."""


def knn_accuracy(
    train_x: np.ndarray,
    train_y: np.ndarray,
    test_x: np.ndarray,
    test_y: np.ndarray,
    *,
    k: int,
    temperature: float,
    num_classes: int,
) -> float:
    """Percent of test rows that `knn_predictions` classifies correctly."""
    options = {"k": k, "temperature": temperature, "num_classes": num_classes}
    return accuracies(knn_predictions(train_x, train_y, test_x, test_y, **options), test_y)[0]


def knn_predictions(
    train_x: np.ndarray,
    train_y: np.ndarray,
    test_x: np.ndarray,
    test_y: np.ndarray,
    *,
    k: int,
    temperature: float,
    num_classes: int,
) -> np.ndarray:
    """int64: for each test row the class that wins the vote of the k train rows with the largest cosine.

    Each neighbour votes with weight exp(cosine / temperature). With fewer than k train rows all of them vote.
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
    bank, labels = torch.from_numpy(train_x).float(), torch.from_numpy(train_y)
    parts = torch.from_numpy(test_x).float().split(max(1, CHUNK // len(bank)))
    votes = (knn_vote(part, bank, labels, num_classes, min(k, len(bank)), temperature) for part in parts)
    return torch.cat([vote.argmax(dim=1) for vote in votes]).numpy()
