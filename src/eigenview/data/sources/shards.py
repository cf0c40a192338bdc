"""WebDataset shards: tar files read in place, neither unpacked nor executed.

The members of each tar are indexed once a process, so that images can be read in any order: the order of a run, and
resuming it, are those of a folder of files. Samples: members with the same name up to the first dot, in the order of
their first member. A sample's image is its first member with an image suffix, its label the integer in .cls, else
"label" in .json.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import itertools
import json
import os
import re
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from eigenview.data.images import File, ImageSet, Skipped, Split, printable
from eigenview.data.opening import at_home, kind_of, open_regular, why
from eigenview.data.pixels.byte_ranges import Piece, read_piece
from eigenview.data.pixels.cache import user_cache, write_cached
from eigenview.data.pixels.decode import READABLE, SUFFIXES
from eigenview.data.pixels.parallel import Rows, map_chunks
from eigenview.data.sources.files import read_part
from eigenview.data.sources.folder import Label, Part, scan
from eigenview.data.sources.source import Loaded, Request
from eigenview.errors import UserError

_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")
_MOST_SHARDS = 1_000_000
_NO_SHARDS = re.compile(r"(?i)^pipe:|^\w+://|::|[*?[{].*\.tar$|\.(tgz|tar\.(gz|bz2|xz|zst))$")
"""What other programs accept as shards and this one does not: commands, URLs, compressed tars, lists, globs."""
_ALLOWED = (
    "Shards are uncompressed .tar files on this machine: give their folder, one .tar, or a pattern of numbers such as "
    "'x-{000..012}.tar'."
)
_MOST_LABEL_BYTES = 1_000_000
_INDEX_VERSION = 1
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


def find_shards(spec: str) -> Shards | None:
    """The shards that `spec` names: a .tar, a folder of them without images, or a pattern such as x-{000..012}.tar.

    Raises UserError for shards that are missing, and for what only other programs accept as shards (`_NO_SHARDS`): a
    command is not run, a URL is not opened.
    """
    path = at_home(spec)
    if kind_of(path) == "folder":
        try:
            named = sorted(each for each in path.iterdir() if each.suffix.lower() == ".tar")
        except OSError:
            return None  # not listable: loading it as a folder of images reports that
        tars = tuple(each for each in named if kind_of(each) == "file" or _is_dangling(each))
        return Shards(spec, path, _require_present(spec, tars)) if tars and not scan(path).files else None
    is_tar = path.suffix.lower() == ".tar"
    if is_tar and kind_of(path) == "file":
        return Shards(spec, path.parent, (path,))
    if kind_of(path) == "nothing" and _NO_SHARDS.search(_RANGE.sub("0", spec)):
        raise UserError(f"{printable(spec)} cannot be read as shards. {_ALLOWED}")
    if not is_tar or not _RANGE.search(str(path)):
        return None
    tars = tuple(Path(name) for name in _expanded(str(path)))
    return Shards(spec, Path(os.path.commonpath([tar.parent for tar in tars])), _require_present(spec, tars))


def _is_dangling(path: Path) -> bool:
    return path.is_symlink() and kind_of(path) == "nothing"


def _require_present(spec: str, tars: tuple[Path, ...]) -> tuple[Path, ...]:
    """`tars` unchanged. Raises UserError if some are missing or are dangling links."""
    missing = [printable(str(tar)) for tar in tars if kind_of(tar) != "file"]
    if missing:
        raise UserError(
            f"{spec}: {len(missing)} of {len(tars)} shards are missing ({', '.join(missing[:3])}). "
            "Copy them there, or name only those that are."
        )
    return tars


def _expanded(pattern: str) -> list[str]:
    """Every name a pattern stands for: {000..012} counts in as many digits as its first number has."""
    parts = _RANGE.split(pattern)
    ranges = [(parts[i], int(parts[i]), int(parts[i + 1])) for i in range(1, len(parts), 3)]
    count = np.prod([float(last - first + 1) for _, first, last in ranges])
    if any(last < first for _, first, last in ranges) or count > _MOST_SHARDS:
        raise UserError(f"{pattern} does not count upwards to at most {_MOST_SHARDS:,} shards; write {{000..012}}.")
    numbers = [[f"{k:0{len(text)}}" for k in range(first, last + 1)] for text, first, last in ranges]
    texts = parts[::3]
    return [
        texts[0] + "".join(number + text for number, text in zip(chosen, texts[1:], strict=True))
        for chosen in itertools.product(*numbers)
    ]


@dataclass(frozen=True)
class Shards:
    """Tar files as a source of images."""

    spec: str
    root: Path
    """The folder they lie in."""
    tars: tuple[Path, ...]
    loaded: Loaded = field(default_factory=Loaded, init=False, repr=False, compare=False)

    def load(self, split: Split, request: Request) -> ImageSet:
        """A shard that is cut, damaged or without images is listed as skipped, the images before the damage are used.

        Raises UserError for "test", since shards carry no split; for such a shard where loader.strict asks for it;
        where no image is found; and as a folder does for images that cannot be decoded.
        """
        if split == "test":
            raise UserError(f"{self.spec}: shards have no test images of their own; give others with --probe-data.")
        return self.loaded.get(split, request) or self.loaded.keep(split, request, self._load(request))

    def _load(self, request: Request) -> ImageSet:
        indexed = self._indexed(request)
        damaged = [
            Skipped(printable(str(tar)), each.problem)
            for tar, each in zip(self.tars, indexed, strict=True)
            if each.problem
        ]
        if damaged and request.loader.strict:
            raise UserError(
                f"{damaged[0].path} {damaged[0].reason}. Copy it again, or leave out --loader.strict (pack: --strict)."
            )
        samples = [(sample, each.modified) for each in indexed for sample in each.samples]
        if not samples:
            first = f": {damaged[0].path} {damaged[0].reason}" if damaged else ""
            raise UserError(f"{self.spec} holds no images{first}. Images in a shard are {READABLE}.")
        further, links = sum(each.further for each in indexed), sum(each.links for each in indexed)
        notes = (f"{further} further images of samples that have one already are left alone",) if further else ()
        notes += (f"{links} images that are links or sparse files in their shards are left alone",) if links else ()
        part = Part(
            root=self.root,
            files=tuple(File(_listed(s.piece, self.root), s.piece.bytes, modified) for s, modified in samples),
            label_names=(),
            notes=notes,
            pieces=tuple(sample.piece.path() for sample, _ in samples),
            labels=tuple(sample.label for sample, _ in samples),
            what=os.path.abspath(os.path.expanduser(self.spec)),
        )
        alone = self.tars[0].stem if len(self.tars) == 1 else self.root.resolve().name
        return read_part(part, Path(self.spec), alone, tuple(damaged), request)

    def labelled_pair(self, request: Request) -> tuple[ImageSet, ImageSet] | None:
        return None

    def _indexed(self, request: Request) -> list[_Indexed]:
        def work(tars: Sequence[Path]) -> Rows:
            indexed = np.empty(len(tars), object)
            indexed[:] = [_kept_index(str(tar), *_stamp(tar), request) for tar in tars]
            return indexed, {}

        parts = map_chunks(work, self.tars, chunk=1, title="indexing shards", console=request.console)
        return [each for part, _ in parts for each in part]


def _listed(piece: Piece, root: Path) -> str:
    """The name that identifies an image in the cache."""
    return f"{_below(piece.file, root)}/{piece.name} {piece.offset}"


@functools.lru_cache(maxsize=4096)
def _below(file: str, root: Path) -> str:
    return os.path.relpath(file, root)


def _stamp(tar: Path) -> tuple[int, int]:
    status = tar.stat()
    return status.st_size, status.st_mtime_ns


@dataclass
class _Sample:
    piece: Piece
    label: Label = None


@dataclass
class _Indexed:
    """What one tar holds."""

    modified: int
    samples: list[_Sample] = field(default_factory=list)
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


def _kept_index(path: str, size: int, modified: int, request: Request) -> _Indexed:
    """The index of a tar from the cache, or made and kept there: reading 300,000 headers takes half a minute."""
    if request.loader.cache_gb == 0:
        return _index(path, size, modified)
    stamp = [_INDEX_VERSION, os.path.abspath(path), size, modified]
    cache_dir = request.cache_dir or user_cache()
    file = cache_dir.folder / f"{hashlib.sha256(os.fsencode(os.path.abspath(path))).hexdigest()[:20]}.index.json"
    with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
        kept = json.loads(file.read_bytes())
        if kept["stamp"] == stamp:
            samples = [_Sample(Piece(path, str(n), int(o), int(b)), label) for n, o, b, label in kept["samples"]]
            return _Indexed(modified, samples, int(kept["further"]), int(kept["links"]), str(kept["problem"]))
    found = _index(path, size, modified)
    if len(found.samples) >= _WORTH_KEEPING and not found.problem:
        rows = [(s.piece.name, s.piece.offset, s.piece.bytes, s.label) for s in found.samples]
        rest = {"further": found.further, "links": found.links, "problem": found.problem}
        with write_cached(file, cache_dir) as written:
            written.write(json.dumps({"stamp": stamp, "samples": rows, **rest}).encode())
    return found


@functools.cache
def _index(path: str, size: int, modified: int) -> _Indexed:
    """The samples of a tar in order, and what is wrong with it. A new size or time of the file is a new index."""
    found = _Indexed(modified)
    samples: dict[str, _Sample] = {}
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
                    _take(member, path, samples, labels, found)
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
    member: tarfile.TarInfo, path: str, samples: dict[str, _Sample], labels: dict[str, Label], found: _Indexed
) -> None:
    """Note a member as the image or the label of its sample."""
    folder, _, name = member.name.rpartition("/")
    first, _, _ = name.partition(".")
    key, suffix = f"{folder}/{first}", os.path.splitext(name)[1].lower()
    if name.startswith(".") or "\0" in member.name:
        return
    piece = Piece(path, member.name, member.offset_data, member.size)
    if suffix in SUFFIXES:
        found.further += key in samples
        samples.setdefault(key, _Sample(piece))
    elif suffix == ".cls" or (suffix == ".json" and key not in labels):
        label = _label(piece, suffix)
        if label is not None:
            labels[key] = label


def _label(piece: Piece, suffix: str) -> Label:
    """The label in a .cls (an integer) or a .json ("label", an integer or text), or None where there is none."""
    if piece.bytes > _MOST_LABEL_BYTES:
        return None
    content = read_piece(piece)
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
