"""Decoded sets as memory-mapped uint8 arrays in the user's cache folder.

An entry is named after the place of the images and a fingerprint of their list (names, bytes, times) and of the
decoder, so it is never stale; the entry of an earlier list of the same place is deleted. Pixels are written front to
back and renamed at the end, then described by a small JSON file; an entry whose files disagree is built anew. Nothing
here is precious: the folder can be deleted at any time.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
import time
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from eigenview.data.chunks import Rows
from eigenview.data.decode import DECODE_VERSION
from eigenview.errors import UserError

WAYS_OUT = "Free space, set EIGENVIEW_CACHE to another folder, or use --loader.cache-gb 0 (decodes at every step)."
_ABANDONED_SECONDS = 3600.0
_CHECKED_ROWS = 64


def cache_folder() -> Path:
    """$EIGENVIEW_CACHE, else eigenview/ in $XDG_CACHE_HOME, else ~/.cache/eigenview."""
    if own := os.environ.get("EIGENVIEW_CACHE"):
        return Path(own).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "eigenview"


@dataclass(frozen=True)
class Entry:
    """What the cache holds, or will hold, of one list of images."""

    place: str
    version: str

    @staticmethod
    def of(place: Path, listing: Iterable[tuple[str, int, int]], what: str = "") -> Entry:
        """The entry of the files `listing` (name, bytes, time in ns) below `place`; `what`: a part of these files."""
        digest = hashlib.sha256(f"{DECODE_VERSION}\0".encode())
        for name, size, modified in listing:
            digest.update(os.fsencode(name) + f"\0{size}\0{modified}\0".encode())
        where = hashlib.sha256(os.fsencode(place.resolve()) + b"\0" + what.encode())
        return Entry(where.hexdigest()[:12], digest.hexdigest()[:20])

    def _file(self, kind: str) -> Path:
        return cache_folder() / f"{self.place}-{self.version}.{kind}"

    def sides(self) -> Rows | None:
        """The short sides kept by `keep_sides`, or None."""
        kept = _read(self._file("sides.json"))
        try:
            return None if kept is None else (np.array(kept["sides"], np.int64), _positions(kept["broken"]))
        except (KeyError, TypeError, ValueError):
            return None

    def keep_sides(self, sides: np.ndarray, broken: dict[int, str]) -> None:
        """Remember the headers' answer: int64 (n,) short sides, and why at positions that have none."""
        self._forget_earlier()
        content = json.dumps({"sides": sides.tolist(), "broken": broken}).encode()
        with _whole(self._file("sides.json")) as file:
            file.write(content)

    def pixels(self, side: int) -> Rows | None:
        """uint8 (n, 3, side, side), memory-mapped, and the reasons of files left out; None if not kept or damaged."""
        card = _read(self._file(f"{side}.json"))
        try:
            # copy-on-write rather than read-only: torch shares the memory without a warning, the file stays as it is
            rows = np.load(self._file(f"{side}.npy"), mmap_mode="c", allow_pickle=False)
            is_whole = card is not None and rows.dtype == np.uint8 and rows.shape == (card["rows"], 3, side, side)
            if card is not None and is_whole and _sample_crc(rows) == card["crc"]:
                return rows, _positions(card["broken"])
        except (OSError, ValueError, EOFError, KeyError, TypeError):
            pass  # missing or damaged: the same to the caller, who builds it
        return None

    def keep_pixels(self, side: int, parts: Iterable[Rows], expected: int) -> Rows:
        """Write the images of `parts` in order, without broken ones, and return them as `pixels` does.

        Raises UserError, leaving nothing behind, when the disk is full or the folder cannot be written.
        """
        self._forget_earlier()
        _check_space(expected * 3 * side * side)
        broken: dict[int, str] = {}
        seen = 0
        with _whole(self._file(f"{side}.npy")) as file:
            # Plain writes, not a writable memory map: on a full disk a map kills the process instead of raising.
            file.write(_header(expected, side))
            for rows, reasons in parts:
                broken |= {seen + i: reason for i, reason in reasons.items()}
                seen += len(rows)
                file.write(np.delete(rows, list(reasons), axis=0).tobytes() if reasons else rows.tobytes())
            file.seek(0)
            file.write(_header(seen - len(broken), side))
        rows = np.load(self._file(f"{side}.npy"), mmap_mode="c", allow_pickle=False)
        card = {"rows": len(rows), "crc": _sample_crc(rows), "broken": broken}
        with _whole(self._file(f"{side}.json")) as file:
            file.write(json.dumps(card).encode())
        return rows, broken

    def _forget_earlier(self) -> None:
        """Delete what an earlier list of the same place left, and files of builds that were killed."""
        for old in cache_folder().glob(f"{self.place}-*"):
            if not old.name.startswith(f"{self.place}-{self.version}."):
                with contextlib.suppress(OSError):
                    old.unlink()
        for unfinished in cache_folder().glob(f".{self.place}-*"):
            with contextlib.suppress(OSError):
                if time.time() - unfinished.stat().st_mtime > _ABANDONED_SECONDS:
                    unfinished.unlink()


def _header(rows: int, side: int) -> bytes:
    """The 128 bytes before the data of a .npy file, of one length whatever the number of rows."""
    text = f"{{'descr': '|u1', 'fortran_order': False, 'shape': ({rows}, 3, {side}, {side}), }}"
    return b"\x93NUMPY\x01\x00" + (118).to_bytes(2, "little") + text.ljust(117).encode() + b"\n"


def _sample_crc(rows: np.ndarray) -> int:
    """Checksum of some rows, evenly spaced: enough to notice a file that was cut, zeroed or overwritten."""
    picks = np.unique(np.linspace(0, len(rows) - 1, _CHECKED_ROWS).astype(int)) if len(rows) else []
    return zlib.crc32(b"".join(rows[i].tobytes() for i in picks))


def _positions(broken: dict[str, str]) -> dict[int, str]:
    return {int(position): reason for position, reason in broken.items()}


def _read(path: Path) -> dict[str, Any] | None:
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None


def _check_space(needed: int) -> None:
    folder = cache_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(folder).free
    except OSError as error:
        raise UserError(f"the cache folder {folder} cannot be used: {error.strerror}. {WAYS_OUT}") from error
    if free < needed:
        raise UserError(
            f"the decoded images need {needed / 1e9:.2f} GB in {folder}, where {free / 1e9:.2f} GB are free. {WAYS_OUT}"
        )


@contextlib.contextmanager
def _whole(target: Path) -> Iterator[IO[bytes]]:
    """A file that appears under its name only when it is complete and on disk."""
    temporary = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except OSError as error:
        raise UserError(f"the cache {target} cannot be written: {error.strerror}. {WAYS_OUT}") from error
    finally:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)  # gone already when the rename worked
