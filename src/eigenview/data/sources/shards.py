"""WebDataset shards: tar files read in place, neither unpacked nor executed.

The members of each tar are indexed once a process, so that images can be read in any order: the order of a run, and
resuming it, are those of a folder of files. Samples: members with the same name up to the first dot, in the order of
their first member. A sample's image is its first member with an image suffix, its label the integer in .cls, else
"label" in .json.
"""

from __future__ import annotations

import functools
import itertools
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from eigenview.data.images import File, ImageSet, Skipped, Split, printable
from eigenview.data.opening import at_home, kind_of
from eigenview.data.pixels.byte_ranges import Piece
from eigenview.data.pixels.image_files import READABLE
from eigenview.data.pixels.parallel import Rows, map_chunks
from eigenview.data.sources.files import read_part
from eigenview.data.sources.folder import Part, scan
from eigenview.data.sources.source import Loaded, Request
from eigenview.data.sources.tar_index import Indexed, kept_index
from eigenview.errors import UserError

_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")
_MOST_SHARDS = 1_000_000
_NO_SHARDS = re.compile(r"(?i)^pipe:|^\w+://|::|[*?[{].*\.tar$|\.(tgz|tar\.(gz|bz2|xz|zst))$")
"""What other programs accept as shards and this one does not: commands, URLs, compressed tars, lists, globs."""
_ALLOWED = (
    "Shards are uncompressed .tar files on this machine: give their folder, one .tar, or a pattern of numbers such as "
    "'x-{000..012}.tar'."
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

    @property
    def folder(self) -> Path:
        """The folder below which the images lie: names of images are SHARD.tar/NAME."""
        return self.root

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

    def _indexed(self, request: Request) -> list[Indexed]:
        def work(tars: Sequence[Path]) -> Rows:
            indexed = np.empty(len(tars), object)
            indexed[:] = [kept_index(tar, request) for tar in tars]
            return indexed, {}

        parts = map_chunks(work, self.tars, chunk=1, title="indexing shards", console=request.console)
        return [each for part, _ in parts for each in part]


def _listed(piece: Piece, root: Path) -> str:
    """The name that identifies an image in the cache."""
    return f"{_below(piece.file, root)}/{piece.name} {piece.offset}"


@functools.lru_cache(maxsize=4096)
def _below(file: str, root: Path) -> str:
    return os.path.relpath(file, root)
