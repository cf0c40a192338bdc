"""Rows of a Hugging Face data set: which columns are image and label, where in an Arrow file each image lies.

An image is a struct of bytes and path (what the feature Image stores) or plain bytes. A label is a class label (told by
its name; -1 is none), an integer or a text.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from eigenview.data.images import File
from eigenview.data.pixels.byte_ranges import Piece
from eigenview.data.sources.folder import Label
from eigenview.data.sources.streams import Sample
from eigenview.errors import UserError, nearest, require

_BINARY = ("binary", "large_binary")
_LABELS = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "string", "large_string")


@dataclass(frozen=True)
class Columns:
    """The columns that are read."""

    image: str
    label: str | None
    class_names: tuple[str, ...] = ()
    """Names of the class labels 0, 1, ...; () for labels that are integers or texts themselves."""
    notes: tuple[str, ...] = ()

    def names(self) -> list[str]:
        return [self.image] if self.label is None else [self.image, self.label]

    def label_of(self, value: object) -> Label:
        if self.class_names and isinstance(value, int):
            return self.class_names[value] if 0 <= value < len(self.class_names) else None
        return value if isinstance(value, int | str) else None

    def sample(self, example: Mapping[str, Any]) -> Sample:
        """An example of a stream, with the image as it is stored."""
        image, label = example[self.image], None if self.label is None else self.label_of(example[self.label])
        if not isinstance(image, Mapping):
            return Sample(image, label)
        content = image.get("bytes")
        return Sample(_readable(image.get("path")) if content is None else content, label)


def choose_columns(features: Mapping[str, Any], image: str | None, label: str | None, spec: str) -> Columns:
    """The columns asked for, else the only image column, and the label by name or type.

    Raises UserError for a column that is missing or of another type, and where the image column is not clear.
    """
    from datasets import ClassLabel, Image, Value

    def is_image(feature: Any) -> bool:
        is_struct = isinstance(feature, dict) and isinstance(feature.get("bytes"), Value)
        return isinstance(feature, Image) or is_struct or (isinstance(feature, Value) and feature.dtype in _BINARY)

    def is_label(feature: Any) -> bool:
        return isinstance(feature, ClassLabel) or (isinstance(feature, Value) and feature.dtype in _LABELS)

    shown = ", ".join(f"{name} ({_shown(feature)})" for name, feature in features.items())
    for what, name, fits in (("image", image, is_image), ("label", label, is_label)):
        if name is not None:
            require(name in features, f"{spec}: column {what}", name, shown, nearest(name, features))
            allowed = "images or their bytes" if what == "image" else "class labels, integers or texts"
            require(
                fits(features[name]),
                f"{spec}: {what} column {name}",
                _shown(features[name]),
                allowed,
                f"It has {shown}.",
            )
    if image is None:
        found = [name for name, feature in features.items() if isinstance(feature, Image)]
        found = found or [name for name, feature in features.items() if is_image(feature)]
        if not found:
            raise UserError(f"{spec} has no column of images; it has {shown}. Name the column of their bytes: image=.")
        if len(found) > 1:
            raise UserError(f"{spec} has the image columns {', '.join(found)}; name one: image={found[0]}.")
        image = found[0]
    notes: tuple[str, ...] = ()
    if label is None:
        classes = [name for name, feature in features.items() if isinstance(feature, ClassLabel)]
        label = "label" if is_label(features.get("label")) else classes[0] if len(classes) == 1 else None
        if label is None and classes:
            notes = (f"no labels: the columns {', '.join(classes)} hold some; name one with label=",)
        elif label is None and "label" in features:
            notes = (
                f"no labels: the column label is {_shown(features['label'])}, not class labels, integers or texts",
            )
    names = features[label].names if label is not None and isinstance(features[label], ClassLabel) else ()
    return Columns(image, label, tuple(names or ()), notes)


def _shown(feature: Any) -> str:
    return str(feature.dtype) if type(feature).__name__ == "Value" else type(feature).__name__


class Row(NamedTuple):
    """An image that can be read where it lies."""

    path: str
    file: File
    """What tells it from every other one, for the cache."""
    label: Label


def indexed(path: str, columns: Columns, place: str) -> Iterator[Row]:
    """The rows of an Arrow stream file in order, each image as a piece of it, or as the local file it names.

    place: the folder of the data set, see `stamped`.

    Raises UserError where images are compressed within the file, pyarrow's errors where it is damaged.
    """
    import pyarrow as pa

    modified, row = os.stat(path).st_mtime_ns, 0
    with pa.memory_map(path) as source:
        mapped = source.read_buffer(source.size())
        source.seek(0)
        for batch in pa.ipc.open_stream(source):
            batch = batch.select(columns.names())
            batch.validate(full=True)  # before that its offsets are untrusted
            image = batch.column(columns.image)
            is_struct = pa.types.is_struct(image.type)
            # flatten, unlike field, also applies the struct's own missing values
            parts = dict(zip((field.name for field in image.type), image.flatten(), strict=True)) if is_struct else {}
            content = parts["bytes"] if is_struct else image
            labels = [None] * len(batch) if columns.label is None else batch.column(columns.label).to_pylist()
            paths = parts["path"].to_pylist() if "path" in parts and content.null_count else [None] * len(batch)
            places = _places(content, mapped, path)
            for (offset, size), other, label in zip(places, paths, labels, strict=True):
                readable = _readable(other) if size is None else None
                if readable is None:
                    file = File(f"{os.path.basename(path)}/row {row} {offset}", size or 0, modified)
                    name = Piece(path, f"row {row}", offset, size or 0).path()
                else:
                    file, name = stamped(readable, place), readable
                yield Row(name, file, columns.label_of(label))
                row += 1


def _places(content: Any, mapped: Any, path: str) -> list[tuple[int, int | None]]:
    """Offset in the file and length of each value of a binary array; a length of None where there is no value."""
    if not len(content) or content.null_count == len(content):
        return [(0, None)] * len(content)
    if str(content.type) not in _BINARY:
        raise UserError(
            f"{path}: images are stored as {content.type}, not as bytes; save them again with save_to_disk."
        )
    width = np.int32 if str(content.type) == "binary" else np.int64
    _, ends, data = content.buffers()
    ends = np.frombuffer(ends, width)[content.offset : content.offset + len(content) + 1].astype(np.int64)
    start = 0 if data is None else data.address - mapped.address
    if start < 0 or start + int(ends[-1]) > mapped.size:
        raise UserError(f"{path}: images are compressed within the file; save them again with save_to_disk.")
    is_there = content.is_valid().to_numpy(zero_copy_only=False)
    offsets, sizes = (start + ends[:-1]).tolist(), np.diff(ends).tolist()
    return [(o, s if there else None) for o, s, there in zip(offsets, sizes, is_there, strict=True)]


def _readable(path: object) -> str | None:
    """`path` where it may be read: absolute and, if anything is there, a regular file: no pipe, device or address."""
    if not isinstance(path, str) or "\0" in path or not os.path.isabs(path):
        return None
    try:
        return path if stat.S_ISREG(os.stat(path).st_mode) else None
    except OSError:
        return path  # the reason is reported when it is decoded


def stamped(file: str, place: str) -> File:
    """A file with its size and time, named below the folder `place` of its data set, so that a moved one is known.

    A file that is not on this machine has its name alone, which on the Hub holds the commit.
    """
    try:
        status = os.stat(file)
    except OSError:
        return File(file, 0, 0)
    name = file.removeprefix(place.rstrip("/") + "/")
    return File(name, status.st_size, status.st_mtime_ns)
