"""Which files a run was trained on, so that a resumed run notices other data.

data_files.npz in the run directory: for each part, "train", "probes" and, if there are any, "weights", uint64 (N,)
hashes of the files, once of name and size ("PART") and once of the time of change too ("PART_times"), both in the order
of the files.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from eigenview import runfiles
from eigenview.config import RunConfig
from eigenview.data.images import File, printable
from eigenview.data.load import absolute, absolute_labels
from eigenview.data.npz import read_npz
from eigenview.data.sources.arrays import READ_ERRORS
from eigenview.engine.plan import Plan
from eigenview.engine.resume import Resumed
from eigenview.errors import UserError

SWITCH = "--allow-changed-data"


class Change(NamedTuple):
    """How the files of a part differ from those that the run began with."""

    part: str
    files: int
    """Files there are now, or were at the start if there were more."""
    other: int
    """Of these, files that changed, are new, or are gone."""
    first: str
    """A file that changed or is new; empty if files are only gone."""

    def __str__(self) -> str:
        what = {"train": "training data", "probes": "probe data", "weights": "weights to start from"}[self.part]
        named = f", such as {printable(self.first)}" if self.first else ", which are gone"
        return f"{self.other:,} of {self.files:,} files of the {what} differ from those this run began with{named}"


def files_of(plan: Plan) -> dict[str, tuple[File, ...]]:
    """The files of each part of the data."""
    probes = () if plan.probes is None else tuple(dict.fromkeys((*plan.probes[0].files, *plan.probes[1].files)))
    weights = {} if plan.start is None or not plan.start.files else {"weights": plan.start.files}
    return {"train": plan.train.files, "probes": probes, **weights}


def write_files(directory: Path, plan: Plan) -> None:
    """Note the files of this run's data."""
    arrays: dict[str, np.ndarray] = {}
    for part, files in files_of(plan).items():
        arrays[part], arrays[f"{part}_times"] = hashes(files)
    runfiles.write_arrays(directory / runfiles.DATA_FILES, arrays)


def changes(directory: Path, plan: Plan, *, moved: Collection[str] = ()) -> list[Change]:
    """How the data differ from what `write_files` noted; nothing for a run of an earlier version, which noted none.

    moved: parts that are given at another place. A copy has other times, so names and sizes are compared alone.
    """
    path = directory / runfiles.DATA_FILES
    if not path.exists():
        return []
    noted = _read(path)
    found: list[Change] = []
    for part, files in files_of(plan).items():
        if part not in noted:  # weights of a run that noted none
            continue
        is_moved = part in moved
        now, before = hashes(files)[0 if is_moved else 1], noted[part if is_moved else f"{part}_times"]
        is_new = ~np.isin(now, before)
        # a file that changed is new and gone, and counts once
        other = max(int(is_new.sum()), int((~np.isin(before, now)).sum()))
        if other:
            first = files[int(np.argmax(is_new))].name if is_new.any() else ""
            found.append(Change(part, max(len(now), len(before)), other, first))
    return found


def check_data(directory: Path, plan: Plan, resumed: Resumed) -> tuple[str, ...]:
    """What the user should know of how a resumed run differs from before, a sentence each.

    Raises UserError if files changed and that is not allowed.
    """
    config, stored = plan.config, resumed.stored
    was, now = (_places(each) for each in (stored, config))
    moved = [part for part in now if now[part] != was[part]]
    found = changes(directory, plan, moved=moved)
    if not resumed.allow_changed_data:
        refuse(found, config)
    notes = tuple(str(change) for change in found)
    compared = "lie elsewhere now: names and sizes of the files were compared, not their times"
    if moved and moved != ["weights"]:
        notes += (f"the data {compared}",)
    if "weights" in moved:
        notes += (f"the weights to start from {compared}",)
    if config.epochs > stored.epochs:
        notes += (
            f"{config.epochs} epochs instead of {stored.epochs}: learning rate and target network follow the schedule "
            f"of {config.epochs} epochs from here on, so the result is not that of {config.epochs} epochs at once",
        )
    return notes


def _places(config: RunConfig[Any]) -> dict[str, tuple[str, ...]]:
    """Where each part of the data lies."""
    labels, probe_data = absolute_labels(config.labels), config.probe_data or config.data
    places: dict[str, tuple[str, ...]] = {
        "train": (absolute(config.data), labels),
        "probes": (absolute(probe_data), labels),
    }
    return places | {"weights": () if config.weights is None else (absolute(config.weights),)}


def refuse(found: Iterable[Change], config: RunConfig[Any]) -> None:
    """Raises UserError if there is any change."""
    for change in found:
        where = config.weights if change.part == "weights" else config.data
        raise UserError(
            f"{where}: {change}. Restore them, or add {SWITCH} to go on with the data as they are now (the result is "
            "then that of no single data set); a new run needs another --out."
        )


def hashes(files: Iterable[File]) -> tuple[np.ndarray, np.ndarray]:
    """uint64 (N,) of name and size, and of name, size and time."""
    both = [_hashes(file) for file in files]
    table = np.array(both, np.uint64).reshape(-1, 2)
    return table[:, 0].copy(), table[:, 1].copy()


def _hashes(file: File) -> tuple[int, int]:
    digest = hashlib.blake2b(os.fsencode(file.name) + f"\0{file.bytes}".encode(), digest_size=8)
    first = digest.digest()
    digest.update(f"\0{file.modified}".encode())
    return int.from_bytes(first, "little"), int.from_bytes(digest.digest(), "little")


def _read(path: Path) -> Mapping[str, np.ndarray]:
    """The file, checked. Raises UserError for a damaged one."""
    names = [f"{part}{suffix}" for part in ("train", "probes", "weights") for suffix in ("", "_times")]
    advice = "Delete it to go on without comparing the data."
    try:
        arrays, _ = read_npz(path, lambda name, header: name in names and not header.dtype.hasobject)
    except (OSError, *READ_ERRORS) as error:
        raise UserError(f"{path} is damaged: {error}. {advice}") from error
    for name in names if "weights" in arrays else names[:4]:
        array = arrays.get(name)
        if array is None or array.dtype != np.uint64 or array.ndim != 1:
            raise UserError(f"{path} is damaged: it has no list {name} of files. {advice}")
    return arrays
