"""Opening files that others wrote: only regular files are opened, and a path that may not be read is one line."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Literal

from eigenview.errors import UserError
from eigenview.runfiles.opening import open_regular, read_regular

__all__ = ["at_home", "kind_of", "not_allowed", "open_regular", "read_regular", "why"]

Kind = Literal["folder", "file", "other", "nothing"]
"""other: a pipe, a socket or a device. nothing: there is none, or a link that leads nowhere."""


def kind_of(path: Path) -> Kind:
    """What lies at `path`, links followed. Raises UserError where that may not be looked at (a folder above it)."""
    try:
        mode = os.stat(path).st_mode
    except PermissionError as error:
        raise not_allowed(path) from error
    except (OSError, ValueError):  # ValueError: a NUL in the path
        return "nothing"
    return "folder" if stat.S_ISDIR(mode) else "file" if stat.S_ISREG(mode) else "other"


def at_home(path: str) -> Path:
    """The path with ~ and ~user replaced by home folders; unchanged if there is no such user."""
    return Path(os.path.expanduser(path))


def not_allowed(path: Path) -> UserError:
    """The error of a path that this user may not read."""
    return UserError(
        f"{path} cannot be read: permission denied. Ask its owner for access, or give data that you may read."
    )


def why(error: OSError) -> str:
    """The reason in an OSError, which has no strerror where it did not come from the system."""
    return error.strerror or str(error)
