"""The probe table: every probe on every set of features, with a sentence that says how each number was made."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from eigenview.config import ProbeConfig
from eigenview.errors import require
from eigenview.probes.cache import fingerprint, remembered
from eigenview.probes.knn import knn_accuracy
from eigenview.probes.labels import checked, class_name, count_classes
from eigenview.probes.linear import (
    FEW_STRENGTH,
    MAX_ITERATIONS,
    STRENGTHS,
    few_label_accuracy,
    label_shortage,
    linear_accuracy,
)

if TYPE_CHECKING:
    from rich.table import Table

COLUMNS = {"knn": "k-NN", "linear": "linear", "linear_few": "linear, few labels"}
"""Keys of the probes in probes.json, and their headings."""

Features = tuple[np.ndarray, np.ndarray]
"""Train (N, H) and test (M, H) features."""


def probe_table(
    rows: Mapping[str, Features],
    train_labels: np.ndarray | None,
    test_labels: np.ndarray | None,
    config: ProbeConfig,
    class_names: Sequence[str],
    seed: int,
    *,
    columns: Sequence[str] = tuple(COLUMNS),
    progress: Callable[[str], None] | None = None,
    shared: Collection[str] = (),
    memory: Path | None = None,
) -> dict[str, Any]:
    """The content of probes.json (runfiles.py): percent of test images classified rightly, a row for each of `rows`.

    Each row also has `linear_few_std`, the spread over draws. A probe that these labels do not allow is null, with the
    reason in `note`: a run that trained for hours keeps its other numbers. `progress` is called with the name of each
    probe before it starts. Rows named in `shared`, which other runs have too, are looked up in the folder `memory`
    first (cache.py).

    Raises: UserError for labels that are missing or do not fit the features, and for an unknown column.
    """
    for column in columns:
        require(column in COLUMNS, "column", column, ", ".join(COLUMNS))
    first = next(iter(rows.values()))
    train_y, test_y = checked(first[0], train_labels, "train"), checked(first[1], test_labels, "test")
    num_classes = count_classes(train_y, test_y, class_names)
    left_out = _left_out(train_y, config, class_names)
    table = []
    for name, (train_x, test_x) in rows.items():
        numbers: dict[str, Any] = {"features": name}
        arrays = (train_x, train_y, test_x, test_y)
        folder = memory if name in shared else None
        data = f"{fingerprint(arrays)} {num_classes}" if folder is not None else ""
        for column in columns:
            if progress is not None:
                progress(f"{COLUMNS[column]} on {name}")
            if column in left_out:
                numbers[column] = None
                continue
            compute = partial(_probe, column, arrays, config, num_classes, seed)
            numbers |= remembered(compute, folder, data, column, config, seed)
        table.append(numbers)
    notes = [reason for column, reason in left_out.items() if column in columns]
    notes += _notes(train_y, test_y, config, class_names)
    return {
        "protocols": {column: _protocol(column, len(train_y), len(test_y), config) for column in columns},
        "columns": list(columns),
        "rows": table,
        "note": " ".join(dict.fromkeys(notes)) or None,
        "class_names": list(class_names),
    }


def render_table(probes: dict[str, Any]) -> Table:
    """The table for a terminal: a row per set of features, the best of a column in bold, protocols below."""
    from rich.table import Table

    columns = probes["columns"]
    below = [f"{COLUMNS[c]}: {probes['protocols'][c]}" for c in columns] + ([probes["note"]] if probes["note"] else [])
    table = Table(box=None, pad_edge=False, caption="\n".join(below), caption_justify="left")
    table.add_column("accuracy in percent")
    for column in columns:
        table.add_column(COLUMNS[column], justify="right")
    best = {c: max((row[c] for row in probes["rows"] if row[c] is not None), default=None) for c in columns}
    for row in probes["rows"]:
        table.add_row(row["features"], *(_cell(row, column, best[column]) for column in columns))
    return table


def _cell(row: dict[str, Any], column: str, best: float | None) -> str:
    value, spread = row[column], row.get(f"{column}_std")
    if value is None:
        return "-"
    text = f"{value:.1f}" + (f" ± {spread:.1f}" if spread is not None else "")
    return f"[bold]{text}[/bold]" if value == best else text


def _probe(
    column: str,
    arrays: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray],
    config: ProbeConfig,
    num_classes: int,
    seed: int,
) -> dict[str, float]:
    if column == "knn":
        k, temperature = config.knn_k, config.knn_temperature
        return {column: knn_accuracy(*arrays, k=k, temperature=temperature, num_classes=num_classes)}
    if column == "linear":
        return {column: linear_accuracy(*arrays, seed=seed)}
    labels, draws = config.labels_per_class, config.few_label_draws
    mean, std = few_label_accuracy(*arrays, labels_per_class=labels, draws=draws, seed=seed)
    return {column: mean, f"{column}_std": std}


def _left_out(train_y: np.ndarray, config: ProbeConfig, class_names: Sequence[str]) -> dict[str, str]:
    """The probes that the training labels do not allow, each with the reason."""
    if len(np.unique(train_y)) < 2:
        reason = (
            f"All probe training images are of class {class_name(int(train_y[0]), class_names)}: nothing to classify."
        )
        return dict.fromkeys(COLUMNS, reason)
    shortage = label_shortage(train_y, config.labels_per_class, class_names)
    return {"linear_few": f"{COLUMNS['linear_few']} left out: {shortage}"} if shortage else {}


def _notes(train_y: np.ndarray, test_y: np.ndarray, config: ProbeConfig, class_names: Sequence[str]) -> list[str]:
    notes = []
    unseen = [class_name(int(label), class_names) for label in np.setdiff1d(test_y, train_y)]
    if unseen:
        more = f" and {len(unseen) - 5} more" if len(unseen) > 5 else ""
        notes.append(
            f"Test images of {', '.join(unseen[:5])}{more} count as wrong: no training image shows that class."
        )
    if config.knn_k > len(train_y):
        notes.append(f"k-NN used all {len(train_y)} training images, fewer than k = {config.knn_k}.")
    return notes


def _protocol(column: str, train: int, test: int, config: ProbeConfig) -> str:
    images = f"frozen features of the last checkpoint, {train:,} training and {test:,} test images"
    if column == "knn":
        k = min(config.knn_k, train)
        return f"k = {k}, cosine, votes weighted by exp(cosine / {config.knn_temperature:g}); {images}."
    if column == "linear":
        grid = ", ".join(f"{s:g}" for s in sorted(STRENGTHS))
        return (
            f"multinomial logistic regression, standardised features, L2 strength of {grid} chosen on a third of the "
            f"training images, L-BFGS of at most {MAX_ITERATIONS} iterations; {images}."
        )
    return (
        f"the same with {config.labels_per_class} labels per class, L2 strength {FEW_STRENGTH:g}, "
        f"mean and standard deviation of {config.few_label_draws} draws of the labels; {images}."
    )
