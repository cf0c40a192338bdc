"""The index of a tar: where in it each sample's image lies, and its label. Kept in the cache for large tars."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import tarfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from eigenview import runfiles
from eigenview.data.images import printable
from eigenview.data.opening import open_regular, read_regular, why
from eigenview.data.pixels.byte_ranges import Piece
from eigenview.data.pixels.cache import CacheDir, user_cache, write_cached
from eigenview.data.pixels.image_files import SUFFIXES
from eigenview.data.pixels.turns import turn
from eigenview.data.sources.folder import Label
from eigenview.data.sources.source import Request
from eigenview.runfiles.schema import LABEL, PLAIN, TEXT, Fields, ListOf, Maybe, integer, misfit

_MOST_LABEL_BYTES = 1_000_000
_INDEX_VERSION = 2
_COLUMNS = ("names", "offsets", "bytes", "labels")
_INDEX = Fields(
    required={
        "stamp": ListOf(PLAIN),
        "names": ListOf(TEXT),
        "offsets": ListOf(integer(0)),
        "bytes": ListOf(integer(0)),
        "labels": ListOf(Maybe(LABEL)),
        "further": integer(0),
        "links": integer(0),
        "problem": TEXT,
    }
)
"""The kept index of a tar: a list for each column, with an entry for each sample."""
_WORTH_KEEPING = 1000
"""Images of a shard from which on its index is kept in the cache."""
_MOST_HEADER_BYTES = 1 << 14
_MOST_PADDING = 1 << 20
"""Zeros at the end of a tar: two blocks of 512 bytes, by most programs up to a multiple of 10,240."""
_EXTENDED = (
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
)


@dataclass
class Sample:
    """An image inside a tar, and its label."""

    piece: Piece
    label: Label = None


@dataclass
class Indexed:
    """What one tar holds."""

    modified: int
    samples: list[Sample] = field(default_factory=list)
    further: int = 0
    links: int = 0
    """Images that are sparse files or links (tar writes a link for a file already stored under another name)."""
    problem: str = ""


class _Bounded(tarfile.TarInfo):
    """A member that raises ReadError if its extended header (a long name, PAX records) is longer than 16 KiB.

    Python reads such a header whole, and searches PAX records in time that grows with the square of their length.
    """

    def _proc_member(self, tar: tarfile.TarFile) -> tarfile.TarInfo:
        if self.type in _EXTENDED and not 0 <= self.size <= _MOST_HEADER_BYTES:
            raise tarfile.ReadError("damaged")
        return super()._proc_member(tar)  # type: ignore[misc,no-any-return]


def kept_index(tar: Path, request: Request) -> Indexed:
    """The index of a tar from the cache, or made and kept there: reading 300,000 headers takes half a minute."""
    status, path = tar.stat(), str(tar)
    size, modified = status.st_size, status.st_mtime_ns
    if request.loader.cache_gb == 0:
        return index(path, size, modified)
    stamp = [_INDEX_VERSION, os.path.abspath(path), size, modified]
    cache_dir = request.cache_dir or user_cache()
    name = hashlib.sha256(os.fsencode(os.path.abspath(path))).hexdigest()[:20]
    file = cache_dir.folder / f"{name}.index.json"
    known = _read_index(file, path, stamp)
    if known is None:
        with turn(cache_dir.folder / f".{name}.lock", f"indexing {printable(path)}", request.console):
            known = _read_index(file, path, stamp)
            if known is None:
                known = index(path, size, modified)
                if len(known.samples) >= _WORTH_KEEPING and not known.problem:
                    _keep_index(known, file, stamp, cache_dir)
    return known


def _read_index(file: Path, path: str, stamp: list[int | str]) -> Indexed | None:
    """What `_keep_index` kept, or None: nothing, that of another state of the tar, or a damaged file."""
    with contextlib.suppress(OSError, ValueError):
        kept = runfiles.parse_json(read_regular(file))
        if misfit(kept, _INDEX) is None and kept["stamp"] == stamp:
            columns = (kept[name] for name in _COLUMNS)
            samples = [Sample(Piece(path, n, o, b), label) for n, o, b, label in zip(*columns, strict=True)]
            return Indexed(int(stamp[3]), samples, kept["further"], kept["links"], kept["problem"])
    return None


def _keep_index(found: Indexed, file: Path, stamp: list[int | str], cache_dir: CacheDir) -> None:
    rows = ((s.piece.name, s.piece.offset, s.piece.bytes, s.label) for s in found.samples)
    columns = dict(zip(_COLUMNS, map(list, zip(*rows, strict=True)), strict=True))
    rest = {"further": found.further, "links": found.links, "problem": found.problem}
    with write_cached(file, cache_dir) as written:
        written.write(json.dumps({"stamp": stamp, **columns, **rest}).encode())


@functools.cache
def index(path: str, size: int, modified: int) -> Indexed:
    """The samples of a tar in order, and what is wrong with it. A new size or time of the file is a new index."""
    found = Indexed(modified)
    samples: dict[str, Sample] = {}
    labels: dict[str, Label] = {}
    try:
        # r: only without compression
        with open_regular(path) as file, tarfile.open(fileobj=file, mode="r:", tarinfo=_Bounded) as tar:
            end = 0
            while (member := tar.next()) is not None:
                # A header may claim any place and length; one that does not lead forward would be read without end.
                if member.size < 0 or member.offset < end:
                    raise tarfile.ReadError("damaged")
                if member.offset_data + member.size > size:
                    raise tarfile.ReadError("unexpected end of data")
                end = member.offset_data
                if member.isreg() and not member.issparse():
                    _take(member, path, file, samples, labels, found)
                elif not member.isdir() and os.path.splitext(member.name)[1].lower() in SUFFIXES:
                    found.links += 1
            # tarfile takes a header that is cut or damaged for the end; the true end is a block of zeros
            file.seek(tar.offset)
            block = file.read(512)
            if block != bytes(512):
                raise tarfile.ReadError("damaged" if len(block) == 512 else "unexpected end of data")
            if file.read(_MOST_PADDING).strip(b"\0"):
                raise tarfile.ReadError("goes on")
            if size - file.tell() > 0:  # the file was allocated in full, but only copied in part
                raise tarfile.ReadError("unexpected end of data")
    except (tarfile.TarError, OSError, ValueError, OverflowError, MemoryError, RecursionError) as error:
        found.problem = f"{_reason(error)}, {len(samples)} images before that are used"
    for key, sample in samples.items():
        sample.label = labels.get(key)
    found.samples = list(samples.values())
    if not found.samples and not found.problem:
        found.problem = "holds no images"
    return found


def _reason(error: Exception) -> str:
    if isinstance(error, OSError):
        return f"cannot be read ({why(error)})"
    if "goes on" in str(error):
        return "goes on after its end mark"
    if "unexpected end" in str(error) or "empty file" in str(error) or "truncated" in str(error):
        return "ends mid-file"
    return "is damaged or no uncompressed tar"


def _take(
    member: tarfile.TarInfo,
    path: str,
    file: IO[bytes],
    samples: dict[str, Sample],
    labels: dict[str, Label],
    found: Indexed,
) -> None:
    """Note a member of the tar that is open as `file` as the image or the label of its sample."""
    folder, _, name = member.name.rpartition("/")
    first, _, _ = name.partition(".")
    key, suffix = f"{folder}/{first}", os.path.splitext(name)[1].lower()
    if name.startswith(".") or "\0" in member.name:
        return
    piece = Piece(path, member.name, member.offset_data, member.size)
    if suffix in SUFFIXES:
        found.further += key in samples
        samples.setdefault(key, Sample(piece))
    elif suffix == ".cls" or (suffix == ".json" and key not in labels):
        label = _label(file, member, suffix)
        if label is not None:
            labels[key] = label


def _label(file: IO[bytes], member: tarfile.TarInfo, suffix: str) -> Label:
    """The label in a .cls (an integer) or a .json ("label", an integer or text), or None where there is none."""
    if member.size > _MOST_LABEL_BYTES:
        return None
    file.seek(member.offset_data)  # tarfile goes back to the next header by itself
    content = file.read(member.size)
    try:
        if suffix == ".cls":
            return int(content)
        value = json.loads(content)
        label = value.get("label") if isinstance(value, dict) else None
        if isinstance(label, str):
            label.encode()  # raises for lone surrogates, which JSON can contain but UTF-8 cannot
    except (ValueError, RecursionError):
        return None
    return label if isinstance(label, int | str) and not isinstance(label, bool) else None
