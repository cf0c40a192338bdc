"""Image files as an ImageSet: headers checked, side chosen, pixels decoded once into the cache or at each reading."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import overload

import numpy as np

from eigenview.config.fit import parse_fit
from eigenview.config.reading import Reading
from eigenview.data.images import File, ImageSet, Skipped, Split, printable
from eigenview.data.opening import kind_of
from eigenview.data.pixels.byte_ranges import split_tile
from eigenview.data.pixels.cache import Entry
from eigenview.data.pixels.decode import Sample, decode, decode_rows
from eigenview.data.pixels.headers import PAGES, are_images, header_notes, headers, short_side
from eigenview.data.pixels.image_files import Unreadable
from eigenview.data.pixels.parallel import Rows, joined, map_chunks
from eigenview.data.pixels.ranges import Measured
from eigenview.data.sources.encoded import encoded_set, measured_range, read_samples, refuse_unreadable
from eigenview.data.sources.folder import (
    Listing,
    Part,
    choose_part,
    nothing_found,
    scan,
    split_folders,
    splits_of,
)
from eigenview.data.sources.source import Loaded, Request
from eigenview.data.sources.tiles import cut
from eigenview.data.splitting import same_classes
from eigenview.errors import UserError


@dataclass(frozen=True)
class Folder:
    """A folder of images, or a single image file, as a source."""

    root: Path
    loaded: Loaded = field(default_factory=Loaded, init=False, repr=False, compare=False)

    def load(self, split: Split, request: Request) -> ImageSet:
        """Unreadable files are skipped and listed.

        Raises UserError when there is no image file, at the first unreadable file where loader.strict asks for it, when
        more than half are unreadable, and when the cache cannot be written.
        """
        return self.loaded.get(split, request) or self.loaded.keep(split, request, self._load(split, request))

    def _load(self, split: Split, request: Request) -> ImageSet:
        if kind_of(self.root) == "file":
            status = self.root.stat()
            file = File(self.root.name, status.st_size, status.st_mtime_ns)
            # a separate entry in the cache: the folder's entry is that of all its files
            part = Part(self.root.parent, (file,), (file.name,), what=file.name)
            return read_part(part, self.root, self.root.stem, (), request)
        found = self._found
        part = choose_part(found, split)
        part = dataclasses.replace(part, notes=(*part.notes, *found.notes()))
        return read_part(part, self.root, _folder_name(part.root), tuple(found.closed), request)

    def labelled_pair(self, request: Request) -> tuple[ImageSet, ImageSet] | None:
        if not self.has_test:
            return None
        train = self.load("train", request)
        test = self.load("test", request.like(train))
        if train.labels is None or test.labels is None:  # no test labels, as in competitions: the probes split train/
            return None
        return same_classes(train, test)

    @property
    def folder(self) -> Path:
        """The folder below which the images lie."""
        return self.root.parent if kind_of(self.root) == "file" else self.root

    @property
    def has_test(self) -> bool:
        """Whether it has training images, and test or validation images, in folders that are named so."""
        folders = {} if kind_of(self.root) == "file" else split_folders(self._found)
        return "train" in folders and len(folders) > 1

    @functools.cached_property
    def _found(self) -> Listing:
        """The folder, listed once however often it is asked for."""
        found = scan(self.root)
        if not found.files:
            raise UserError(nothing_found(found))
        return found


def read_part(part: Part, shown: Path, name: str, closed: tuple[Skipped, ...], request: Request) -> ImageSet:
    """The images of `part`; messages call it `shown`. `closed` are the folders and shards that could not be read."""
    if request.most is not None and request.most < len(part.files):
        part = part.take(request.chosen(len(part.files)))
        request = dataclasses.replace(request, loader=dataclasses.replace(request.loader, cache_gb=0))
    reader, files = _Reader(part, shown, request), part.files
    headers, broken = reader.sides()
    pixel_notes = header_notes(headers, request.reading.pages)
    several = are_images(headers, request.reading.pages)
    if several.any():
        counts = np.where(several, headers[:, PAGES], 1).astype(np.int64)
        starts = np.cumsum(counts) - counts
        part, headers = part.by_pages(counts), np.repeat(headers, counts, axis=0)
        broken = {int(starts[i]): reason for i, reason in broken.items()}
        reader.read_parts_of(part)
    fit = parse_fit(request.reading.fit)
    if fit.kind == "tiles":
        part, (headers, broken), note = cut(part, (headers, broken), fit)
        pixel_notes += note
        reader.read_parts_of(part)
    images = encoded_set(
        (headers, broken),
        reader.paths,
        reader.pixels,
        part.classes,
        reader.measured,
        request,
        name=name,
        not_listed=closed,
        notes=part.notes,
        pixel_notes=pixel_notes,
        files=files,
    )
    if reader.keeps:
        reader.entry.forget_earlier()
    return images


class _Paths(Sequence[str]):
    """The paths of some images, taken one by one, so that a chunk of work can stop between two of them."""

    def __init__(self, paths: Sequence[str], index: Sequence[int]) -> None:
        self.paths, self.rows = paths, index

    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[str]: ...
    def __getitem__(self, index: int | slice) -> str | Sequence[str]:
        return [self.paths[i] for i in self.rows[index]] if isinstance(index, slice) else self.paths[self.rows[index]]

    def __iter__(self) -> Iterator[str]:
        return (self.paths[i] for i in self.rows)


def _taken_over(
    index: Sequence[int],
    earlier: np.ndarray,
    kept: np.ndarray | None,
    read: Callable[[Sequence[int]], Rows],
) -> Rows:
    """The rows of consecutive images: `kept` where `earlier` names a row, what `read` reads for the others."""
    if kept is None:
        return read(index)
    images = np.array(list(index), np.int64)
    at = earlier[images]
    fresh, broken = read(images[at < 0].tolist())
    rows = np.empty((len(images), *kept.shape[1:]), kept.dtype)
    rows[at >= 0] = kept[at[at >= 0]]
    rows[at < 0] = fresh
    place = np.flatnonzero(at < 0)
    return rows, {int(place[i]): reason for i, reason in broken.items()}


def _folder_name(root: Path) -> str:
    """The folder's name; for a split's own folder the data set's name comes first: "cifar10/train"."""
    root = root.resolve()
    return f"{root.parent.name}/{root.name}" if splits_of([root.name]) else root.name


class _Reader:
    """The two passes over the files, headers and pixels, each read from the cache if possible. cache_gb 0: no cache."""

    def __init__(self, part: Part, shown: Path, request: Request) -> None:
        self.paths = part.paths()
        self.shown, self.is_strict, self.console = shown, request.loader.strict, request.console
        self.entry = Entry.of(part.root, part.files, part.what, cache_dir=request.cache_dir)
        """Of the headers."""
        self.pixel_entry = self.entry
        """Of the pixels; there is another one for each other way to make them."""
        self.keeps = request.loader.cache_gb > 0

    def read_parts_of(self, part: Part) -> None:
        """Decode the images of `part` from here on, each a page or a tile of a file whose headers were read."""
        self.paths = part.paths()
        self.pixel_entry = Entry.of(part.root, part.files, part.what, cache_dir=self.entry.cache_dir)

    def sides(self) -> Rows:
        """float64 (files, 5) of `decode.headers`, and the reasons of files with an unreadable header."""
        if not self.keeps:
            return self._read_sides()
        known = self._kept_sides()
        if known is None:
            with self.entry.turn(f"checking the images of {printable(str(self.shown))}", self.console):
                known = self._kept_sides() or self._read_sides()
        return known

    def _kept_sides(self) -> Rows | None:
        known = self.entry.sides()
        is_good = known is not None and not self._any_repaired(known[1], short_side)
        return self._accept(known) if known is not None and is_good else None

    def _read_sides(self) -> Rows:
        earlier, kept = self._earlier(self.entry, lambda entry: entry.sides() if self.keeps else None)

        def work(index: Sequence[int]) -> Rows:
            return _taken_over(index, earlier, kept, lambda wanted: headers(_Paths(self.paths, wanted)))

        parts = map_chunks(work, range(len(self.paths)), chunk=64, title="checking images", console=self.console)
        checked = list(self._checked(parts))
        known = joined(checked)
        if self.keeps:
            self.entry.keep_sides(*known)
        return known

    def measured(self, rows: np.ndarray, bits: int, reading: Reading) -> Measured:
        """What the values of some of the images `rows` say of the range. Whole images count, whatever --fit is."""
        if parse_fit(reading.fit).kind == "tiles":
            rows = np.array([i for i in rows.tolist() if split_tile(self.paths[i])[1] == 0], np.int64)

        def read(chosen: np.ndarray) -> list[Sample]:
            return read_samples([self.paths[i] for i in chosen], reading, str(self.shown))

        return measured_range(self.entry if self.keeps else None, rows, bits, reading, str(self.shown), read)

    def pixels(self, side: int, expected: int, reading: Reading, key: str) -> Rows:
        """uint8 (readable files, C, side, side), memory-mapped, and the reasons of all files left out."""
        entry = self.pixel_entry.made_by(key)
        known = self._kept_pixels(entry, side, reading)
        if known is None:
            with entry.turn(f"decoding the images of {printable(str(self.shown))}", self.console):
                known = self._kept_pixels(entry, side, reading) or self._decoded(entry, side, expected, reading)
        return known

    def _kept_pixels(self, entry: Entry, side: int, reading: Reading) -> Rows | None:
        known = entry.pixels(side, reading.channels)
        is_good = known is not None and not self._any_repaired(known[1], lambda path: decode(path, side, reading))
        return self._accept(known) if known is not None and is_good else None

    def _decoded(self, entry: Entry, side: int, expected: int, reading: Reading) -> Rows:
        channels = reading.channels
        if not entry.has_space(expected * channels * side * side):
            entry.forget_earlier()  # decoding all again is better than a full disk
        earlier, kept = self._earlier(entry, lambda entry: entry.pixels(side, channels))

        def read(wanted: Sequence[int]) -> Rows:
            return decode_rows(_Paths(self.paths, wanted), side, reading)

        def work(index: Sequence[int]) -> Rows:
            return _taken_over(index, earlier, kept, read)

        parts = map_chunks(work, range(len(self.paths)), chunk=32, title="decoding images", console=self.console)
        return entry.keep_pixels(side, self._checked(parts), expected, channels)

    def _earlier(self, now: Entry, read: Callable[[Entry], Rows | None]) -> tuple[np.ndarray, np.ndarray | None]:
        """For each image of `now` its row among those an earlier list of this place kept, -1 if it is new; and those
        rows."""
        entry = now.earlier()
        known = None if entry is None else read(entry)
        if entry is None or known is None:
            return np.full(len(self.paths), -1), None
        rows, broken = known
        if len(rows) == len(entry.files):  # headers: a row for the unreadable ones too, which are read again
            at = entry.rows_of(now.files, {})
            unreadable = np.isin(at, list(broken))
            return np.where(unreadable, -1, at), rows
        if len(rows) != len(entry.files) - len(broken):
            return np.full(len(self.paths), -1), None
        return entry.rows_of(now.files, broken), rows

    def _any_repaired(self, broken: dict[int, str], read: Callable[[str], object]) -> bool:
        """Whether a file that was unreadable when the cache was written can be read now (a permission, a mount)."""
        for i in broken:
            try:
                read(self.paths[i])
            except Unreadable:
                continue
            return True
        return False

    def _checked(self, parts: Iterator[Rows]) -> Iterator[Rows]:
        """`parts` unchanged. Raises UserError at the first unreadable file if strict, at the end if over half are."""
        broken: dict[int, str] = {}
        seen = 0
        for rows, reasons in parts:
            broken |= {seen + i: reason for i, reason in reasons.items()}
            seen += len(rows)
            self._refuse(broken, is_complete=False)
            yield rows, reasons
        self._refuse(broken, is_complete=True)

    def _accept(self, known: Rows) -> Rows:
        self._refuse(known[1], is_complete=True)
        return known

    def _refuse(self, broken: dict[int, str], *, is_complete: bool) -> None:
        refuse_unreadable(
            broken,
            len(self.paths),
            strict=self.is_strict,
            source=str(self.shown),
            name=lambda i: printable(self.paths[i]),
            is_complete=is_complete,
        )
