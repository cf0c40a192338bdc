"""The probe table: every probe on every set of features, with a sentence on how each number was measured."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from eigenview.config import ProbeConfig
from eigenview.errors import require
from eigenview.probes.cache import cached, fingerprint
from eigenview.probes.labels import checked, class_name, count_classes
from eigenview.probes.protocols import PROTOCOLS, TITLES

if TYPE_CHECKING:
    from eigenview.terminal import Console

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
    columns: Sequence[str] = tuple(TITLES),
    progress: Callable[[str], None] | None = None,
    shared: Collection[str] = (),
    memory: Path | None = None,
) -> dict[str, Any]:
    """The content of probes.json (runfiles.py): percent of test images classified correctly, a row for each of `rows`.

    `columns` are names of probes (protocols.py). Each row also has `linear_few_std`, the standard deviation over draws.
    A probe that these labels do not allow is null and `note` has the reason, so that a long run keeps its other
    numbers. `progress` is called with the name of each probe before it starts. Rows named in `shared` have the same
    features in other runs: their numbers are read from the folder `memory` if they are there (cache.py).

    Raises: UserError for labels that are missing or do not fit the features, and for an unknown column.
    """
    for column in columns:
        require(column in TITLES, "column", column, ", ".join(TITLES))
    chosen = [protocol for column in columns for protocol in PROTOCOLS if protocol.name == column]
    first = next(iter(rows.values()))
    train_y, test_y = checked(first[0], train_labels, "train"), checked(first[1], test_labels, "test")
    num_classes = count_classes(train_y, test_y, class_names)
    skipped = {p.name: why for p in PROTOCOLS if (why := p.reason_to_skip(train_y, config, class_names))}
    table = []
    for name, (train_x, test_x) in rows.items():
        numbers: dict[str, Any] = {"features": name}
        arrays = (train_x, train_y, test_x, test_y)
        folder = memory if name in shared else None
        data = f"{fingerprint(arrays)} {num_classes}" if folder is not None else ""
        for protocol in chosen:
            if progress is not None:
                progress(f"{protocol.title} on {name}")
            if protocol.name in skipped:
                numbers[protocol.name] = None
                continue
            compute = partial(protocol.run, arrays, config, num_classes, seed)
            numbers |= cached(compute, folder, data, protocol.name, config, seed)
        table.append(numbers)
    notes = [reason for name, reason in skipped.items() if name in columns]
    notes += _notes(train_y, test_y, config, class_names)
    return {
        "protocols": {p.name: p.describe(len(train_y), len(test_y), config) for p in chosen},
        "columns": list(columns),
        "rows": table,
        "note": " ".join(dict.fromkeys(notes)) or None,
        "class_names": list(class_names),
    }


def show_probes(probes: dict[str, Any], console: Console) -> None:
    """Print the table: a row per set of features, the best of a column in bold, protocols below."""
    from eigenview.terminal import styled, table

    columns = probes["columns"]
    best = {c: max((row[c] for row in probes["rows"] if row[c] is not None), default=None) for c in columns}
    rows = [
        [row["features"], *(styled((_cell(row, c), "bold" if row[c] == best[c] else "")) for c in columns)]
        for row in probes["rows"]
    ]
    console.print(table(["accuracy in percent", *(TITLES[c] for c in columns)], rows))
    for column in columns:
        console.print(styled((f"{TITLES[column]}: {probes['protocols'][column]}", "dim")))
    if probes["note"]:
        console.print(styled((probes["note"], "dim")))


def _cell(row: dict[str, Any], column: str) -> str:
    value, spread = row[column], row.get(f"{column}_std")
    if value is None:
        return "-"
    return f"{value:.1f}" + (f" ± {spread:.1f}" if spread is not None else "")


def _notes(train_y: np.ndarray, test_y: np.ndarray, config: ProbeConfig, class_names: Sequence[str]) -> list[str]:
    notes = []
    unseen = [class_name(int(label), class_names) for label in np.setdiff1d(test_y, train_y)]
    if unseen:
        more = f" and {len(unseen) - 5} more" if len(unseen) > 5 else ""
        notes.append(
            f"Test images of {', '.join(unseen[:5])}{more} count as wrong: no training image shows that class."
        )
    return notes + [note for p in PROTOCOLS if (note := p.note(len(train_y), config))]
