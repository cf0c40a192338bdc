"""Which files of a run directory are whole, and why the others are not. Checkpoints are checked by their checksum."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from eigenview.errors import UserError
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
from eigenview.runfiles.names import (
    CHECKPOINT,
    CONFIG,
    DATA_FILES,
    DIAGNOSTICS,
    ENCODER,
    ENCODER_CARD,
    ENVIRONMENT,
    GALLERY,
    METRICS,
    PREVIOUS_CHECKPOINT,
    PROBES,
    REPORT,
    SKIPPED,
    SPECTRA,
    SPECTRA_ROWS,
    SUMMARY,
)
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
    has_ended = (directory / SUMMARY).exists()
    is_finished = has_ended and _is_finished(directory)
    of_a_finished_run = {ENCODER, ENCODER_CARD, GALLERY, str(CHECKPOINT)} if is_finished else set()
    of_an_ended_run = {SUMMARY, REPORT, METRICS, DIAGNOSTICS, SPECTRA} if has_ended else set()
    needed = {CONFIG, ENVIRONMENT} | of_a_finished_run | of_an_ended_run
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
        with path.open("rb") as file:
            intact = is_intact(file)
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}.") from error
    if intact is None:
        raise UserError(f"{path} has no checksum: an earlier version wrote it, or it was cut. --resume can tell.")
    if not intact:
        raise UserError(f"{path} is damaged: its content does not fit the checksum in it.")


def _check_encoder(directory: Path) -> None:
    """Weights are compared with the checksum in the card; `load_encoder` also compares them with the network."""
    path, card = directory / ENCODER, read_object(directory / ENCODER_CARD, CARD_KIND)
    if hashlib.sha256(file_bytes(path)).hexdigest() != card.get("sha256"):
        raise UserError(f"{path} is damaged: its content does not fit the SHA-256 in {ENCODER_CARD}.")


READERS: dict[str, Callable[[Path], Any]] = {
    CONFIG: read_config,
    ENVIRONMENT: read_environment,
    METRICS: read_metrics,
    DIAGNOSTICS: read_diagnostics,
    SPECTRA: read_spectra,
    SPECTRA_ROWS: read_spectra,
    str(CHECKPOINT): lambda directory: _check_archive(directory / CHECKPOINT),
    str(PREVIOUS_CHECKPOINT): lambda directory: _check_archive(directory / PREVIOUS_CHECKPOINT),
    ENCODER: _check_encoder,
    ENCODER_CARD: lambda directory: read_object(directory / ENCODER_CARD, CARD_KIND),
    PROBES: read_probes,
    GALLERY: read_gallery,
    SUMMARY: read_summary,
    DATA_FILES: lambda directory: read_arrays(directory / DATA_FILES),
    SKIPPED: lambda directory: read_table(directory / SKIPPED),
    REPORT: lambda directory: file_bytes(directory / REPORT),
}
"""How each file of a run is read."""
