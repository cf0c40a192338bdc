"""The cache folder as a whole: what is in it, what may be deleted, and its size limit.

An entry is a file of the folder with everything that has its name before the first dot (pixels and the JSON file that
describes them), or one file below `probes`. A process that uses an entry holds a shared lock on its pixels until it
ends; only an entry that nobody locks is deleted.
"""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from eigenview.errors import UserError, require

try:
    import fcntl
except ImportError:  # Windows, which refuses to delete a file that is open
    fcntl = None

LIMIT_GB = 50.0
_held: dict[tuple[int, int], int] = {}
"""Device and inode of each file that this process has locked -> the open file; open until the process ends."""


@dataclass(frozen=True)
class CacheEntry:
    """Files of the cache that belong together."""

    name: str
    files: tuple[Path, ...]
    num_bytes: int
    used: float
    """When it was last used, in seconds since 1970."""


def limit_bytes() -> float:
    """$EIGENVIEW_CACHE_GB in bytes, 50 GB by default. Raises UserError if that is no number."""
    text = os.environ.get("EIGENVIEW_CACHE_GB", "")
    try:
        limit = float(text) if text else LIMIT_GB
    except ValueError:
        limit = -1.0
    require(limit >= 0 and math.isfinite(limit), "EIGENVIEW_CACHE_GB", text, "a number of gigabytes, 0 or more")
    return limit * 1e9


def cache_entries(folder: Path) -> list[CacheEntry]:
    """The entries of a cache folder, the latest used first; none if there is no such folder.

    Raises: UserError if the folder cannot be read.
    """
    groups: dict[str, list[Path]] = {}
    try:
        for path in folder.iterdir() if folder.exists() else ():
            if path.is_file() and not path.name.startswith("."):
                groups.setdefault(path.name.partition(".")[0], []).append(path)
        for path in (folder / "probes").glob("*.json"):
            groups[f"probes/{path.stem}"] = [path]
    except OSError as error:
        raise UserError(f"the cache {folder} cannot be read: {error.strerror}.") from error
    entries: list[CacheEntry] = []
    for name, files in groups.items():
        with contextlib.suppress(OSError):  # deleted in the meantime
            states = [path.stat() for path in files]
            used = max(max(state.st_mtime, state.st_atime) for state in states)
            entries.append(CacheEntry(name, tuple(files), sum(state.st_size for state in states), used))
    return sorted(entries, key=lambda entry: entry.used, reverse=True)


def hold(path: Path) -> None:
    """Keep the entry of this file from being deleted while this process runs, and note that it is used now."""
    with contextlib.suppress(OSError):  # a cache that may only be read
        os.utime(path)
    if fcntl is None:
        return
    with contextlib.suppress(OSError):
        state = path.stat()
        if (state.st_dev, state.st_ino) in _held:
            return
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        _held[state.st_dev, state.st_ino] = handle
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)


def delete_entry(entry: CacheEntry) -> bool:
    """Delete the files of an entry; False if a process uses it or it cannot be deleted."""
    with contextlib.ExitStack() as stack:
        if not all(stack.enter_context(_alone(path)) for path in entry.files):
            return False
        try:
            for path in entry.files:
                path.unlink(missing_ok=True)
        except OSError:
            return False
    return True


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[bool]:
    """Whether no process uses the file; while in the block none begins to."""
    if fcntl is None:
        yield True
        return
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        yield not path.exists()
        return
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        yield False
    else:
        yield True
    finally:
        os.close(handle)


def make_room(folder: Path, needed: int) -> None:
    """Delete the entries that were used longest ago until `needed` more bytes are within the limit."""
    entries, limit = cache_entries(folder), limit_bytes()
    total = needed + sum(entry.num_bytes for entry in entries)
    for entry in reversed(entries):
        if total <= limit:
            return
        if delete_entry(entry):
            total -= entry.num_bytes
