"""Checks of the labels given to a probe, and the sentences that say what is wrong with them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from eigenview.errors import UserError


def checked(x: np.ndarray, y: np.ndarray | None, part: str) -> np.ndarray:
    """The labels of `part` ("train", "test") as int64 (N,).

    Raises: UserError if they are missing, not one integer per row, or negative.
    """
    if y is None:
        raise UserError(
            f"the {part} images have no labels; a probe needs them. Point --probe-data at a labelled folder."
        )
    y = np.asarray(y)
    if y.shape != (len(x),) or not np.issubdtype(y.dtype, np.integer):
        raise UserError(f"{part} labels are {y.dtype} {y.shape}; allowed: one integer for each of {len(x)} rows.")
    if len(y) == 0 or y.min() < 0:
        what = "no label" if len(y) == 0 else f"a negative label, {y.min()}"
        raise UserError(f"{part} labels contain {what}; allowed: integers from 0, at least one.")
    return y.astype(np.int64)


def count_classes(train_y: np.ndarray, test_y: np.ndarray, class_names: Sequence[str] = ()) -> int:
    """Classes of train and test labels together: one more than the largest label, or the number of class names.

    Not from one part alone, in which a class may be missing.

    Raises: UserError if a label has no class name.
    """
    seen = int(max(train_y.max(), test_y.max())) + 1
    if class_names and seen > len(class_names):
        raise UserError(
            f"a label is {seen - 1}; allowed: 0 to {len(class_names) - 1}, for {len(class_names)} class names."
        )
    return len(class_names) or seen


def class_name(label: int, class_names: Sequence[str]) -> str:
    """A class in a message: its name in quotes, or else its label."""
    return f"{class_names[label]!r}" if label < len(class_names) else f"{label}"


class Files:
    """Rows as parts of files: tiles or pages of one file show the same, so they are drawn and held out together."""

    def __init__(self, y: np.ndarray, files: np.ndarray | None) -> None:
        """`y` (N,): the labels of the rows. `files` int (N,): which file each is of; None: each is one."""
        self.y = y
        """The label of each file (F,): that of its first row."""
        self.sizes = np.ones(len(y), np.int64)
        """Rows of each file (F,)."""
        self._rows: np.ndarray | None = None
        if files is not None:
            _, first, file, self.sizes = np.unique(files, return_index=True, return_inverse=True, return_counts=True)
            self.y, self._rows = y[first], np.argsort(file, kind="stable")

    def rows(self, chosen: np.ndarray) -> np.ndarray:
        """The rows of the files with these numbers (K,), file after file."""
        if self._rows is None:
            return chosen
        parts = np.split(self._rows, np.cumsum(self.sizes)[:-1])
        return np.concatenate([self._rows[:0], *(parts[file] for file in chosen)])


def rich_classes(train_y: np.ndarray, labels_per_class: int) -> np.ndarray:
    """The labels that at least `labels_per_class` of these have, ascending."""
    labels, counts = np.unique(train_y, return_counts=True)
    return labels[counts >= labels_per_class]


def accuracies(right: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    """Percent of rows that are right (bool), and the mean over the classes of `truth` of the percent of their rows."""
    rows = np.bincount(truth)
    of_class = np.bincount(truth, weights=right)
    return 100 * int(right.sum()) / len(truth), 100 * float((of_class[rows > 0] / rows[rows > 0]).mean())


def are_unequal(test_y: np.ndarray) -> bool:
    """Whether the largest class has more than twice as many test rows as the smallest that has any."""
    rows = np.bincount(test_y)
    return bool(rows.max() > 2 * rows[rows > 0].min())


def label_shortage(train_y: np.ndarray, labels_per_class: int, class_names: Sequence[str] = ()) -> str | None:
    """A sentence with the smallest class and what to do; None if every class has at least `labels_per_class`."""
    labels, counts = np.unique(train_y, return_counts=True)
    least = int(counts.argmin())
    if counts[least] >= labels_per_class:
        return None
    name = class_name(int(labels[least]), class_names)
    return (
        f"class {name} has {counts[least]} training images, fewer than the {labels_per_class} labels asked for: "
        f"use --probe.labels-per-class {counts[least]} or less, or add images of it."
    )
