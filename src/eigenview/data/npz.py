"""Reading .npz archives of any origin: the headers are looked at before anything is unpacked.

An archive of a few MB may unpack to more than any machine has: a row of zeros is packed a thousandfold. Images and
features are packed twofold, drawings perhaps fiftyfold.
"""

from __future__ import annotations

import os
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np

from eigenview.data.opening import open_regular
from eigenview.errors import UserError

MOST_FOLD = 200
"""An array of over 1 GB that is packed more than so many times is refused."""
_SMALL_BYTES = 10**9
_MAPPED_BYTES = 64_000_000
"""An array of at least this size is mapped, not read, if it lies in the archive as it is."""
_LOCAL_HEADER = 30
"""Bytes of a member's header in a zip file before its name; the last four are the lengths of name and extra field."""


class Header(NamedTuple):
    """An array of an archive, before it is unpacked."""

    shape: tuple[int, ...]
    dtype: np.dtype
    start: int = 0
    """Where in the member the values begin."""
    is_fortran: bool = False
    """The first axis changes fastest."""

    @property
    def nbytes(self) -> int:
        """Bytes of the values."""
        return int(np.prod(self.shape, dtype=object)) * self.dtype.itemsize


def read_npz(
    path: Path, is_wanted: Callable[[str, Header], bool]
) -> tuple[dict[str, np.ndarray], dict[str, Header | None]]:
    """The wanted arrays, and the headers of all (None: a file in the archive that is no array); never unpickles.

    Large arrays that are not compressed are mapped copy-on-write, so that the archive may be larger than memory.

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
            members = {each.filename.removesuffix(".npy"): each for each in archive.infolist()}
        wanted = [name for name, header in headers.items() if header is not None and is_wanted(name, header)]
        mapped: dict[str, np.ndarray] = {}
        for name in wanted:
            header, member = headers[name], members[name]
            assert header is not None
            is_plain = member.compress_type == zipfile.ZIP_STORED and not member.flag_bits & 1  # 1: encrypted
            if is_plain and header.nbytes >= _MAPPED_BYTES and not header.dtype.hasobject:
                mapped[name] = _mapped(path, file, member, header)
            else:
                refuse_bomb(f"{path}: {name}", member.compress_size, header.nbytes)
        file.seek(0)
        with np.load(file, allow_pickle=False) as arrays:
            return {name: mapped[name] if name in mapped else arrays[name] for name in wanted}, headers


def _mapped(path: Path, file: IO[bytes], member: zipfile.ZipInfo, header: Header) -> np.ndarray:
    """A member that is not compressed, as a part of the archive. Raises ValueError if something else lies there."""
    file.seek(member.header_offset)
    local = file.read(_LOCAL_HEADER)
    if len(local) < _LOCAL_HEADER:
        raise ValueError(f"{member.filename} is cut off")
    begin = member.header_offset + _LOCAL_HEADER + sum(struct.unpack("<HH", local[-4:]))
    file.seek(begin)
    if file.read(6) != np.lib.format.magic(1, 0)[:6]:
        raise ValueError(f"{member.filename} is not where the archive says")
    order = "F" if header.is_fortran else "C"
    return np.memmap(path, header.dtype, mode="c", offset=begin + header.start, shape=header.shape, order=order)


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
        shape, is_fortran, dtype = read(file)
        header = Header(shape, dtype, file.tell(), is_fortran)
    if not dtype.hasobject and header.start + header.nbytes != member.file_size:
        found = member.file_size - header.start
        raise ValueError(f"{member.filename} should have {header.nbytes:,} bytes and has {found:,}")
    return header


def _memory_bytes() -> int:
    """Physical memory of this machine; where it is unknown, more than any has."""
    if "sysconf" not in dir(os) or "SC_PHYS_PAGES" not in os.sysconf_names:
        return 1 << 60
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
