"""One process reads and decodes a set into the cache; others that need it wait, and map what it has written.

The processes of a run start at the same time, and so may several runs. A lock of the system is used, not a message
between processes: it needs no process group, and it is free again at once when its holder is killed.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

from eigenview.progress import SILENT_SECONDS
from eigenview.terminal import Console

try:
    import fcntl
except ImportError:  # Windows: each process does the work itself
    fcntl = None

_EVERY = 0.05
"""Seconds between two looks at a lock that another process holds."""


@contextlib.contextmanager
def turn(lock: Path, work: str, console: Console | None = None) -> Iterator[None]:
    """In this block no other process of this machine does the same work; waits until it is this one's turn.

    Look again whether the work is still to be done: another process may have done it meanwhile. `work` is what is
    printed of it after two seconds of waiting: "decoding photos". Where the folder cannot be written, or its file
    system has no locks, nothing is waited for.
    """
    handle = _locked(lock, work, console or Console(stderr=True))
    try:
        yield
    finally:
        if handle is not None:
            with contextlib.suppress(OSError):
                lock.unlink()
            os.close(handle)


def _locked(lock: Path, work: str, console: Console) -> int | None:
    """The file `lock`, open and locked by this process; None where there are no locks."""
    while fcntl is not None and (handle := _opened(lock)) is not None:
        try:
            _wait(handle, work, console)
            if _is_at(lock, handle):
                os.pwrite(handle, f"{os.getpid():<10}".encode(), 0)
                return handle
        except OSError:  # a file system without locks
            os.close(handle)
            with contextlib.suppress(OSError):
                lock.unlink()
            return None
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)  # whoever had it has deleted it, and the next ones lock another file of this name
    return None


def _is_at(lock: Path, handle: int) -> bool:
    """Whether the open file is still the one of this name."""
    try:
        named, held = os.stat(lock), os.fstat(handle)
    except FileNotFoundError:
        return False
    return (named.st_dev, named.st_ino) == (held.st_dev, held.st_ino)


def _opened(lock: Path) -> int | None:
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        return os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError:
        return None  # whoever writes into the folder says what is wrong with it


def _wait(handle: int, work: str, console: Console) -> None:
    """Waits for the lock. Raises OSError where there are none."""
    assert fcntl is not None
    start, is_said = time.monotonic(), False
    while True:
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        if not is_said and time.monotonic() - start > SILENT_SECONDS:
            holder = os.pread(handle, 10, 0).decode(errors="replace").strip()
            who = f"process {holder}" if holder else "another process"
            console.print(f"{'waiting':9} for {who}, which is {work}; this process then uses what it has written")
            is_said = True
        time.sleep(_EVERY)
