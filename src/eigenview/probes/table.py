"""The probe table: every probe on every set of features, with a sentence on how each number was measured."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

from eigenview.config import ProbeConfig
from eigenview.diagnostics.baselines import MOST_FREQUENT, RAW_PIXELS, RECALIBRATED
from eigenview.errors import require
from eigenview.probes.cache import cached, fingerprint
from eigenview.probes.labels import accuracies, are_unequal, checked, class_name, count_classes
from eigenview.probes.protocols import PROTOCOLS, TITLES, Arrays, Protocol
from eigenview.runfiles import Hits, images_hash

if TYPE_CHECKING:
    from eigenview.terminal import Console

Features = tuple[np.ndarray, np.ndarray]
"""Train (N, H) and test (M, H) features."""


class Probed(NamedTuple):
    """What the probes found."""

    table: dict[str, Any]
    """The content of probes.json (runfiles)."""
    hits: Hits | None
    """Which test images each probe got right; None if no probe could be run."""


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
    notes: Sequence[str] = (),
    device: torch.device | None = None,
    test_images: Sequence[str] = (),
    files: tuple[np.ndarray | None, np.ndarray | None] = (None, None),
) -> Probed:
    """Percent of test images classified correctly, a row for each of `rows`, and which images they are.

    `columns` are names of probes (protocols.py). Each row also has, for each of them, the mean over classes of the
    accuracy of a class, NAME_per_class, and `linear_few_std`, the standard deviation over draws. Where the classes
    differ in size (`labels.are_unequal`) the first row is that of the most frequent class, given as every answer. A
    probe that these labels do not allow is null and `note` has the reason, so that a long run keeps its other numbers;
    `notes` come before it. `progress` is called with the name of each probe before it starts. Rows named in `shared`
    have the same features in other runs: their numbers are read from the folder `memory` if they are there (cache.py).
    `device` is where the products of k-NN are computed, default the CPU. By `test_images` (data/identity.py) other runs
    know whether they were tested on the same ones; without them raw pixels do, if they are a row.
    `files` int (N,), int (M,) say which file each train and test image is a tile or a page of (None: each is a file).

    Raises: UserError for labels that are missing or do not fit the features, and for an unknown column.
    """
    for column in columns:
        require(column in TITLES, "column", column, ", ".join(TITLES))
    chosen = [protocol for column in columns for protocol in PROTOCOLS if protocol.name == column]
    first = next(iter(rows.values()))
    train_y, test_y = checked(first[0], train_labels, "train"), checked(first[1], test_labels, "test")
    num_classes = count_classes(train_y, test_y, class_names)
    given = Arrays(first[0], train_y, first[1], test_y, files[0])
    skipped = {p.name: why for p in PROTOCOLS if (why := p.reason_to_skip(given, config, class_names))}
    place = torch.device("cpu") if device is None else device
    table, right = [], {name: dict[str, np.ndarray]() for name in rows}
    for name, (train_x, test_x) in rows.items():
        numbers: dict[str, Any] = {"features": name}
        arrays = given._replace(train_x=train_x, test_x=test_x)
        folder = memory if name in shared else None
        data = f"{fingerprint(arrays)} {num_classes}" if folder is not None else ""
        for protocol in chosen:
            if progress is not None:
                progress(f"{protocol.title} on {name}")
            if protocol.name in skipped:
                numbers[protocol.name] = None
                continue
            own = protocol.tested(arrays, config)
            compute = partial(_right, protocol, own, config, num_classes, seed, place)
            answers = cached(compute, folder, data, protocol.name, config, seed)
            numbers |= protocol.numbers(answers, own.test_y)
            right[name][protocol.name] = answers
        table.append(numbers)
    found = [*notes, *(reason for name, reason in skipped.items() if name in columns)]
    found += _notes(given, config, class_names, chosen)
    unequal = are_unequal(test_y)
    used = {p.name: given if p.name in skipped else p.tested(given, config) for p in chosen}
    if unequal:
        largest, share, row = _most_frequent(given, used, skipped)
        table.insert(0, row)
        some = next(iter(right.values()))
        right[MOST_FREQUENT] = {p: np.broadcast_to(used[p].test_y == largest, each.shape) for p, each in some.items()}
        name = class_name(largest, class_names)
        found.append(f"{name} is the class of {share:.1f} % of the test images: compare the means of classes as well.")
    content = {
        "protocols": {p.name: p.describe(len(used[p.name].train_y), len(used[p.name].test_y), config) for p in chosen},
        "columns": list(columns),
        "rows": table,
        "per_class": unequal,
        "note": " ".join(_sentence(note) for note in dict.fromkeys(found)) or None,
        "class_names": list(class_names),
    }
    pixels = rows[RAW_PIXELS][1] if RAW_PIXELS in rows else None
    found_hits = _hits(right, test_y, images_hash(test_images, test_y, pixels), used, files[1])
    return Probed(content, found_hits)


def _right(
    protocol: Protocol, used: Arrays, config: ProbeConfig, num_classes: int, seed: int, device: torch.device
) -> np.ndarray:
    """bool (R, m): which test rows the probe classifies correctly, in each draw of the labels."""
    return np.stack([each == used.test_y for each in protocol.run(used, config, num_classes, seed, device)])


def _hits(
    right: Mapping[str, Mapping[str, np.ndarray]],
    test_y: np.ndarray,
    images: str,
    used: Mapping[str, Arrays],
    files: np.ndarray | None,
) -> Hits | None:
    probes = next(iter(right.values()))
    # a probe leaves out whole classes
    tested = {name: np.isin(test_y, used[name].test_y)[None] for name in probes}
    return Hits(images=images, labels=test_y, tested=tested, right=right, files=files) if probes else None


def show_probes(probes: dict[str, Any], console: Console) -> None:
    """Print the table: a row per set of features, the best of a column in bold, protocols below."""
    from eigenview.terminal import styled, table

    columns = probes["columns"]
    shown = [(name, TITLES[name]) for name in columns]
    if probes["per_class"]:
        shown = [each for name, title in shown for each in ((name, title), (f"{name}_per_class", "mean of classes"))]
    best = {c: max((row[c] for row in probes["rows"] if row.get(c) is not None), default=None) for c, _ in shown}
    rows = [
        [
            _indented(row["features"]),
            *(styled((_cell(row, c), "bold" if row.get(c) == best[c] else "")) for c, _ in shown),
        ]
        for row in probes["rows"]
    ]
    console.print(table(["accuracy in percent", *(title for _, title in shown)], rows))
    for column in columns:
        console.print(styled((f"{TITLES[column]}: {probes['protocols'][column]}", "dim")))
    if probes["note"]:
        console.print(styled((probes["note"], "dim")))


def _indented(name: str) -> str:
    """A row that belongs to the one above it is set in."""
    return f"  {name}" if name == RECALIBRATED else name


def _cell(row: dict[str, Any], column: str) -> str:
    value, spread = row.get(column), row.get(f"{column}_std")
    if value is None:
        return "-"
    return f"{value:.1f}" + (f" ± {spread:.1f}" if spread is not None else "")


def _most_frequent(
    given: Arrays, used: Mapping[str, Arrays], skipped: Collection[str]
) -> tuple[int, float, dict[str, Any]]:
    """The most frequent training class, its percentage of the test rows, and the row of always answering it."""
    row: dict[str, Any] = {"features": MOST_FREQUENT}
    largest = int(np.bincount(given.train_y).argmax())
    for name, arrays in used.items():
        always = (None, None) if name in skipped else accuracies(arrays.test_y == largest, arrays.test_y)
        row[name], row[f"{name}_per_class"] = always
    return largest, 100 * float((given.test_y == largest).mean()), row


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:].rstrip(".") + "."


def _notes(given: Arrays, config: ProbeConfig, class_names: Sequence[str], chosen: Sequence[Protocol]) -> list[str]:
    notes = []
    unseen = [class_name(int(label), class_names) for label in np.setdiff1d(given.test_y, given.train_y)]
    if unseen:
        more = f" and {len(unseen) - 5} more" if len(unseen) > 5 else ""
        notes.append(
            f"Test images of {', '.join(unseen[:5])}{more} count as wrong: no training image shows that class."
        )
    return notes + [note for p in chosen if (note := p.note(given, config, class_names))]
