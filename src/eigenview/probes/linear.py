"""Multinomial logistic regression on frozen features, with all labels or with a few per class."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from eigenview.errors import UserError, require
from eigenview.probes.labels import Files, accuracies, checked, label_shortage

STRENGTHS = (1.0, 1e-1, 1e-2, 1e-3, 1e-4)
"""Grid of L2 strengths s: the loss is mean cross-entropy + s/2 |W|^2; the bias is free."""
FEW_STRENGTH = 1e-2
"""The strength with few labels, too few to choose it; on digits accuracy changes by one point from 1e-4 to 1e-1."""
SEARCH_ROWS = 10_000
"""Most training rows fitted in the search for the strength; half as many more rows validate it."""
MAX_ITERATIONS = 200
BLOCK_ROWS = 65_536
"""Test rows that are classified at a time."""
FLOAT64_ROWS = 4096
"""Rows that are in memory in float64 at a time."""


def linear_accuracy(
    train_x: np.ndarray, train_y: np.ndarray, test_x: np.ndarray, test_y: np.ndarray, *, seed: int = 0
) -> float:
    """Percent of test rows that `linear_predictions` classifies correctly."""
    return accuracies(linear_predictions(train_x, train_y, test_x, test_y, seed=seed) == test_y, test_y)[0]


def linear_predictions(
    train_x: np.ndarray,
    train_y: np.ndarray,
    test_x: np.ndarray,
    test_y: np.ndarray,
    *,
    seed: int = 0,
    train_files: np.ndarray | None = None,
) -> np.ndarray:
    """The class of each test row by a multinomial logistic regression on all train rows.

    Features are standardised by the train rows. The L2 strength is the one of `STRENGTHS` with the best accuracy on a
    held-out third of the train rows (of each class; at most 15,000 rows are used), the stronger one if two are equal;
    then all train rows are fitted with it. Test rows are used for the predictions only. L-BFGS, at most 200 iterations.
    `train_files` int (N,) says which file each train row is a tile or a page of (None: each is a file): a third of the
    files is held out then, so that no file is fitted and held out.

    Raises: UserError if labels are missing, negative or not one per row, or the train rows are of one class only.
    """
    train_y, test_y = checked(train_x, train_y, "train"), checked(test_x, test_y, "test")
    _require_two_classes(train_y)
    scaling = _scaling(train_x)
    train = _standardised(train_x, scaling)
    strength = _choose_strength(train, train_y, Files(train_y, train_files), np.random.default_rng(seed))
    return _predictions([_fit(train, train_y, strength)], test_x, scaling)[0]


def few_label_accuracy(
    train_x: np.ndarray,
    train_y: np.ndarray,
    test_x: np.ndarray,
    test_y: np.ndarray,
    *,
    labels_per_class: int,
    draws: int,
    seed: int = 0,
    class_names: Sequence[str] = (),
) -> tuple[float, float]:
    """(mean, standard deviation) over `draws` of the percent correct, from `few_label_predictions`.

    The standard deviation divides by draws - 1; it is 0 for a single draw.
    """
    options = {"labels_per_class": labels_per_class, "draws": draws, "seed": seed, "class_names": class_names}
    found = few_label_predictions(train_x, train_y, test_x, test_y, **options)  # type: ignore[arg-type]
    return mean_and_deviation([accuracies(predicted == test_y, test_y)[0] for predicted in found])


def mean_and_deviation(scores: Sequence[float]) -> tuple[float, float]:
    """Mean and standard deviation, which divides by one less than the number of scores; 0 for a single one."""
    return float(np.mean(scores)), float(np.std(scores, ddof=1)) if len(scores) > 1 else 0.0


def few_label_predictions(
    train_x: np.ndarray,
    train_y: np.ndarray,
    test_x: np.ndarray,
    test_y: np.ndarray,
    *,
    labels_per_class: int,
    draws: int,
    seed: int = 0,
    class_names: Sequence[str] = (),
    train_files: np.ndarray | None = None,
) -> list[np.ndarray]:
    """The class of each test row with `labels_per_class` labels of each class, in each of `draws` draws of the labels.

    Features are standardised by all train rows, which needs no labels; the L2 strength is `FEW_STRENGTH`. Draw number i
    of a seed takes the same rows for all features, so that encoders are compared on the same labels. With `train_files`
    (see `linear_predictions`) files are drawn, each with all of its rows.

    Raises: UserError as `linear_accuracy`, and if a class has fewer train files than `labels_per_class`.
    """
    require(labels_per_class >= 1, "labels_per_class", labels_per_class, "1 or more")
    require(draws >= 1, "draws", draws, "1 or more")
    train_y, test_y = checked(train_x, train_y, "train"), checked(test_x, test_y, "test")
    _require_two_classes(train_y)
    files = Files(train_y, train_files)
    shortage = label_shortage(files.y, labels_per_class, class_names)
    if shortage:
        raise UserError(shortage)
    scaling = _scaling(train_x)
    models = []
    for draw in range(draws):
        rng = np.random.default_rng([seed, draw])
        drawn = [rng.permutation(np.flatnonzero(files.y == c))[:labels_per_class] for c in np.unique(files.y)]
        rows = files.rows(np.concatenate(drawn))
        models.append(_fit(_standardised(train_x[rows], scaling), train_y[rows], FEW_STRENGTH))
    return _predictions(models, test_x, scaling)


def _require_two_classes(train_y: np.ndarray) -> None:
    if len(np.unique(train_y)) < 2:
        raise UserError(f"all train labels are {train_y[0]}; a classifier needs images of at least two classes.")


class _Scaling(NamedTuple):
    """(x - mean) scale has mean 0 and standard deviation 1 over the train rows; constant features become 0."""

    mean: np.ndarray
    scale: np.ndarray


def _blocks(rows: int, most: int) -> Iterator[slice]:
    return (slice(first, min(first + most, rows)) for first in range(0, rows, most))


def _scaling(train_x: np.ndarray) -> _Scaling:
    """In float64. Rows are added one after another as NumPy adds them, so that blocks change no digit."""
    mean, squares = train_x.mean(axis=0, dtype=np.float64), np.zeros((1, train_x.shape[1]))
    for rows in _blocks(len(train_x), FLOAT64_ROWS):
        squares = np.concatenate([squares, np.square(train_x[rows] - mean)]).sum(axis=0, keepdims=True)
    std = np.sqrt(squares[0] / len(train_x))
    varies = std > 1e-6 * np.abs(mean)  # below, the deviation is the rounding of float32
    return _Scaling(mean, np.where(varies, 1 / np.where(varies, std, 1.0), 0.0))


def _standardised(x: np.ndarray, scaling: _Scaling) -> np.ndarray:
    """float32, computed in float64."""
    found = np.empty(x.shape, np.float32)
    for rows in _blocks(len(x), FLOAT64_ROWS):
        found[rows] = (x[rows] - scaling.mean) * scaling.scale
    return found


def _predictions(models: Sequence[LogisticRegression], test_x: np.ndarray, scaling: _Scaling) -> list[np.ndarray]:
    """The class of each test row by each model, a block of rows at a time."""
    parts = []
    for rows in _blocks(len(test_x), BLOCK_ROWS):
        test = _standardised(test_x[rows], scaling)
        parts.append([np.asarray(model.predict(test)) for model in models])
    return [np.concatenate(of_model) for of_model in zip(*parts, strict=True)]


def _choose_strength(x: np.ndarray, y: np.ndarray, files: Files, rng: np.random.Generator) -> float:
    order = rng.permutation(len(files.y))
    order = order[np.cumsum(files.sizes[order]) <= SEARCH_ROWS * 3 // 2]
    # every third file of each class is held out; the first two are not, so that every class is also fitted
    rank_in_class = np.empty(len(order), np.int64)
    for label in np.unique(files.y[order]):
        of_class = np.flatnonzero(files.y[order] == label)
        rank_in_class[of_class] = np.arange(len(of_class))
    held_out = rank_in_class % 3 == 2
    fit, validate = files.rows(order[~held_out]), files.rows(order[held_out])
    if len(validate) == 0 or len(np.unique(y[fit])) < 2:
        return FEW_STRENGTH
    scores = [_fit(x[fit], y[fit], strength).score(x[validate], y[validate]) for strength in STRENGTHS]
    return STRENGTHS[int(np.argmax(scores))]


def _fit(x: np.ndarray, y: np.ndarray, strength: float) -> LogisticRegression:
    model = LogisticRegression(C=1 / (strength * len(y)), max_iter=MAX_ITERATIONS)
    with warnings.catch_warnings():
        # the limit is intended: more iterations do not change the accuracy
        warnings.simplefilter("ignore", ConvergenceWarning)
        return model.fit(x, y)
