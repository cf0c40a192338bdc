"""The run directory: names, atomic writes, reading back. Free of torch; the report reads nothing else.

config.json         RunConfig as JSON (config.to_dict)
environment.json    {"eigenview", "python", "torch", "platform", "device", "threads", "commit", "command": [...],
                     "started": ISO time, "defaults": the configuration this method starts from by default,
                     "estimated_memory_gb", "measured_memory_gb", "estimated_seconds": or null}
                     of the run as it began; "resumed": a list of {"step", "started", "commit", "torch", "device",
                     "eigenview"} where it was continued; "command" is empty for a call in Python
metrics.jsonl       a row each monitor.log_every_steps steps: {"step", "epoch" (float), "seconds", "lr", "loss",
                     "terms": {name: weighted value}, "images_per_second", "target_momentum" (or null)}
diagnostics.jsonl   a row each diagnosis: {"step", "epoch", "h": {measure: value}, "z": {measure: value},
                     "verdict": label so far}; measures of diagnostics/measures.py, non-finite ones as null. With a
                     predictor also "predictor": {measure: value} of diagnostics/predictor.py
spectra.npz         "step" (T), "h" (T, H), "z" (T, D): eigenvalues of the covariance, descending. With a predictor
                     also "F", "W_p", "alignment", each (T, D): eigenvalues of the second moment of z, descending,
                     v^T W_p v and cos(v, W_p v) of its eigenvectors v; nan where W_p is not determined; "noise" and,
                     with a target, "target": the variance between an image's views and tau, both along v
gallery.npz         "originals" uint8 (K, 3, S, S), "views" uint8 (V, K, 3, S, S) as the network saw them;
                     "queries" uint8 (Q, 3, S, S), "neighbours" uint8 (Q, R, 3, S, S), "cosines" float32 (Q, R)
                     nearest neighbours by cosine of h; optional "query_labels" (Q,), "neighbour_labels" (Q, R)
probes.json         {"protocols": {column: sentence}, "columns": [...], "rows": [{"features": name,
                     column: percent or null, ...}], "note": text or null, "class_names": [...]}
summary.json        {"verdict", "since_epoch", "reason", "remedies": [...], "notes": [...], "method", "seed",
                     "epochs", "data", "images", "encoder", "parameters", "knn", "linear", "linear_few",
                     "baselines": {name: {"knn", "linear", "linear_few"}}, "quality": {measure: value},
                     "seconds", "images_per_second", "finished": bool}; missing numbers are null
skipped.csv         path,reason of each unreadable image
checkpoints/last.ckpt, encoder.safetensors, encoder.json, report.html
.writer             the number of the process that is writing here, while it writes (`run_lock`)
"""

from __future__ import annotations

import csv
import errno
import io
import itertools
import json
import math
import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import numpy as np

from eigenview.errors import UserError
from eigenview.launched import launched_rank

try:
    import fcntl
except ImportError:  # Windows, where two processes that write one run are not kept apart
    fcntl = None

CONFIG, ENVIRONMENT, SUMMARY, PROBES = "config.json", "environment.json", "summary.json", "probes.json"
METRICS, DIAGNOSTICS = "metrics.jsonl", "diagnostics.jsonl"
SPECTRA, GALLERY, SKIPPED, REPORT = "spectra.npz", "gallery.npz", "skipped.csv", "report.html"
CHECKPOINT = Path("checkpoints") / "last.ckpt"
WRITER = ".writer"
ENCODER, ENCODER_CARD = "encoder.safetensors", "encoder.json"


@contextmanager
def atomic_write(path: Path, mode: int = 0o644) -> Iterator[IO[bytes]]:
    """A file that appears under its name only when it is complete and on disk: written beside it, then renamed.

    Raises: OSError, and then the target is as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, mode)
        os.replace(temporary, path)
    finally:
        Path(temporary).unlink(missing_ok=True)  # renamed already if all went well


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file atomically. Raises UserError if it cannot be written."""
    try:
        with atomic_write(path) as file:
            file.write(content)
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror}. Free space or choose another --out.") from error


def json_ready(value: Any) -> Any:
    """The same JSON-ready structure with non-finite numbers as None (JSON has no NaN) and NumPy scalars as Python's."""
    if isinstance(value, dict):
        return {str(k): json_ready(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [json_ready(v) for v in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def write_json(path: Path, value: Any) -> None:
    """JSON, indented, atomically; non-finite numbers become null."""
    write_bytes(path, (json.dumps(json_ready(value), indent=2, allow_nan=False) + "\n").encode())


def read_json(path: Path) -> Any:
    """A JSON file of a run; a missing or damaged one is an error naming it."""
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        raise UserError(f"{path} is missing: {path.parent} is not a finished eigenview run.") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is damaged: {error}.") from error
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}.") from error


def append_row(path: Path, row: dict[str, Any]) -> None:
    """One line of JSON at the end of a .jsonl file."""
    try:
        with path.open("a") as file:
            file.write(json.dumps(json_ready(row), allow_nan=False) + "\n")
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror}. Free space or choose another --out.") from error


def read_rows(path: Path) -> list[dict[str, Any]]:
    """All complete rows; a last line cut off by a kill is dropped. A missing file has no rows."""
    if not path.exists():
        return []
    rows: list[dict[str, Any]] = []
    for line in path.read_text().splitlines():
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return rows


def keep_rows(path: Path, last_step: int) -> None:
    """Drop rows after `last_step`: a resumed run writes them again."""
    if path.exists():
        kept = [row for row in read_rows(path) if row["step"] <= last_step]
        write_bytes(path, "".join(json.dumps(row) + "\n" for row in kept).encode())


def write_arrays(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """A compressed .npz, atomically."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
    write_bytes(path, buffer.getvalue())


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a .npz, never unpickling; empty for a missing file."""
    if not path.exists():
        return {}
    # opened here, since NumPy leaves the file open when the archive in it is damaged
    with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}


def write_table(path: Path, header: tuple[str, ...], rows: Iterable[tuple[object, ...]]) -> None:
    """A CSV file, atomically."""
    buffer = io.StringIO()
    writer = csv.writer(buffer)
    writer.writerow(header)
    writer.writerows(rows)
    write_bytes(path, buffer.getvalue().encode())


def read_table(path: Path) -> dict[str, str]:
    """A CSV file of two columns as {first: second}, without its header."""
    with path.open(newline="", encoding="utf-8", errors="replace") as file:
        return {row[0]: row[1] for row in list(csv.reader(file))[1:] if len(row) == 2}


def set_name(data: str) -> str:
    """The last folder or file in what the user gave as data: `photos` of hf:sets/photos?split=train."""
    return Path(data.removeprefix("hf:").partition("?")[0].rstrip("/")).name


@contextmanager
def run_dir(given: Path | None, data: str, method: str, root: Path = Path("runs")) -> Iterator[Path]:
    """The directory for a run: the one given, or `root`/<data>-<method>-<n> with the first free n, created
    at once so that runs started together get different ones. It is removed if the run writes nothing into it."""
    if given is not None:
        yield given
        return
    stem = f"{set_name(data) or 'data'}-{method}"
    numbered = (root / f"{stem}-{n}" for n in itertools.count(1))
    if launched_rank() != 0:
        yield next(path for path in numbered if not path.exists())  # the first process makes and writes its own
        return
    had_root, directory = root.exists(), None
    while directory is None:
        path = next(path for path in numbered if not path.exists())
        try:
            path.mkdir(parents=True)
            directory = path
        except FileExistsError:  # another process has made it in the meantime
            continue
        except OSError as error:
            raise UserError(f"{path} cannot be created: {error.strerror}. Choose another place with --out.") from error
    try:
        yield directory
    finally:
        with suppress(OSError):  # raises if there is anything in it
            directory.rmdir()
            if not had_root:
                root.rmdir()


def create_run_dir(directory: Path) -> None:
    """Refuse a directory that already holds something that is not ours to overwrite; create it otherwise."""
    if directory.exists() and not directory.is_dir():
        raise UserError(f"--out {directory} is a file; give a directory.")
    if directory.exists() and any(path.name != WRITER for path in directory.iterdir()):
        what = "another run" if (directory / CONFIG).exists() else "other files"
        hint = "Continue it with --resume, or choose" if what == "another run" else "Choose"
        raise UserError(f"--out {directory} already holds {what}. {hint} another --out.")
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--out {directory} cannot be created: {error.strerror}.") from error


@contextmanager
def run_lock(directory: Path) -> Iterator[None]:
    """Keep every other process from writing this run: two that resume it would write over each other.

    The system releases the lock when the process ends, also if it is killed, so that the run can be resumed at once.
    """
    try:
        handle = os.open(directory / WRITER, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise UserError(f"{directory} cannot be written: {error.strerror}. Choose another --out.") from error
    try:
        _lock(handle, directory)
        try:
            _sign(handle, directory)
            yield
        finally:
            (directory / WRITER).unlink(missing_ok=True)
    finally:
        os.close(handle)


def _sign(handle: int, directory: Path) -> None:
    """Write this process's number, which the error of a second process shows."""
    try:
        os.truncate(handle, 0)
        os.write(handle, str(os.getpid()).encode())
    except OSError as error:  # a full disk shows here first
        raise UserError(
            f"{directory} cannot be written: {error.strerror}. Free space or choose another --out."
        ) from error


def _lock(handle: int, directory: Path) -> None:
    if fcntl is None:
        return
    try:
        fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP):
            return  # a file system without locks
        if error.errno not in (errno.EACCES, errno.EAGAIN):
            raise
        other = os.read(handle, 32).decode() or "unknown"
        raise UserError(
            f"{directory} is being written by another process, number {other}. Wait until it ends, or stop it (Ctrl-C) "
            "and continue with --resume."
        ) from None
