"""Reading .npz archives of any origin: the headers are looked at before anything is unpacked.

An archive of a few MB may unpack to more than any machine has: a row of zeros is packed a thousandfold. Images and
features are packed twofold, drawings perhaps fiftyfold.
"""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from eigenview.data.opening import open_regular
from eigenview.errors import UserError

MOST_FOLD = 200
"""An array of over 1 GB that is packed more than so many times is refused."""
_SMALL_BYTES = 10**9


class Header(NamedTuple):
    """An array of an archive, before it is unpacked."""

    shape: tuple[int, ...]
    dtype: np.dtype


def read_npz(
    path: Path, is_wanted: Callable[[str, Header], bool]
) -> tuple[dict[str, np.ndarray], dict[str, Header | None]]:
    """The wanted arrays, and the headers of all (None: a file in the archive that is no array); never unpickles.

    Raises UserError for an array that unpacks to more than memory, or suspiciously much, and what NumPy and zipfile
    raise for a damaged file.
    """
    # opened here, since NumPy leaves the file open when the archive in it is damaged
    with open_regular(path) as file:
        if file.read(6) == np.lib.format.magic(1, 0)[:6]:
            raise ValueError("it is one array, not an archive; call it .npy")
        file.seek(0)
        with zipfile.ZipFile(file) as archive:
            headers = {each.filename.removesuffix(".npy"): _header(archive, each, path) for each in archive.infolist()}
            packed = {each.filename.removesuffix(".npy"): each.compress_size for each in archive.infolist()}
        wanted = [name for name, header in headers.items() if header is not None and is_wanted(name, header)]
        for name in wanted:
            header = headers[name]
            assert header is not None
            size = int(np.prod(header.shape, dtype=object)) * header.dtype.itemsize
            refuse_bomb(f"{path}: {name}", packed[name], size)
        file.seek(0)
        with np.load(file, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in wanted}, headers


def refuse_bomb(what: str, packed: int, unpacked: int) -> None:
    """Raises UserError if `unpacked` bytes do not fit into memory, or if `packed` bytes cannot honestly hold them."""
    memory = _memory_bytes()
    if unpacked > memory:
        raise UserError(
            f"{what} unpacks to {unpacked / 1e9:,.1f} GB, and this machine has {memory / 1e9:,.1f} GB of memory. "
            "Save it as a .npy, which is mapped rather than read, or save a part of it."
        )
    if unpacked > _SMALL_BYTES and unpacked > MOST_FOLD * packed:
        raise UserError(
            f"{what} unpacks from {packed / 1e6:,.1f} MB to {unpacked / 1e9:,.1f} GB, more than {MOST_FOLD}-fold; "
            "images and features are never packed like that. If it is what it should be, save it as a .npy."
        )


def _header(archive: zipfile.ZipFile, member: zipfile.ZipInfo, path: Path) -> Header | None:
    """The header of a member, read from its first bytes. Raises ValueError if its length is not the one it names."""
    if not member.filename.endswith(".npy"):
        return None
    with archive.open(member) as file:
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read(file)
        start = file.tell()
    size = int(np.prod(shape, dtype=object)) * dtype.itemsize
    if not dtype.hasobject and start + size != member.file_size:
        raise ValueError(f"{member.filename} should have {size:,} bytes and has {member.file_size - start:,}")
    return Header(shape, dtype)


def _memory_bytes() -> int:
    """Physical memory of this machine; where it is unknown, more than any has."""
    if "sysconf" not in dir(os) or "SC_PHYS_PAGES" not in os.sysconf_names:
        return 1 << 60
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
