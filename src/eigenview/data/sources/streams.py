"""Images that come one after another and can only be read from the front: surveyed once, then decoded or streamed.

The first pass reads every header and label. If the decoded squares fit into loader.cache_gb, a second pass decodes
them into the cache, and from then on the set is like any other. A larger set is streamed at every epoch through a
buffer: rows are read in the stream's order and shuffled within windows of `buffer` rows. The order is a function of
(seed, epoch) alone, so that the number of steps taken is the whole position: a resumed run skips to the window it was
in, fills it again and goes on with the same batches. (The shuffle buffer of `datasets` itself is lost on resuming.)

Encoded images wait in a temporary file (spool.py) and are decoded as byte ranges of it, so that there is one decoder
for every source.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import json
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, overload

import numpy as np

from eigenview import runfiles
from eigenview.config.reading import Reading
from eigenview.data.images import File, ImageSet, decode_all, printable
from eigenview.data.pixels.byte_ranges import Piece, as_piece
from eigenview.data.pixels.cache import Entry, user_cache, write_cached
from eigenview.data.pixels.decode import Sample as Sampled
from eigenview.data.pixels.decode import decode_rows
from eigenview.data.pixels.headers import DICOM, are_images, header_notes, headers
from eigenview.data.pixels.parallel import Rows, joined, map_chunks
from eigenview.data.pixels.ranges import Measured
from eigenview.data.sources.encoded import encoded_set, measured_range, read_samples, refuse_unreadable
from eigenview.data.sources.folder import Label, numbered_labels
from eigenview.data.sources.source import Request
from eigenview.data.sources.spool import Spool
from eigenview.errors import UserError
from eigenview.runfiles.schema import LABEL, ListOf, Maybe, misfit
from eigenview.terminal import Console

CHUNK = 256
Read = Callable[[Sequence[str]], Rows]


class Sample(NamedTuple):
    """One row: the encoded image, the path of a local file that holds it, or None; and its label."""

    image: bytes | str | None
    label: Label = None


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Where a stream comes from: `files` (name, bytes, time of change) identify the state of the data."""

    spec: str
    name: str
    place: Path
    files: tuple[File, ...]
    what: str
    notes: tuple[str, ...] = ()


class Stream:
    """The samples that `samples_from(row)` yields from any row to the end; it is reopened only to go back."""

    def __init__(self, origin: Origin, samples_from: Callable[[int], Iterator[Sample]]) -> None:
        self.origin, self.samples_from = origin, samples_from
        self._open: list[Iterator[Sample]] = []
        """The one being read, if any."""
        self._next = 0
        self._lock = threading.Lock()
        # otherwise it would be closed during interpreter shutdown, which prints an error
        weakref.finalize(self, self._open.clear)

    def fetch(self, rows: np.ndarray) -> Iterator[Sample]:
        """The samples of `rows`, which ascend. Raises UserError where the stream ends before them."""
        with self._lock:
            for row in map(int, rows):
                if not self._open or row < self._next:
                    self._open[:] = [self.samples_from(row)]
                    self._next = row
                sample = next(itertools.islice(self._open[0], row - self._next, None), None)
                self._next = row + 1
                if sample is None:
                    self._open.clear()
                    raise UserError(f"{self.origin.spec} ends before row {row}: it has changed since it was opened.")
                yield sample


class _Window(NamedTuple):
    """Rows int64 (batches, n) of a set, and their encoded images."""

    rows: np.ndarray
    spool: Spool
    paths: list[str]


@dataclass(frozen=True, kw_only=True, eq=False)
class StreamedSet(ImageSet):
    """A set too large for the cache, read from its stream whenever it is read. `paths` name the rows of the stream."""

    stream: Stream
    buffer: int
    """Rows that are shuffled together."""

    def read_marked(self, index: np.ndarray) -> tuple[np.ndarray, dict[int, str]]:
        window = self._fetched(np.asarray(index, np.int64)[None], threading.Event())
        with window.spool:
            return decode_all(window.paths, self.source_size, self.reading)

    def spread(self, most: int) -> np.ndarray:
        """The first rows: others would be read from the front of the stream."""
        return np.arange(min(len(self), most))

    def kept(self) -> ImageSet:
        """The images in memory, read once; one that breaks is replaced as in `read`."""
        fields: dict[str, Any] = {each.name: vars(self)[each.name] for each in dataclasses.fields(ImageSet)}
        fields["pixels"] = self.read(np.arange(len(self)))
        return ImageSet(**fields)

    def shuffled(self, batch_size: int, seed: int, epoch: int) -> tuple[np.ndarray, list[int]]:
        """Rows of the batches of an epoch, int64 (steps, batch_size), and the first step of each window.

        Each window is a permutation of consecutive rows, as many whole batches as `buffer` rows hold (at least one).
        The first window of an epoch is cut short at random, so that windows differ between epochs; the remainder of
        len / batch_size is left out at a random split between the front and the end.
        """
        generator = np.random.default_rng((seed, epoch))
        steps, length = len(self) // batch_size, max(1, self.buffer // batch_size)
        rows = np.arange(steps * batch_size) + int(generator.integers(len(self) - steps * batch_size + 1))
        starts = [0, *range(int(generator.integers(1, length + 1)), steps, length)]
        order = rows.reshape(steps, batch_size)
        for start, end in itertools.pairwise([*starts, steps]):
            order[start:end] = generator.permutation(order[start:end].reshape(-1)).reshape(-1, batch_size)
        return order, starts

    def decoded(self, parts: Iterator[np.ndarray]) -> Iterator[tuple[np.ndarray, np.ndarray, dict[int, str]]]:
        """(index int64 (n,), pixels, reasons by position) of each row of each part, int64 (batches, n).

        The next part is fetched while one is decoded.
        """
        stop = threading.Event()
        with ThreadPoolExecutor(1) as pool:
            coming = pool.submit(self._fetched, next(parts, None), stop)
            try:
                while (window := coming.result()) is not None:
                    coming = pool.submit(self._fetched, next(parts, None), stop)
                    with window.spool:
                        n = window.rows.shape[1]
                        for i, index in enumerate(window.rows):
                            paths = window.paths[i * n : (i + 1) * n]
                            yield index, *decode_all(paths, self.source_size, self.reading)
            finally:
                stop.set()  # an iteration that is left early does not wait for a whole window
                if coming.exception() is None and (window := coming.result()) is not None:
                    window.spool.close()

    @overload
    def _fetched(self, rows: np.ndarray, stop: threading.Event) -> _Window: ...
    @overload
    def _fetched(self, rows: np.ndarray | None, stop: threading.Event) -> _Window | None: ...
    def _fetched(self, rows: np.ndarray | None, stop: threading.Event) -> _Window | None:
        if rows is None:
            return None
        wanted = np.array([_row_of(self.paths[i]) for i in rows.reshape(-1)], np.int64)
        distinct, position = np.unique(wanted, return_inverse=True)
        spool = Spool()
        try:
            samples = itertools.takewhile(lambda _: not stop.is_set(), self.stream.fetch(distinct))
            paths = spool.put(sample.image for sample in samples)
        except BaseException:
            spool.close()
            raise
        return _Window(rows, spool, [] if stop.is_set() else [paths[i] for i in position])


def load_stream(stream: Stream, buffer: int, request: Request) -> ImageSet:
    """The images of a stream; those that cannot be decoded are skipped and listed.

    Raises UserError for an empty stream, for an unreadable image where loader.strict asks for it, when more than half
    are unreadable, and when the cache cannot be written.
    """
    origin, console = stream.origin, request.console or Console(stderr=True)
    entry = Entry.of(origin.place, origin.files, origin.what, cache_dir=request.cache_dir)

    def decode(side: int, count: int, reading: Reading, key: str) -> Rows:
        own, channels = entry.made_by(key), reading.channels
        decoded = own.pixels(side, channels)
        if decoded is None:
            with own.turn(f"decoding the images of {printable(origin.name)}", request.console):
                parts = _pass(stream, lambda paths: decode_rows(paths, side, reading))
                decoded = own.pixels(side, channels) or own.keep_pixels(side, parts, count, channels)
        _refuse(decoded[1], len(labels), origin, request)
        return decoded

    def measured(rows: np.ndarray, bits: int, reading: Reading) -> Measured:
        def read(chosen: np.ndarray) -> list[Sampled]:
            with Spool() as spool:
                return read_samples(spool.put(sample.image for sample in stream.fetch(chosen)), reading, origin.spec)

        keeps = request.loader.cache_gb > 0
        return measured_range(entry if keeps else None, rows, bits, reading, origin.spec, read)

    with console.waiting(f"reading {printable(origin.name)}"):
        surveyed, labels = _surveyed(stream, entry, request)
        _refuse_several(surveyed[0], origin.spec, request.reading)
        _refuse(surveyed[1], len(labels), origin, request)  # they may come from the cache of a run that was not strict
        images = encoded_set(
            surveyed,
            [_named(origin, row) for row in range(len(labels))],
            decode,
            lambda kept: numbered_labels([labels[row] for row in kept]),
            measured,
            request,
            name=origin.name,
            notes=origin.notes,
            pixel_notes=header_notes(surveyed[0], request.reading.pages),
            files=origin.files,
        )
    return images if images.pixels is not None else _streamed(images, stream, buffer)


def _refuse_several(rows: np.ndarray, spec: str, reading: Reading) -> None:
    """Raises UserError where images with the headers `rows` have pages or frames that are images of their own."""
    several = are_images(rows, reading.pages)
    frames = int((several & (rows[:, DICOM] == 1)).sum())
    if frames:
        raise UserError(
            f"{spec}: DICOM files of several frames, each an image, in {frames:,} rows; in a stream each row is one "
            "image. Give a folder of the files, or --pages channels."
        )
    if several.any():
        raise UserError(
            f"{spec}: --pages images is for files in folders and shards; in a stream each row is one image. "
            "Leave it out: the first page of each is used then."
        )


def _streamed(images: ImageSet, stream: Stream, buffer: int) -> StreamedSet:
    note = (
        f"{images.name} is larger than loader.cache_gb and streamed: shuffled within {buffer:,} rows, so rows that are "
        "sorted by class should be shuffled before"
    )
    return StreamedSet(**{**vars(images), "notes": (*images.notes, note)}, stream=stream, buffer=buffer)


def _named(origin: Origin, row: int) -> str:
    """The path that stands for a row: messages show SPEC/row ROW."""
    return Piece(origin.spec, f"row {row}", row, 0).path()


def _row_of(path: str) -> int:
    piece = as_piece(path)
    assert piece is not None  # paths of a StreamedSet are made by _named
    return piece.offset


def _surveyed(stream: Stream, entry: Entry, request: Request) -> tuple[Rows, list[Label]]:
    """Short sides with the reasons of unreadable headers, and labels, of all rows; kept in the cache beside pixels."""
    cache_dir = request.cache_dir or user_cache()
    file = cache_dir.folder / f"{entry.place}-{entry.version}.labels.json"

    def read() -> tuple[Rows, list[Label]]:
        labels: list[Label] = []
        parts = list(_pass(stream, headers, labels))
        if not parts:
            raise empty(stream.origin.spec)
        found = joined(parts)
        _refuse(found[1], len(labels), stream.origin, request)
        return found, labels

    def kept() -> tuple[Rows, list[Label]] | None:
        known = entry.sides()
        if known is not None:
            with contextlib.suppress(OSError, ValueError):
                labels = runfiles.parse_json(runfiles.read_regular(file))
                if misfit(labels, ListOf(Maybe(LABEL), len(known[0]))) is None:
                    return known, labels
        return None

    if request.loader.cache_gb == 0:
        return read()
    known = kept()
    if known is None:
        with entry.turn(f"reading {printable(stream.origin.name)}", request.console):
            known = kept()
            if known is None:
                known = read()
                entry.keep_sides(*known[0])
                with write_cached(file, cache_dir) as written:
                    written.write(json.dumps(known[1]).encode())
    return known


def _pass(stream: Stream, read: Read, labels: list[Label] | None = None) -> Iterator[Rows]:
    """read(paths) of all rows, chunk by chunk; the labels are added to `labels`."""
    samples = stream.samples_from(0)
    while chunk := list(itertools.islice(samples, CHUNK)):
        with Spool() as spool:
            parts = list(map_chunks(read, spool.put(sample.image for sample in chunk), chunk=32))
        if labels is not None:
            labels += [sample.label for sample in chunk]
        yield from parts


def _refuse(broken: dict[int, str], rows: int, origin: Origin, request: Request) -> None:
    strict, spec = request.loader.strict, origin.spec
    refuse_unreadable(broken, rows, strict=strict, source=spec, name=lambda row: f"{spec}, row {row}")


def empty(spec: str) -> UserError:
    """The error of a split without rows."""
    return UserError(f"{spec}: the split is empty, it has no rows. Name another with split=.")
