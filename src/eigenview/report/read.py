"""A run directory as one record, with empty parts for files that do not exist yet."""

from __future__ import annotations

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
MODES = runfiles.MODES


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """Everything a report reads of one run, in the schemas of runfiles; missing files are empty."""

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
    hits: runfiles.Hits | None
    """Which test images its probes got right; None if that was not kept."""
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
        have the form of runfiles.
    """
    if not directory.is_dir():
        what = "is a file" if directory.exists() else "does not exist"
        raise UserError(f"{directory} {what}; give the directory of a run (pretrain's --out).")
    if not (directory / runfiles.CONFIG).exists():
        raise UserError(f"{directory} is not a run: it has no {runfiles.CONFIG}. Give the directory of a run.")
    path = directory.resolve()
    environment = runfiles.read_environment(directory) if (directory / runfiles.ENVIRONMENT).exists() else {}
    if isinstance(environment.get("defaults"), dict):
        environment["defaults"] = todays_names(environment["defaults"])
    return RunRecord(
        name=path.name,
        path=path,
        config=todays_names(runfiles.read_config(directory)),
        environment=environment,
        summary=runfiles.read_summary(directory) if (directory / runfiles.SUMMARY).exists() else {},
        probes=runfiles.read_probes(directory) if (directory / runfiles.PROBES).exists() else {},
        metrics=runfiles.read_metrics(directory),
        diagnostics=runfiles.read_diagnostics(directory),
        spectra=runfiles.read_spectra(directory),
        gallery=runfiles.read_gallery(directory),
        hits=runfiles.read_hits(directory),
        skipped=len(runfiles.read_table(directory / runfiles.SKIPPED))
        if (directory / runfiles.SKIPPED).exists()
        else 0,
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
