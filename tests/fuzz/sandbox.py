"""The folder in which a case runs: its inputs, its cache, its home. What lies in it is listed before and after."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

CACHES = ("cache", "hf", "home/.cache", "other-cache")
"""Folders that any command may write to: eigenview's cache and that of the Hugging Face library, and the user's."""


@dataclass(frozen=True, kw_only=True)
class Command:
    """A command line of a case, started in its sandbox."""

    args: list[str]
    may_write: tuple[str, ...] = ()
    """Files and folders of the sandbox that it may create or change, besides the caches."""
    replaces: bool = False
    """Whether it continues what lies at `may_write` (--resume), so that it may change it although it fails later."""
    encoding: str = "utf-8"
    """Of standard output and standard error."""
    makes: tuple[str, ...] = ()
    """Files that are there once it has ended with exit code 0."""
    variables: dict[str, str] = field(default_factory=dict)
    """Environment variables of its own."""
    before: Callable[[], None] | None = None
    """If given, the command is run twice, with this in between; it must end with the same exit code."""


def environment(sandbox: Path, own: dict[str, str] = {}) -> dict[str, str]:  # noqa: B006
    """Environment variables of a case: nothing is read from or written to outside the sandbox, nothing is fetched."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("EIGENVIEW_", "XDG_", "HF_"))}
    kept.pop("PYTHONDONTWRITEBYTECODE", None)
    places = {"HOME": "home", "TMPDIR": "tmp", "EIGENVIEW_CACHE": "cache", "HF_HOME": "hf"}
    offline = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "NO_PROXY": "*", "OMP_NUM_THREADS": "1"}
    return kept | {name: str(sandbox / folder) for name, folder in places.items()} | offline | own


def fresh(sandbox: Path) -> Path:
    """An empty sandbox, whatever was there before."""
    if sandbox.exists():
        for path in sandbox.rglob("*"):  # what a case closed
            if path.is_dir() and not path.is_symlink():
                path.chmod(0o700)
        shutil.rmtree(sandbox)
    for folder in ("home", "tmp", "cache", "hf"):
        (sandbox / folder).mkdir(parents=True)
    return sandbox


def listing(sandbox: Path) -> dict[str, str]:
    """{path: kind and content} of everything in the sandbox, links not followed."""
    found: dict[str, str] = {}
    for folder, folders, files in os.walk(sandbox):
        for name in (*folders, *files):
            path = Path(folder, name)
            found[str(path.relative_to(sandbox))] = _content(path)
    return found


def _content(path: Path) -> str:
    mode = path.lstat().st_mode
    if stat.S_ISLNK(mode):
        return f"link to {os.readlink(path)}"
    if stat.S_ISREG(mode):
        return hashlib.blake2b(path.read_bytes(), digest_size=16).hexdigest()
    return "folder" if stat.S_ISDIR(mode) else "other"


def is_below(path: str, places: tuple[str, ...]) -> bool:
    """Whether `path` is one of `places` or lies in one."""
    return any(path == place or path.startswith(f"{place}/") for place in places)
