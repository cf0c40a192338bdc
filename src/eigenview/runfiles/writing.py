"""How files are written: atomically, beside their target, with a checksum where a run reads them back."""

from __future__ import annotations

import csv
import errno
import glob
import io
import json
import math
import os
import tempfile
import time
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import numpy as np

from eigenview.errors import UserError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

CHECKSUM = "checksum"
"""Field of JSON files and of rows that holds the CRC-32 of everything else in them, as 8 hexadecimal digits."""
ABANDONED_SECONDS = 60.0
"""A temporary file that nobody has locked and that has not changed for so long was left by a writer that was killed."""
WITHOUT_LOCKS = 3600.0
"""The same on file systems without locks."""


@contextmanager
def atomic_write(path: Path, mode: int = 0o644) -> Iterator[IO[bytes]]:
    """A file that appears under its name only when it is complete and on disk: written beside it, then renamed.

    It is locked until then, by which `delete_leftovers` knows it from one whose writer was killed.

    Raises: OSError, and then the target is as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    lock = os.dup(handle)  # holds the lock when the file is closed
    try:
        _lock(lock)
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, mode)
        os.replace(temporary, path)
    finally:
        os.close(lock)
        Path(temporary).unlink(missing_ok=True)  # renamed already if all went well


def open_temporary(path: Path) -> IO[bytes]:
    """A file beside `path` that is deleted when it is closed, or by `delete_leftovers` if its writer is killed.

    Raises: OSError.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    file = tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.")  # noqa: SIM115
    _lock(file.fileno())
    return file  # pyright: ignore[reportReturnType]


def _lock(handle: int) -> bool | None:
    """Lock a file for this process; False if another one has locked it, None where there are no locks."""
    if fcntl is None:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return False if error.errno == errno.EWOULDBLOCK else None
    return True


def keep_copy(path: Path, copy: Path) -> None:
    """Let `copy` name the file that `path` names now, if there is one, so that `path` can be replaced.

    `path` stays where it is (a second link to the file), except on file systems without links: there it is renamed.
    """
    if not path.exists():
        return
    second = _linked(path, copy) or path
    try:
        os.replace(second, copy)
    except OSError:  # something that is no file has the name of the copy
        if second != path:
            second.unlink()
        raise


def write_link(path: Path, link: Path) -> None:
    """Let `link` name the same file as `path`, whatever had that name; a copy on file systems without links.

    Raises: UserError if neither can be written.
    """
    second = _linked(path, link)
    if second is None:
        write_bytes(link, path.read_bytes())
        return
    try:
        os.replace(second, link)
    except OSError as error:
        second.unlink()
        raise cannot_write(link, error) from error


def _linked(path: Path, beside: Path) -> Path | None:
    """A second link to a file, with a temporary name beside another one; None on file systems without links."""
    second = beside.with_name(f".{beside.name}.{'link':_>8}")  # a name that `delete_leftovers` knows
    try:
        second.unlink(missing_ok=True)
        os.link(path, second)
    except OSError:
        return None
    return second


def delete_leftovers(path: Path, *, older_than: float | None = None) -> None:
    """Delete the temporary files of `path` that killed writers left.

    older_than: by default, files are left alone that are locked or have just changed; with a number of seconds only
    their age decides.
    """
    for old in path.parent.glob(f".{glob.escape(path.name)}.????????"):
        with suppress(OSError):
            if _is_abandoned(old) if older_than is None else _age(old) >= older_than:
                old.unlink()


def delete_abandoned(folder: Path) -> None:
    """Delete the temporary files of all files in a folder that killed writers left."""
    for old in folder.glob(".?*.????????"):
        with suppress(OSError):
            if _is_abandoned(old):
                old.unlink()


def _is_abandoned(path: Path) -> bool:
    if _age(path) < ABANDONED_SECONDS:
        return False
    handle = os.open(path, os.O_RDWR)
    try:
        is_free = _lock(handle)
        return _age(path) >= WITHOUT_LOCKS if is_free is None else is_free
    finally:
        os.close(handle)


def _age(path: Path) -> float:
    return time.time() - path.stat().st_mtime


def cannot_write(path: Path, error: OSError) -> UserError:
    """The error of a file that cannot be written."""
    return UserError(f"{path} cannot be written: {error.strerror}. Free space or choose another --out.")


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file atomically. Raises UserError if it cannot be written."""
    try:
        delete_leftovers(path)
        with atomic_write(path) as file:
            file.write(content)
    except OSError as error:
        raise cannot_write(path, error) from error


def write_text(path: Path, text: str) -> None:
    """Write text atomically, as UTF-8. Bytes of a name that are none (lone surrogates in Python) become \\udcXX."""
    write_bytes(path, text.encode("utf-8", "backslashreplace"))


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


def checksum(value: dict[str, Any]) -> str:
    """Of a JSON object without its field `checksum`: the same however it is indented and in whichever order."""
    content = {name: each for name, each in value.items() if name != CHECKSUM}
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return f"{zlib.crc32(text.encode()):08x}"


def write_json(path: Path, value: Any) -> None:
    """JSON, indented, atomically; non-finite numbers become null."""
    write_bytes(path, (json.dumps(json_ready(value), indent=2, allow_nan=False) + "\n").encode())


def write_object(path: Path, value: dict[str, Any]) -> None:
    """JSON as `write_json`, with the checksum that `read_object` compares."""
    content = json.loads(json.dumps(json_ready(value), allow_nan=False))
    content.pop(CHECKSUM, None)
    write_json(path, content | {CHECKSUM: checksum(content)})


def row_line(row: dict[str, Any]) -> bytes:
    """A row of a .jsonl file with the checksum of its text before that field."""
    text = json.dumps(json_ready(row), allow_nan=False)
    text = text[:-1] + (", " if row else "")
    return f'{text}"{CHECKSUM}": "{zlib.crc32(text.encode()):08x}"}}\n'.encode()


def append_row(path: Path, row: dict[str, Any]) -> None:
    """One line of JSON at the end of a .jsonl file."""
    try:
        with path.open("ab") as file:
            file.write(row_line(row))
    except OSError as error:
        raise cannot_write(path, error) from error


def write_rows(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """A whole .jsonl file, atomically."""
    write_bytes(path, b"".join(map(row_line, rows)))


def write_arrays(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """A compressed .npz, atomically; the format has a checksum of each array."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
    write_bytes(path, buffer.getvalue())


def write_table(path: Path, header: tuple[str, ...], rows: Iterable[tuple[object, ...]]) -> None:
    """A CSV file, atomically."""
    buffer = io.StringIO()
    writer = csv.writer(buffer)
    writer.writerow(header)
    writer.writerows(rows)
    write_bytes(path, buffer.getvalue().encode(errors="replace"))
