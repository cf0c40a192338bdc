"""A run directory as one record, with empty parts for files that do not exist yet."""

from __future__ import annotations

import csv
import zipfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from eigenview import runfiles
from eigenview.config.names import upgrade
from eigenview.errors import UserError

Row = dict[str, Any]
MODES = ("F", "W_p", "alignment")
"""The arrays of spectra.npz that runs with a predictor have."""


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """Everything a report reads of one run, in the schemas of runfiles.py; missing files are empty."""

    name: str
    """Name of the directory, with as many parent folders as needed to distinguish it from the other runs."""
    path: Path
    config: Row
    environment: Row
    summary: Row
    probes: Row
    metrics: list[Row]
    diagnostics: list[Row]
    spectra: dict[str, np.ndarray]
    gallery: dict[str, np.ndarray]
    skipped: int
    """Unreadable images listed in skipped.csv."""

    @property
    def method(self) -> str:
        """Name of the method, empty if it was not recorded."""
        options = self.config.get("method")
        return str(self.summary.get("method") or (options.get("name") if isinstance(options, dict) else "") or "")


def read_run(directory: Path) -> RunRecord:
    """The record of one run, finished or not.

    Raises: UserError if `directory` does not exist, is not a run (no config.json), or has a file whose content does not
        have the form of runfiles.py.
    """
    if not directory.is_dir():
        what = "is a file" if directory.exists() else "does not exist"
        raise UserError(f"{directory} {what}; give the directory of a run (pretrain's --out).")
    if not (directory / runfiles.CONFIG).exists():
        raise UserError(f"{directory} is not a run: it has no {runfiles.CONFIG}. Give the directory of a run.")
    path = directory.resolve()
    environment = _object(directory / runfiles.ENVIRONMENT)
    if isinstance(environment.get("defaults"), dict):
        environment["defaults"] = todays_names(environment["defaults"])
    return RunRecord(
        name=path.name,
        path=path,
        config=todays_names(_object(directory / runfiles.CONFIG)),
        environment=environment,
        summary=_object(directory / runfiles.SUMMARY),
        probes=_object(directory / runfiles.PROBES),
        metrics=_rows(directory / runfiles.METRICS),
        diagnostics=_rows(directory / runfiles.DIAGNOSTICS),
        spectra=_spectra(directory / runfiles.SPECTRA),
        gallery=_gallery(directory / runfiles.GALLERY),
        skipped=_num_skipped(directory / runfiles.SKIPPED),
    )


def todays_names(config: Row) -> Row:
    """A config.json of any version with today's names. Removed options stay, because the run was made with them."""
    values = dict(config)
    if isinstance(values.get("method"), str):
        values["method"] = {"name": values["method"], **values.pop("objective", {})}
    return upgrade(values)


def read_runs(directories: Sequence[Path]) -> list[RunRecord]:
    """The records of several runs, without duplicates, under different names."""
    unique = list(dict.fromkeys(Path(d).resolve() for d in directories))
    if not unique:
        raise UserError("a report needs at least one run directory; got none.")
    records = [read_run(path) for path in unique]
    depth = 1
    while max(Counter(r.name for r in records).values()) > 1:
        depth += 1
        records = [replace(r, name="/".join(r.path.parts[-depth:])) for r in records]
    return records


def _object(path: Path) -> Row:
    if not path.exists():
        return {}
    value = runfiles.read_json(path)
    if not isinstance(value, dict):
        raise UserError(f"{path} is damaged: it holds a {type(value).__name__}, not an object with named fields.")
    return value


def _rows(path: Path) -> list[Row]:
    try:
        return [row for row in runfiles.read_rows(path) if isinstance(row, dict)]
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is damaged: {error}.") from error


def _arrays(path: Path) -> dict[str, np.ndarray]:
    try:
        return runfiles.read_arrays(path)
    except (zipfile.BadZipFile, ValueError, EOFError) as error:
        raise UserError(f"{path} is damaged: {error}.") from error


def _spectra(path: Path) -> dict[str, np.ndarray]:
    arrays = _arrays(path)
    steps = arrays.get("step")
    for name in ("h", "z", *MODES):
        values = arrays.get(name)
        if values is not None and (
            steps is None or values.ndim != 2 or len(values) != len(steps) or values.dtype.kind != "f"
        ):
            raise UserError(f"{path} is damaged: {name} has shape {values.shape}; expected a row per step.")
    shapes = [arrays[name].shape for name in MODES if name in arrays]
    if shapes and shapes != [shapes[0]] * len(MODES):
        raise UserError(f"{path} is damaged: it needs {', '.join(MODES)} of one shape; it has {shapes}.")
    return arrays


def _gallery(path: Path) -> dict[str, np.ndarray]:
    arrays = _arrays(path)
    for name, axes in (("originals", 4), ("views", 5), ("queries", 4), ("neighbours", 5)):
        images = arrays.get(name)
        if images is not None and (images.ndim != axes or images.shape[-3] != 3 or images.dtype != np.uint8):
            raise UserError(
                f"{path} is damaged: {name} is {images.dtype} of shape {images.shape}; "
                f"expected uint8 with {axes} axes, the last three 3, height, width."
            )
    shape = {name: values.shape for name, values in arrays.items()}
    if ("originals" in shape) != ("views" in shape) or shape.get("originals", (0,))[:1] != shape.get("views", (0, 0))[
        1:2
    ]:
        raise UserError(f"{path} is damaged: it needs originals and views of the same number of images.")
    rows = {name: shape[name][:axes] for name, axes in (("neighbours", 2), ("cosines", 2)) if name in shape}
    if "queries" in shape and (len(rows) < 2 or len({*rows.values()}) > 1 or rows["cosines"][0] != shape["queries"][0]):
        raise UserError(f"{path} is damaged: it needs neighbours and cosines for each of its queries.")
    return arrays


def _num_skipped(path: Path) -> int:
    """Number of rows after the header."""
    if not path.exists():
        return 0
    with path.open(newline="", errors="replace") as file:
        return max(0, sum(1 for _ in csv.reader(file)) - 1)
