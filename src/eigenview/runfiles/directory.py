"""The run directory itself: its name, who may write it, and what a killed writer left in it."""

from __future__ import annotations

import errno
import itertools
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from eigenview.errors import UserError
from eigenview.launched import launched_rank
from eigenview.runfiles.names import CONFIG, OF_THE_WRITER, REPORT, WRITER
from eigenview.runfiles.writing import delete_leftovers

try:
    import fcntl
except ImportError:  # Windows, where two processes that write one run are not kept apart
    fcntl = None


def set_name(data: str) -> str:
    """The last folder or file in what the user gave as data: `photos` of hf:sets/photos?split=train or photos/*.jpg."""
    given = data.removeprefix("hf:").partition("?")[0] if data.startswith("hf:") else data
    fixed = re.split(r"[^/]*[*?\[]", given, maxsplit=1)[0] if not Path(given).exists() else given
    return Path(fixed.rstrip("/")).name


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
    try:
        if directory.exists() and not directory.is_dir():
            raise UserError(f"--out {directory} is a file; give a directory.")
        if directory.exists() and not all(_is_of_the_beginning(path) for path in directory.iterdir()):
            what = "another run" if (directory / CONFIG).exists() else "other files"
            hint = "Continue it with --resume, or choose" if what == "another run" else "Choose"
            raise UserError(f"--out {directory} already holds {what}. {hint} another --out.")
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--out {directory} cannot be created: {error.strerror}.") from error


def _is_of_the_beginning(path: Path) -> bool:
    """What a run has that was killed before it had written its configuration; `run_lock` deletes it."""
    return path.name == WRITER or path.match(f".{CONFIG}.????????")


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
            _delete_leftovers(directory)
            yield
        finally:
            (directory / WRITER).unlink(missing_ok=True)
    finally:
        os.close(handle)


def _delete_leftovers(directory: Path) -> None:
    """Delete temporary files of writers that were killed. The report may be written without the lock."""
    for name in OF_THE_WRITER:
        delete_leftovers(directory / name, older_than=0.0)
    delete_leftovers(directory / REPORT)


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
