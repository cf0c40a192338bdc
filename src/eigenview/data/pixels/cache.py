"""Decoded sets as memory-mapped uint8 arrays: in the user's cache folder, or wherever a pack is being made.

An entry is named after the place of the images and a fingerprint of their list (names, bytes, times) and of the
decoder, so it is never stale. Pixels made in different ways, and of another range, are entries of different places.
The entry of an earlier list of the same place is deleted, others once room is needed (eviction.py). Pixels are written
atomically, then described by a small JSON file; an entry whose files disagree is rebuilt. The folder can be deleted at
any time: everything in it can be computed again.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import math
import os
import shutil
import zlib
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from eigenview import runfiles
from eigenview.data.opening import at_home, open_regular, read_regular
from eigenview.data.pixels.budget import LIMIT, limit_pixels
from eigenview.data.pixels.decode import DECODE_VERSION
from eigenview.data.pixels.eviction import hold, make_room
from eigenview.data.pixels.parallel import Rows
from eigenview.data.pixels.turns import turn
from eigenview.errors import UserError
from eigenview.runfiles.schema import TEXT, TableOf, misfit
from eigenview.terminal import Console

ADVICE = (
    "Free space, set EIGENVIEW_CACHE to another folder, or use pretrain's --loader.cache-gb 0 (decodes at each step)."
)
_CHECKED_ROWS = 64
Shape = tuple[int, int, int]
"""Channels, height and width of each image of a set."""
HEADER_BYTES = 128
"""Where the pixels begin in a file of `write_rows`."""


def cache_folder() -> Path:
    """$EIGENVIEW_CACHE, else eigenview/ in $XDG_CACHE_HOME, else ~/.cache/eigenview."""
    if own := os.environ.get("EIGENVIEW_CACHE"):
        return at_home(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or at_home("~/.cache")) / "eigenview"


@dataclass(frozen=True)
class CacheDir:
    """A folder where decoded images are kept, how messages call it, and what to do when it cannot be written to."""

    folder: Path
    title: str
    advice: str


def user_cache() -> CacheDir:
    """Where decoded images are kept from one run to the next."""
    folder = cache_folder()
    return CacheDir(folder, f"cache {folder}", ADVICE)


@dataclass(frozen=True)
class Entry:
    """The cache files of one list of images, whether they exist yet or not."""

    place: str
    version: str
    cache_dir: CacheDir
    files: np.ndarray
    """uint64 (files,): a hash of each file's name, size and time, by which an earlier list's rows are found again."""

    @staticmethod
    def of(
        place: Path, listing: Iterable[tuple[str, int, int]], what: str = "", *, cache_dir: CacheDir | None = None
    ) -> Entry:
        """The entry of the files `listing` (name, bytes, time in ns) below `place`; `what`: a part of these files.

        cache_dir: default the user's cache.
        """
        limit_pixels()  # another limit makes other images readable
        digest = hashlib.sha256(f"{DECODE_VERSION}{os.environ.get(LIMIT, '')}\0".encode())
        files: list[bytes] = []
        for name, size, modified in listing:
            one = os.fsencode(name) + f"\0{size}\0{modified}\0".encode()
            digest.update(one)
            files.append(hashlib.blake2b(one, digest_size=8).digest())
        # with the version, so that the rows of an earlier list are not taken over from another one
        named = b"\0".join((str(DECODE_VERSION).encode(), os.fsencode(place.resolve()), os.fsencode(what)))
        hashes = np.frombuffer(b"".join(files), "<u8")
        return Entry(hashlib.sha256(named).hexdigest()[:12], digest.hexdigest()[:20], cache_dir or user_cache(), hashes)

    def made_by(self, key: str) -> Entry:
        """The entry of the same files whose pixels are made in the way `key`; "" is this one."""
        if not key:
            return self
        return dataclasses.replace(self, place=hashlib.sha256(f"{self.place} {key}".encode()).hexdigest()[:12])

    def _file(self, kind: str) -> Path:
        return self.cache_dir.folder / f"{self.place}-{self.version}.{kind}"

    def turn(self, work: str, console: Console | None) -> AbstractContextManager[None]:
        """In this block no other process builds this entry: look again for what is kept before building it."""
        return turn(self.cache_dir.folder / f".{self.place}-{self.version}.lock", work, console)

    def earlier(self) -> Entry | None:
        """The entry of an earlier list of the same place, with the hashes of its files; None if there is none."""
        for path in self.cache_dir.folder.glob(f"{self.place}-*.files"):
            version = path.name.removeprefix(f"{self.place}-").removesuffix(".files")
            if version != self.version:
                with contextlib.suppress(OSError, ValueError):
                    return dataclasses.replace(self, version=version, files=np.frombuffer(read_regular(path), "<u8"))
        return None

    def rows_of(self, files: np.ndarray, broken: dict[int, str]) -> np.ndarray:
        """int64 (files,): the row of each file among this entry's readable ones, -1 for others."""
        is_sound = np.ones(len(self.files), bool)
        is_sound[[i for i in broken if i < len(is_sound)]] = False
        row = np.where(is_sound, np.cumsum(is_sound) - 1, -1)
        order = np.argsort(self.files, kind="stable")
        place = np.searchsorted(self.files, files, sorter=order)
        found = order[np.minimum(place, len(order) - 1)] if len(order) else np.zeros(len(files), np.int64)
        is_known = (self.files[found] == files) if len(order) else np.zeros(len(files), bool)
        return np.where(is_known, row[found] if len(order) else -1, -1)

    def sides(self) -> Rows | None:
        """What `keep_sides` kept, or None."""
        try:
            first, _, content = read_regular(self._file("header")).partition(b"\n")
            about = runfiles.parse_json(first)
            rows = np.frombuffer(content, "<f8").reshape(-1, about["columns"])
            is_whole = isinstance(about, dict) and about["crc"] == zlib.crc32(content)
            return (rows, _positions(about["broken"], len(self.files))) if is_whole else None
        except (OSError, KeyError, TypeError, ValueError, AttributeError):
            return None

    def keep_sides(self, headers: np.ndarray, broken: dict[int, str]) -> None:
        """Keep what was read from the headers, float64 (n, columns), and the reasons where a header is unreadable."""
        self._keep_files()
        content = headers.astype("<f8").tobytes()  # text would take ten times as long to read, and has no nan
        about = json.dumps({"crc": zlib.crc32(content), "broken": broken, "columns": headers.shape[1]})
        with write_cached(self._file("header"), self.cache_dir) as file:
            file.write(about.encode() + b"\n" + content)

    def known(self, kind: str) -> dict[str, Any] | None:
        """What `keep` kept under this name, or None."""
        return _read(self._file(f"{kind}.json"))

    def keep(self, kind: str, content: dict[str, Any]) -> None:
        """Keep a few values beside the headers."""
        self._keep_files()
        with write_cached(self._file(f"{kind}.json"), self.cache_dir) as file:
            file.write(json.dumps(content).encode())

    def pixels(self, side: int, channels: int = 3) -> Rows | None:
        """uint8 (n, C, side, side), memory-mapped, and the reasons of files left out; None if not kept or damaged."""
        card = _read(self._file(f"{side}.json"))
        try:
            file, shape = self._file(f"{side}.npy"), (channels, side, side)
            rows = None if card is None else map_rows(file, shape, card["rows"], card["crc"])
            if card is None or rows is None:
                return None
            hold(file)
            return rows, _positions(card["broken"], len(self.files))
        except (KeyError, TypeError, ValueError):
            return None  # missing or damaged: in both cases the caller rebuilds it

    def keep_pixels(self, side: int, parts: Iterable[Rows], expected: int, channels: int = 3) -> Rows:
        """Write the images of `parts` in order, without broken ones, and return them as `pixels` does.

        Raises UserError, leaving nothing behind, when the disk is full or the folder cannot be written.
        """
        self._keep_files()
        if self.cache_dir.folder == cache_folder():  # not where a pack is being made
            make_room(self.cache_dir.folder, expected * channels * side * side)
        rows, broken = write_rows(self._file(f"{side}.npy"), (channels, side, side), parts, expected, self.cache_dir)
        card = {"rows": len(rows), "crc": sample_crc(rows), "broken": broken}
        with write_cached(self._file(f"{side}.json"), self.cache_dir) as file:
            file.write(json.dumps(card).encode())
        hold(self._file(f"{side}.npy"))
        self.forget_earlier()
        return rows, broken

    def _keep_files(self) -> None:
        """Note which files this entry is of, before anything else: rows are only taken over with their list."""
        path = self._file("files")
        if not path.exists():
            with write_cached(path, self.cache_dir) as file:
                file.write(self.files.astype("<u8").tobytes())

    def has_space(self, needed: int) -> bool:
        """Whether so many bytes are free; True where that is unknown."""
        try:
            return shutil.disk_usage(self.cache_dir.folder).free >= needed
        except OSError:
            return True

    def forget_earlier(self) -> None:
        """Delete what an earlier list of the same place left, and files of builds that were killed."""
        for old in self.cache_dir.folder.glob(f"{self.place}-*"):
            if not old.name.startswith(f"{self.place}-{self.version}."):
                with contextlib.suppress(OSError):
                    old.unlink()
        runfiles.delete_abandoned(self.cache_dir.folder)


def write_rows(target: Path, shape: Shape, parts: Iterable[Rows], expected: int, cache_dir: CacheDir) -> Rows:
    """Write the images of `parts`, without broken ones, as the .npy `target`; returns them mapped, and the reasons.

    Written atomically. Raises UserError when the disk is full or `cache_dir` cannot be written.
    """
    _check_space(expected * math.prod(shape), cache_dir)
    broken: dict[int, str] = {}
    seen = 0
    with write_cached(target, cache_dir) as file:
        # Plain writes, not a writable memory map: on a full disk a map kills the process instead of raising.
        file.write(_header(expected, shape))
        for rows, reasons in parts:
            broken |= {seen + i: reason for i, reason in reasons.items()}
            seen += len(rows)
            file.write(np.delete(rows, list(reasons), axis=0).tobytes() if reasons else rows.tobytes())
        file.seek(0)
        file.write(_header(seen - len(broken), shape))
    return _mapped(target, shape, seen - len(broken)), broken


def map_rows(path: Path, shape: Shape, rows: int, crc: int) -> np.ndarray | None:
    """uint8 (rows, *shape) that `write_rows` wrote, memory-mapped; None where missing, cut or overwritten."""
    try:
        with open_regular(path) as file:  # the one header such a file can have is compared, not parsed
            is_ours = rows > 0 and min(shape) > 0 and file.read(HEADER_BYTES) == _header(rows, shape)
        if not is_ours or path.stat().st_size != HEADER_BYTES + rows * math.prod(shape):
            return None
        mapped = _mapped(path, shape, rows)
        return mapped if sample_crc(mapped) == crc else None
    except OSError:
        return None


def _mapped(path: Path, shape: Shape, rows: int) -> np.ndarray:
    # copy-on-write rather than read-only: torch shares the memory without a warning, the file stays as it is
    return np.memmap(path, np.uint8, mode="c", offset=HEADER_BYTES, shape=(rows, *shape))


def _header(rows: int, shape: Shape) -> bytes:
    """The 128 bytes before the data of a .npy file; their length does not depend on the number of rows."""
    text = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {(rows, *shape)}, }}"
    return b"\x93NUMPY\x01\x00" + (118).to_bytes(2, "little") + text.ljust(117).encode() + b"\n"


def sample_crc(rows: np.ndarray) -> int:
    """Checksum of some rows, evenly spaced: enough to notice a file that was cut, zeroed or overwritten."""
    picks = np.unique(np.linspace(0, len(rows) - 1, _CHECKED_ROWS).astype(int)) if len(rows) else []
    return zlib.crc32(b"".join(rows[i].tobytes() for i in picks))


def _positions(broken: Any, count: int) -> dict[int, str]:
    """The reasons of files left out, by position. Raises ValueError if they are not those of `count` files."""
    if misfit(broken, TableOf(TEXT)) is not None or not all(name.isdecimal() for name in broken):
        raise ValueError("broken")
    positions = {int(position): reason for position, reason in broken.items()}
    if max(positions, default=-1) >= count:
        raise ValueError("broken")
    return positions


def _read(path: Path) -> dict[str, Any] | None:
    try:
        value = runfiles.parse_json(read_regular(path))
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None


def _check_space(needed: int, cache_dir: CacheDir) -> None:
    folder = cache_dir.folder
    try:
        folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(folder).free
    except OSError as error:
        raise UserError(f"the {cache_dir.title} cannot be used: {error.strerror}. {cache_dir.advice}") from error
    if free < needed:
        raise UserError(
            f"the decoded images need {needed / 1e9:.2f} GB in the {cache_dir.title}, "
            f"where {free / 1e9:.2f} GB are free. {cache_dir.advice}"
        )


@contextlib.contextmanager
def write_cached(target: Path, cache_dir: CacheDir) -> Iterator[IO[bytes]]:
    """`runfiles.atomic_write` into a cache folder, readable by its owner only.

    Raises: UserError if it cannot be written.
    """
    try:
        with runfiles.atomic_write(target, mode=0o600) as file:
            yield file
    except OSError as error:
        raise UserError(f"the {cache_dir.title} cannot be written: {error.strerror}. {cache_dir.advice}") from error
