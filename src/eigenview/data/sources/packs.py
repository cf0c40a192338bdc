"""A pack as a source: images decoded once, for many runs. data/packing.py writes what is read here.

A folder with a manifest and, for each part, PART.npy, uint8 (N, C, S, S) as the cache keeps it, and two columns, int64
(N,): PART-labels.npy, where there are labels, and PART-files.npy, where images are tiles, pages or frames of files: the
number of the file of each, by which those of one file stay on one side of a split. Parts: "train" is what may be
trained on; "test" the source's own labelled test images; "probes" its labelled training images where those are others
(STL-10). Rows lie in the order of the source.

    {"format": "eigenview pack", "version": 1, "size": side of the views, "source_size": S, "size_reason": text,
     "pixels": how they were made (config/reading.py), absent for 8 bits and three channels,
     "parts": {part: {"name": the source's, "images": N, "crc": of some rows, "labels_crc": of the labels or null,
                      "files_crc": of the numbers of files or null,
                      "class_names": [...], "side_range": [smallest, largest] short side of the originals,
                      "notes": [...], "label_notes": [...] or absent,
                      "skipped": [[path below the source, reason], ...]}}}

Nothing in a pack is executed, and everything in it is checked before use: the manifest's fields, the lengths of the
files, their checksums, the range of the labels.
"""

from __future__ import annotations

import dataclasses
import io
import math
import os
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from eigenview import runfiles
from eigenview.config.reading import Reading
from eigenview.data.images import File, ImageSet, Skipped, Split
from eigenview.data.opening import kind_of, read_regular, why
from eigenview.data.pixels.byte_ranges import Piece
from eigenview.data.pixels.cache import HEADER_BYTES, Shape, map_rows
from eigenview.data.pixels.image_size import Sizes, choose_sizes
from eigenview.data.pixels.ranges import is_same_range, kept_range
from eigenview.data.sources.arrays import READ_ERRORS, ImageArray, as_image_set
from eigenview.data.sources.source import Request
from eigenview.data.splitting import same_classes
from eigenview.errors import UserError
from eigenview.runfiles.formats import READING
from eigenview.runfiles.schema import misfit

MANIFEST = "eigenview-pack.json"
FORMAT, VERSION = "eigenview pack", 1
PARTS = ("train", "probes", "test")


def pixels_file(folder: Path, part: str) -> Path:
    """Where the pixels of a part lie."""
    return folder / f"{part}.npy"


def labels_file(folder: Path, part: str) -> Path:
    """Where the labels of a part lie."""
    return folder / f"{part}-labels.npy"


def numbers_file(folder: Path, part: str) -> Path:
    """Where the numbers of the files of a part lie."""
    return folder / f"{part}-files.npy"


@dataclass(frozen=True, kw_only=True)
class PartCard:
    """What the manifest says of one part."""

    name: str
    images: int
    crc: int
    labels_crc: int | None
    files_crc: int | None
    class_names: tuple[str, ...]
    side_range: tuple[int, int]
    notes: tuple[str, ...]
    label_notes: tuple[str, ...]
    skipped: tuple[Skipped, ...]


@dataclass(frozen=True, kw_only=True)
class Card:
    """The manifest."""

    sizes: Sizes
    parts: dict[str, PartCard]
    reading: Reading = Reading()

    def as_json(self) -> dict[str, Any]:
        """The manifest as at the top of this file."""
        parts = {name: dataclasses.asdict(part) for name, part in self.parts.items()}
        for name, part in parts.items():
            part["skipped"] = [[each.path, each.reason] for each in self.parts[name].skipped]
        sides = {"size": self.sizes.size, "source_size": self.sizes.source_size, "size_reason": self.sizes.reason}
        made = {} if self.reading == Reading() else {"pixels": self.reading.as_json()}
        return {"format": FORMAT, "version": VERSION, **sides, **made, "parts": parts}


def find_pack(root: Path) -> Pack | None:
    """The pack in the folder `root`; None where it has no manifest."""
    return Pack(root) if kind_of(root / MANIFEST) == "file" else None


@dataclass(frozen=True)
class Pack:
    """A folder that `eigenview pack` wrote, as a source."""

    root: Path

    def load(self, split: Split, request: Request) -> ImageSet:
        """The part "train" or "test", or all parts one after another.

        Up to loader.cache_gb the pixels are one memory-mapped array; more are read row by row when asked for, so that
        a pack may be larger than memory. Raises UserError for a damaged or foreign pack and for missing test images.
        """
        card = self._card()
        if split == "test" and "test" not in card.parts:
            raise UserError(f"{self.root} has no labelled test images: what it was packed from had none.")
        return self._images(card, tuple(card.parts) if split == "all" else (split,), request)

    def labelled_pair(self, request: Request) -> tuple[ImageSet, ImageSet] | None:
        card = self._card()
        if "test" not in card.parts:
            return None
        fitted = "probes" if "probes" in card.parts else "train"
        return same_classes(self._images(card, (fitted,), request), self._images(card, ("test",), request))

    def _card(self) -> Card:
        path = self.root / MANIFEST
        try:
            return _parsed(runfiles.parse_json(read_regular(path)), path)
        except OSError as error:
            raise UserError(f"{path} cannot be read: {why(error)}.") from error
        except UserError:
            raise
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise UserError(f"{path} is damaged or no manifest of a pack. {_pack_again(self.root)}") from error

    def _images(self, card: Card, parts: tuple[str, ...], request: Request) -> ImageSet:
        self._check(card.reading, request.reading)
        sizes, stored = _sizes(card, request), card.sizes.source_size
        rows = {part: self._rows(part, card) for part in parts}
        is_large = (
            sum(map(len, rows.values())) * card.reading.channels * sizes.source_size**2 > request.loader.cache_gb * 1e9
        )
        sets: list[ImageSet] = []
        # its pixels have 8 bits and are made already: no range is looked for
        made = Reading(channels=card.reading.channels)
        unchecked = dataclasses.replace(request, check=None, reading=made)
        for part in parts:
            about, labels = card.parts[part], self._labels(part, card.parts[part])
            notes = about.notes
            if stored < sizes.source_size and about.side_range[1] > stored:
                notes += (
                    f"{self.root} holds {stored} px, enlarged to {sizes.source_size}; its originals were larger. "
                    f"Pack them again with --image-size {sizes.size} for sharper images",
                )
            common = {"name": about.name, "labels": labels, "class_names": about.class_names, "notes": notes}
            common |= {"label_notes": about.label_notes}
            if request.check is not None:
                request.check(sum(map(len, rows.values())), labels is not None)
            if is_large:
                paths = self._pieces(part, about.images, (card.reading.channels, stored, stored))
                sides = dataclasses.astuple(sizes)
                fields = dict(zip(("size", "source_size", "size_reason"), sides, strict=True))
                images = ImageSet(pixels=None, paths=paths, side_range=about.side_range, **common, **fields)
            else:
                files = (pixels_file(self.root, part),)
                images = as_image_set(ImageArray(pixels=rows[part], files=files, part=part, **common), unchecked, sizes)
            status = os.stat(pixels_file(self.root, part))
            # the checksum tells two packs of as many images apart, whatever their time
            name = f"{part} {about.crc} {about.labels_crc}"
            listed = (File(name, status.st_size, status.st_mtime_ns),)
            own = {"side_range": about.side_range, "skipped": about.skipped, "files": listed}
            own |= {"reading": card.reading, "of_file": self._numbers(part, about)}
            sets.append(dataclasses.replace(images, **own))
        return sets[0] if len(sets) == 1 else _joined(sets)

    def _check(self, own: Reading, asked: Reading) -> None:
        """Raises UserError where images are asked for that were made in another way than those of the pack."""
        if asked.channels != own.channels:
            raise UserError(
                f"{self.root} holds images of {own.channels} channel{'s' if own.channels > 1 else ''}, and --channels "
                f"is {asked.channels} (default 3; an encoder has its own). Give --channels {own.channels}, or pack "
                "again."
            )
        if asked.fit not in (own.fit, "crop"):
            raise UserError(
                f"{self.root} was packed with --fit {own.fit}, and {asked.fit} is asked for (an encoder has that of "
                f"its training). Give the images themselves, or pack them again with --fit {asked.fit}."
            )
        if asked.pages not in (own.pages, "first"):
            raise UserError(
                f"{self.root} was packed with --pages {own.pages}, and {asked.pages} is asked for (an encoder has that "
                f"of its training). Give the images themselves, or pack them again with --pages {asked.pages}."
            )
        if not is_same_range(own, asked):
            theirs = kept_range(own) if own.low else f"range {own.range}"
            ours = kept_range(asked) if asked.low else f"range {asked.range}"
            raise UserError(
                f"{self.root} was packed with {theirs}, and {ours} is asked for (an encoder has that of its training). "
                "Give the images themselves, or pack them again with that --range."
            )

    def _rows(self, part: str, card: Card) -> np.ndarray:
        path, about = pixels_file(self.root, part), card.parts[part]
        side = card.sizes.source_size
        rows = map_rows(path, (card.reading.channels, side, side), about.images, about.crc)
        if rows is None:
            problem = "is damaged" if kind_of(path) == "file" else "is missing"
            raise UserError(f"{path} {problem}: it does not fit {MANIFEST}. {_pack_again(self.root)}")
        return rows

    def _labels(self, part: str, about: PartCard) -> np.ndarray | None:
        path = labels_file(self.root, part)
        labels = self._column(path, about.labels_crc, about.images)
        if labels is not None and (labels.min() < -1 or labels.max() >= len(about.class_names)):
            raise UserError(f"{path} has labels beyond the {len(about.class_names)} classes of {MANIFEST}.")
        return labels

    def _numbers(self, part: str, about: PartCard) -> np.ndarray | None:
        return self._column(numbers_file(self.root, part), about.files_crc, about.images)

    def _column(self, path: Path, crc: int | None, images: int) -> np.ndarray | None:
        """int64 (images,) of the file `path` with the checksum `crc`; None without one."""
        if crc is None:
            return None
        try:
            content = read_regular(path)
        except OSError as error:
            raise UserError(f"{path} cannot be read: {why(error)}. {_pack_again(self.root)}") from error
        try:
            # first the checksum: a damaged header is an error of any kind to NumPy
            column = np.load(io.BytesIO(content), allow_pickle=False) if zlib.crc32(content) == crc else None
        except READ_ERRORS:
            column = None
        if not isinstance(column, np.ndarray) or column.dtype != np.int64 or column.shape != (images,):
            raise UserError(f"{path} is damaged: it does not fit {MANIFEST}. {_pack_again(self.root)}")
        return column

    def _pieces(self, part: str, images: int, shape: Shape) -> tuple[str, ...]:
        file, step = str(pixels_file(self.root, part)), math.prod(shape)
        return tuple(Piece(file, f"{row}", HEADER_BYTES + row * step, step, shape[1]).path() for row in range(images))


def _pack_again(root: Path) -> str:
    return f"Delete {root} and make it again: eigenview pack."


def _parsed(content: Any, path: Path) -> Card:
    """The manifest's JSON as a Card. Raises UserError, or any error of `_card`'s list if it is damaged."""
    if content.get("format") != FORMAT:
        raise UserError(f"{path} is not the manifest of an eigenview pack.")
    if content["version"] != VERSION:
        raise UserError(
            f"{path} has format version {content['version']!r}; this eigenview reads {VERSION}. "
            "Use the eigenview it was made with, or pack again."
        )
    parts = {name: _parsed_part(content["parts"][name]) for name in PARTS if name in content["parts"]}
    sizes = Sizes(
        size=_number(content["size"], 1),
        source_size=_number(content["source_size"], 1),
        reason=_text(content["size_reason"]),
    )
    if "train" not in parts or len(parts) < len(content["parts"]):
        raise ValueError("parts")
    made = content.get("pixels")
    if made is not None and misfit(made, READING) is not None:
        raise ValueError("pixels")
    return Card(sizes=sizes, parts=parts, reading=Reading.from_json(made))


def _parsed_part(content: dict[str, Any]) -> PartCard:
    low, high = content["side_range"]
    return PartCard(
        name=_text(content["name"]),
        images=_number(content["images"], 1),
        crc=_number(content["crc"]),
        labels_crc=None if content["labels_crc"] is None else _number(content["labels_crc"]),
        files_crc=None if content.get("files_crc") is None else _number(content["files_crc"]),
        class_names=tuple(_text(name) for name in content["class_names"]),
        side_range=(_number(low), _number(high)),
        notes=tuple(_text(note) for note in content["notes"]),
        label_notes=tuple(_text(note) for note in content.get("label_notes", ())),
        skipped=tuple(Skipped(_text(path), _text(reason)) for path, reason in content["skipped"]),
    )


def _number(value: Any, least: int = 0) -> int:
    if type(value) is not int or value < least:
        raise ValueError(value)
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(value)
    return value


def _sizes(card: Card, request: Request) -> Sizes:
    """The pack's own sides unless others are asked for."""
    own = card.sizes
    if request.size in (None, own.size) and request.source_size in (None, own.source_size):
        return own if request.size is None else dataclasses.replace(own, reason="as asked for")
    return choose_sizes(own.source_size, request.size, request.source_size, request.multiple, request.most_size)


def _joined(sets: list[ImageSet]) -> ImageSet:
    """The images of all sets, one set after another; labels where all have labels of the same classes."""
    first = sets[0]
    labels = [each.labels for each in sets if each.labels is not None and each.class_names == first.class_names]
    has_labels = len(labels) == len(sets)
    return dataclasses.replace(
        first,
        pixels=None if first.pixels is None else np.concatenate([each.read(np.arange(len(each))) for each in sets]),
        paths=tuple(path for each in sets for path in each.paths),
        labels=np.concatenate(labels) if has_labels else None,
        of_file=_joined_numbers([each.of_file for each in sets], [len(each) for each in sets]),
        class_names=first.class_names if has_labels else (),
        side_range=(min(each.side_range[0] for each in sets), max(each.side_range[1] for each in sets)),
        skipped=tuple(skipped for each in sets for skipped in each.skipped),
        files=tuple(file for each in sets for file in each.files),
    )


def _joined_numbers(numbers: list[np.ndarray | None], lengths: list[int]) -> np.ndarray | None:
    """The numbers of files of sets of such lengths, one set after another; no file is in two of them."""
    if all(each is None for each in numbers):
        return None
    joined, start = [], 0
    for each, length in zip(numbers, lengths, strict=True):
        joined.append(start + (np.arange(length) if each is None else each))
        start = int(joined[-1].max()) + 1
    return np.concatenate(joined)
