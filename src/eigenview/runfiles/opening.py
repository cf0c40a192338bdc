"""Opening files: only regular ones. A pipe in the place of a file would be waited for without end."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import IO

_NO_WAIT = os.O_NONBLOCK if "O_NONBLOCK" in dir(os) else 0  # dir() takes longer than opening a file


def open_regular(path: str | Path) -> IO[bytes]:
    """The file at `path`, links followed, opened for reading.

    Raises OSError if it cannot be opened, and for anything but a regular file: a pipe would block until somebody writes
    into it.
    """
    file = open(path, "rb", opener=_without_waiting)  # noqa: SIM115
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError("a pipe, a socket or a device, not a file")
    return file


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | _NO_WAIT)


def read_regular(path: Path) -> bytes:
    """The content of a regular file. Raises OSError as `open_regular`."""
    with open_regular(path) as file:
        return file.read()
