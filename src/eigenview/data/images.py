"""The records: a set of square uint8 images, and the files that could not be read."""

from __future__ import annotations

import dataclasses
import math
import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from eigenview.config.reading import Reading
from eigenview.data.pixels.byte_ranges import shown
from eigenview.data.pixels.decode import decode_rows
from eigenview.data.pixels.parallel import Rows, joined, map_chunks
from eigenview.errors import ReplacedImages, UserError

Split = Literal["train", "test", "all"]
"""train: what may be trained on, never test images; test: a set's own test images; all: every image."""


class File(NamedTuple):
    """A file: path below its folder, with "/"; size in bytes; time of its last change in ns."""

    name: str
    bytes: int
    modified: int


@dataclass(frozen=True)
class Skipped:
    """A file that is not part of the set, and why."""

    path: str
    reason: str


@dataclass(frozen=True, kw_only=True, eq=False)
class ImageSet:
    """N square images of one side, in memory (or memory-mapped), or as files that are decoded when they are read.

    Shapes: pixels uint8 (M, C, S, S), values 0 to 255, RGB where C is 3; labels int64 (N,), indices into class_names
    or -1.
    `pixels` is None for a set too large to be cached; `paths` is () for arrays. Never both. M is N, or more where
    `rows` names the images of this set: parts of a set share its pixels.
    """

    name: str
    """How messages call the set: "digits", "photos"."""
    pixels: np.ndarray | None
    """uint8 (M, C, S, S), or None for a set that is decoded when read."""
    paths: tuple[str, ...]
    """The file, or byte range of a file (pixels/byte_ranges.py), of each image; () if pixels come from no files."""
    labels: np.ndarray | None
    """int64 (N,), -1 where an image has none (a CSV file may label some); None where the data carry no labels."""
    class_names: tuple[str, ...]
    """Names of the labels 0, 1, ...; () without labels."""
    source_size: int
    """S, side of the stored squares in pixels."""
    size: int
    """Side in pixels of the views to train on."""
    size_reason: str
    """Why that side: "because the median side is 71"."""
    side_range: tuple[int, int]
    """Smallest and largest short side among the originals, in pixels."""
    skipped: tuple[Skipped, ...] = ()
    """Files that could not be read."""
    notes: tuple[str, ...] = ()
    """What the user should know about how the set was read, a sentence each."""
    pixel_notes: tuple[str, ...] = ()
    """What was decided about the pixels, and what is odd about them, a sentence each: range, pages, contrast."""
    label_notes: tuple[str, ...] = ()
    """What was taken for labels and what the probes leave out of them; without labels, why there are none."""
    files: tuple[File, ...] = ()
    """The files that the set was read from, used or not, by which a resumed run notices other data."""
    rows: np.ndarray | None = None
    """int64 (N,): which rows of `pixels` are the images of this set; None: all, in their order."""
    of_file: np.ndarray | None = None
    """int64 (N,): the number of the file that each image is a tile, a page or a frame of; None: each is a file."""
    reading: Reading = Reading()
    """How the pixels are made from files, with the number of channels C and the range that was decided."""

    def __post_init__(self) -> None:
        if self.pixels is None and not self.paths:
            raise ValueError(f"{self.name}: neither pixels nor paths were given; an ImageSet needs one of them.")
        square = (0 if self.pixels is None else len(self.pixels), *self.shape)
        if self.pixels is not None and (self.pixels.shape != square or self.pixels.dtype != np.uint8):
            raise ValueError(
                f"{self.name}: pixels are {self.pixels.dtype} {self.pixels.shape}, expected uint8 {square}."
            )
        for what, rows in (("paths", self.paths or None), ("labels", self.labels), ("file numbers", self.of_file)):
            if rows is not None and len(rows) != len(self):
                raise ValueError(f"{self.name}: {len(rows)} {what} for {len(self)} images.")

    def __len__(self) -> int:
        if self.pixels is None:
            return len(self.paths)
        return len(self.pixels) if self.rows is None else len(self.rows)

    @property
    def shape(self) -> tuple[int, int, int]:
        """C, S, S: of one image."""
        return self.reading.channels, self.source_size, self.source_size

    @property
    def nbytes(self) -> int:
        """Bytes of the decoded set, whether it is in memory or not."""
        return len(self) * math.prod(self.shape)

    def without_labels(self, why: str) -> ImageSet:
        """The same images without labels, and the reason."""
        return dataclasses.replace(self, labels=None, class_names=(), label_notes=(why,))

    def take(self, index: np.ndarray) -> ImageSet:
        """The images `index` (integer rows, any order), with their paths and labels. Pixels are shared, not copied."""
        index = np.asarray(index, dtype=np.int64)
        return dataclasses.replace(
            self,
            rows=None if self.pixels is None else self._rows_of(index),
            paths=tuple(self.paths[i] for i in index) if self.paths else (),
            labels=None if self.labels is None else self.labels[index],
            of_file=None if self.of_file is None else self.of_file[index],
        )

    def kept(self) -> ImageSet:
        """The same images in memory if every reading of them would begin at the front of a stream; else the set."""
        return self

    def spread(self, most: int) -> np.ndarray:
        """Up to `most` rows, ascending, from all parts of the set: sets are often sorted by class."""
        return evenly_spaced(len(self), most)

    def _rows_of(self, index: np.ndarray) -> np.ndarray:
        """Rows of `pixels` that hold the images `index`."""
        return (np.arange(len(self)) if self.rows is None else self.rows)[np.asarray(index, dtype=np.int64)]

    def read_marked(self, index: np.ndarray) -> tuple[np.ndarray, dict[int, str]]:
        """uint8 (n, C, S, S) of the rows `index`, and the reason at each position that could not be decoded.

        Such positions are black. Only a set decoded when read has any: its files were checked by their headers.
        """
        if self.pixels is not None:
            return np.ascontiguousarray(self.pixels[self._rows_of(index)]), {}
        wanted = [self.paths[int(i)] for i in index]
        return decode_all(wanted, self.source_size, self.reading)

    def read(self, index: np.ndarray) -> np.ndarray:
        """uint8 (n, C, S, S) of the rows `index`, decoding where needed.

        A file that broke since the set was opened is replaced by the next readable image of `index`, with a warning
        that names it. Raises UserError when none of them can be read.
        """
        rows, broken = self.read_marked(index)
        if broken:
            position, reason = next(iter(broken.items()))
            first = f"{printable(self.paths[int(index[position])])}: {reason}"
            if len(broken) == len(rows):
                raise UserError(
                    f"none of {len(rows)} images of {self.name} can be read ({first}). Is the folder still there?"
                )
            rows = rows[stand_ins(len(rows), set(broken))]
            what, were = ("images", "were") if len(broken) > 1 else ("image", "was")
            text = f"{len(broken)} {what} of {self.name} broke and {were} replaced ({first})"
            warnings.warn(text, ReplacedImages, stacklevel=2)
        return rows


def evenly_spaced(count: int, most: int) -> np.ndarray:
    """Up to `most` rows of `count`, ascending, from all parts of them."""
    return np.arange(min(count, most)) * count // max(1, min(count, most))


def decode_all(paths: Sequence[str], side: int, reading: Reading) -> Rows:
    """uint8 (n, C, side, side), black where an image is unreadable, and the reasons there; on all cores."""
    parts = list(map_chunks(lambda some: decode_rows(some, side, reading), paths, chunk=16))
    return joined(parts) if parts else (np.empty((0, reading.channels, side, side), np.uint8), {})


def stand_ins(rows: int, broken: set[int]) -> np.ndarray:
    """int64 (rows,): each position, or for a broken one the next sound position, cyclically. Needs a sound one."""
    sound = np.array([i for i in range(rows) if i not in broken], dtype=np.int64)
    return sound[np.searchsorted(sound, np.arange(rows)) % len(sound)]


def printable(path: str) -> str:
    """A file name as text that any file or terminal can hold: bytes that are not UTF-8 are shown as \\xNN."""
    return os.fsencode(shown(path)).decode("utf-8", "backslashreplace")
