"""Which files of a run directory are whole, and why the others are not. Checkpoints are checked by their checksum."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from eigenview.errors import UserError
from eigenview.runfiles import names
from eigenview.runfiles.formats import (
    CARD_KIND,
    read_config,
    read_diagnostics,
    read_environment,
    read_gallery,
    read_metrics,
    read_probes,
    read_spectra,
    read_summary,
)
from eigenview.runfiles.hits import read_hits
from eigenview.runfiles.opening import open_regular
from eigenview.runfiles.reading import file_bytes, read_arrays, read_object, read_table
from eigenview.runfiles.sealing import is_intact


@dataclass(frozen=True)
class FileState:
    """What was found of one file."""

    name: str
    state: Literal["whole", "missing", "damaged"]
    why: str = ""
    """Of a missing file: whether the run needs it; of a damaged one: the reason."""
    is_needed: bool = True
    """A run that has come as far as this one has the file."""


def check_run(directory: Path) -> list[FileState]:
    """One entry for each file that a run directory can hold, read completely."""
    has_ended = (directory / names.SUMMARY).exists()
    is_finished = has_ended and _is_finished(directory)
    of_a_finished_run = (
        {names.ENCODER, names.ENCODER_CARD, names.GALLERY, str(names.CHECKPOINT)} if is_finished else set()
    )
    of_an_ended_run = (
        {names.SUMMARY, names.REPORT, names.METRICS, names.DIAGNOSTICS, names.SPECTRA} if has_ended else set()
    )
    needed = {names.CONFIG, names.ENVIRONMENT} | of_a_finished_run | of_an_ended_run
    return [_state(directory, name, read, name in needed) for name, read in READERS.items()]


def _state(directory: Path, name: str, read: Callable[[Path], Any], is_needed: bool) -> FileState:
    path = directory / name
    try:
        if not path.exists():
            return FileState(name, "missing", "" if is_needed else "not every run has it", is_needed)
        read(directory)
    except UserError as error:
        return FileState(name, "damaged", str(error).removeprefix(f"{path} ").removeprefix("is damaged: "))
    except OSError as error:
        return FileState(name, "damaged", f"cannot be read: {error.strerror}")
    return FileState(name, "whole")


def _is_finished(directory: Path) -> bool:
    try:
        return read_summary(directory).get("finished") is True
    except UserError:
        return False  # reported as damaged


def _check_archive(path: Path) -> None:
    try:
        with open_regular(path) as file:
            intact = is_intact(file)
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}.") from error
    if intact is None:
        raise UserError(f"{path} has no checksum: an earlier version wrote it, or it was cut. --resume can tell.")
    if not intact:
        raise UserError(f"{path} is damaged: its content does not fit the checksum in it.")


def _check_encoder(directory: Path) -> None:
    """Weights are compared with the checksum in the card; `load_encoder` also compares them with the network."""
    path, card = directory / names.ENCODER, read_object(directory / names.ENCODER_CARD, CARD_KIND)
    if hashlib.sha256(file_bytes(path)).hexdigest() != card.get("sha256"):
        raise UserError(f"{path} is damaged: its content does not fit the SHA-256 in {names.ENCODER_CARD}.")


READERS: dict[str, Callable[[Path], Any]] = {
    names.CONFIG: read_config,
    names.ENVIRONMENT: read_environment,
    names.METRICS: read_metrics,
    names.DIAGNOSTICS: read_diagnostics,
    names.SPECTRA: read_spectra,
    names.SPECTRA_ROWS: read_spectra,
    str(names.CHECKPOINT): lambda directory: _check_archive(directory / names.CHECKPOINT),
    str(names.PREVIOUS_CHECKPOINT): lambda directory: _check_archive(directory / names.PREVIOUS_CHECKPOINT),
    names.ENCODER: _check_encoder,
    names.ENCODER_CARD: lambda directory: read_object(directory / names.ENCODER_CARD, CARD_KIND),
    names.PROBES: read_probes,
    names.PROBE_HITS: read_hits,
    names.GALLERY: read_gallery,
    names.SUMMARY: read_summary,
    names.DATA_FILES: lambda directory: read_arrays(directory / names.DATA_FILES),
    names.SKIPPED: lambda directory: read_table(directory / names.SKIPPED),
    names.REPORT: lambda directory: file_bytes(directory / names.REPORT),
}
"""How each file of a run is read."""
