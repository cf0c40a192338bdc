"""Images that already lie in one array of numbers: .npy and .npz files, and what the built-in sets share with them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from eigenview import runfiles
from eigenview.config.reading import Reading
from eigenview.data.images import File, ImageSet, Split, printable
from eigenview.data.npz import Header, read_npz
from eigenview.data.opening import not_allowed
from eigenview.data.pixels.cache import Entry
from eigenview.data.pixels.decode import squares
from eigenview.data.pixels.deep import NotFinite, channels_to_8_bits, full_range
from eigenview.data.pixels.geometry import Place, resized
from eigenview.data.pixels.headers import BITS, COLUMNS, SHORT
from eigenview.data.pixels.image_size import Sizes, choose_sizes
from eigenview.data.pixels.parallel import Rows, map_chunks
from eigenview.data.pixels.ranges import Measured, measure, sampled_rows, sampled_values
from eigenview.data.sources.array_shapes import allowed_channels, bits_of, channels_first, refuse_kind, shapes
from eigenview.data.sources.encoded import choose_range
from eigenview.data.sources.source import Request
from eigenview.data.sources.tiles import fit_notes, refuse_tiles
from eigenview.data.splitting import same_classes
from eigenview.errors import UnusableLabels, UserError
from eigenview.terminal import Console

IMAGES, LABELS = ("images", "x", "arr_0"), ("labels", "y")
# the four arrays of a file with splits; the second as MedMNIST writes it
HALVES = (("x_train", "y_train", "x_test", "y_test"), ("train_images", "train_labels", "test_images", "test_labels"))

READ_ERRORS = runfiles.ARRAY_ERRORS
"""What NumPy raises for files whose headers are damaged, besides OSError."""
_IN_MEMORY_BYTES = 64e6
"""A resized copy up to this size is made in memory at each start: that takes less than a second or two."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ImageArray:
    """Images of one shape in an array (N, C, H, W) of integers or floats; possibly a view of a memory-mapped file."""

    name: str
    pixels: np.ndarray
    labels: np.ndarray | None = None
    class_names: tuple[str, ...] = ()
    files: tuple[Path, ...] = ()
    """Where the array comes from: a resized copy is kept in the cache under their names and times."""
    part: str = ""
    """Which part of these files it is."""
    notes: tuple[str, ...] = ()
    label_notes: tuple[str, ...] = ()

    def listing(self) -> tuple[File, ...]:
        """The files with their sizes and times."""
        return tuple(File(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in self.files)


def as_image_set(stored: ImageArray, request: Request, sizes: Sizes | None = None) -> ImageSet:
    """Centred squares of the side that fits (`sizes`, else chosen), three equal channels for grey.

    An array too large for the cache keeps its own side, as a view. Raises UserError if that cannot be: it had to be
    enlarged, or 8 bits had to be made of its values.
    """
    if request.check is not None:
        request.check(len(stored.pixels), stored.labels is not None)
    if request.most is not None and request.most < len(stored.pixels):
        rows = request.chosen(len(stored.pixels))
        labels = None if stored.labels is None else stored.labels[rows]
        # without files: the resized copy of a few images is not worth keeping
        stored = dataclasses.replace(stored, pixels=stored.pixels[rows], labels=labels, files=())
    found, height, width = stored.pixels.shape[1:]
    if found not in allowed_channels(request.reading.channels):
        raise UserError(
            f"{stored.name} has images of {found} channel{'s' if found > 1 else ''}, and --channels is "
            f"{request.reading.channels}. Leave it out."
        )
    short, channels = min(height, width), request.reading.channels
    sizes = sizes or choose_sizes(short, request.size, request.source_size, request.multiple, request.most_size)
    side, needed = sizes.source_size, len(stored.pixels) * channels * sizes.source_size**2
    pixels, bits = stored.pixels, bits_of(stored.pixels.dtype)
    reading, notes = _choose_range(stored, bits, request)
    if height != width:
        refuse_tiles(reading.fit, f"{stored.name} is an array")
    notes += fit_notes(np.tile([short, max(height, width)], (len(pixels), 1)), reading.fit)
    is_ready = (
        not reading.applies_to(bits) and pixels.shape[1] in (channels, 1) and (height == width or reading.fit == "crop")
    )
    if (height, width) != (side, side) or not is_ready:
        if needed <= _IN_MEMORY_BYTES or not stored.files:
            pixels = np.concatenate([rows for rows, _ in _resized(stored, side, reading, request.console)])
        elif needed <= request.loader.cache_gb * 1e9:
            what = f"{stored.files[0].name} {stored.part}"
            entry = Entry.of(stored.files[0].parent, stored.listing(), what, cache_dir=request.cache_dir)
            entry = entry.made_by(reading.key(has_deep=bits > 8))
            kept = entry.pixels(side, channels)
            if kept is None:
                with entry.turn(f"resizing the images of {stored.name}", request.console):
                    parts = _resized(stored, side, reading, request.console)
                    kept = entry.pixels(side, channels) or entry.keep_pixels(side, parts, len(pixels), channels)
            pixels = kept[0]
        elif not is_ready:
            raise UserError(
                f"{stored.name}: as squares of 8 bits the images take {needed / 1e9:.1f} GB, more than loader.cache_gb "
                f"{request.loader.cache_gb:g}. Raise it, or use a smaller --image-size."
            )
        elif short < sizes.size:
            raise UserError(
                f"{stored.name}: enlarged from {short} to {side} px the images take {needed / 1e9:.1f} GB, more than "
                f"loader.cache_gb {request.loader.cache_gb:g}. Raise it, or use --image-size {short}."
            )
        else:
            top, left, side = (height - short) // 2, (width - short) // 2, short
            pixels = pixels[:, :, top : top + short, left : left + short]
    if pixels.shape[1] == 1 and channels == 3:
        pixels = _in_three_channels(pixels)
    return ImageSet(
        name=stored.name,
        pixels=pixels,
        paths=(),
        labels=stored.labels,
        class_names=stored.class_names,
        source_size=side,
        size=sizes.size,
        size_reason=sizes.reason,
        side_range=(short, short),
        notes=stored.notes,
        pixel_notes=notes,
        label_notes=stored.label_notes,
        files=stored.listing(),
        reading=reading,
    )


def _choose_range(stored: ImageArray, bits: int, request: Request) -> tuple[Reading, tuple[str, ...]]:
    """The reading with the range of the array's values, if it needs one, and a sentence about it."""
    header = np.zeros(COLUMNS)
    header[[SHORT, BITS]] = 1, bits
    headers = np.broadcast_to(header, (len(stored.pixels), len(header)))

    def measured(rows: np.ndarray, bits: int, reading: Reading) -> Measured:
        samples = [sampled_values(stored.pixels[row]) for row in sampled_rows(rows)]
        has_own = reading.channels not in (1, 3)
        return measure(samples, bits, reading, full_range(stored.pixels.dtype), stored.name, has_own=has_own)

    return choose_range(headers, measured, request, stored.name)


def _in_three_channels(grey: np.ndarray) -> np.ndarray:
    """Grey images (N, 1, H, W) as (N, 3, H, W), a view: the three channels are the same memory."""
    shape, strides = (len(grey), 3, *grey.shape[2:]), (grey.strides[0], 0, *grey.strides[2:])
    return np.lib.stride_tricks.as_strided(grey, shape, strides, subok=True)


def array_pixels(stored: ImageArray, side: int, reading: Reading) -> np.ndarray:
    """uint8 (N, C, side, side) by `reading`, whose range was decided before; of tiles the centred one."""
    return np.concatenate([rows for rows, _ in _resized(stored, side, reading)])


def _resized(stored: ImageArray, side: int, reading: Reading, console: Console | None = None) -> Iterator[Rows]:
    bits, place = bits_of(stored.pixels.dtype), Place(reading.fit)

    def one(row: int) -> np.ndarray:
        pixels = stored.pixels[row]
        if reading.applies_to(bits):
            low, high = full_range(pixels.dtype)
            try:
                pixels = channels_to_8_bits(pixels, reading.low or (low,), reading.high or (high,))
            except NotFinite as error:
                raise UserError(f"{stored.name}: image {row:,} {error}. Replace them by a number first.") from None
        if reading.channels == 1 and len(pixels) == 3:
            return squares(Image.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0))), side, 1, place)
        return np.broadcast_to(resized(pixels, side, place), (reading.channels, side, side))

    def work(index: Sequence[int]) -> Rows:
        return np.stack([one(row) for row in index]), {}

    rows = range(len(stored.pixels))
    return map_chunks(work, rows, chunk=64, title="resizing images", console=console)


@dataclass(frozen=True)
class ArrayFile:
    """A .npy or .npz file as a source of images."""

    path: Path

    def load(self, split: Split, request: Request) -> ImageSet:
        train, test = self._read(request.reading.channels)
        if test is None:
            if split == "test":
                raise UserError(
                    f"{self.path} has no test images; a file with splits has {' and '.join(HALVES[0][::2])}."
                )
            return as_image_set(train, request)
        if split == "all":
            both = (train.labels, test.labels)
            labels = None if train.labels is None or test.labels is None else np.concatenate(both)  # type: ignore[arg-type]
            pixels = np.concatenate([train.pixels, test.pixels])
            names = train.class_names if labels is not None else ()
            notes = tuple(dict.fromkeys((*train.label_notes, *test.label_notes)))
            return as_image_set(self._stored(pixels, "all", labels, names, notes), request)
        return as_image_set(train if split == "train" else test, request)

    def labelled_pair(self, request: Request) -> tuple[ImageSet, ImageSet] | None:
        train, test = self._read(request.reading.channels)
        if test is None:
            return None
        if unusable := [*train.label_notes, *test.label_notes]:
            raise UnusableLabels(f"{self.path} has {unusable[0]}.")
        if train.labels is None or test.labels is None:
            return None
        fitted = as_image_set(train, request)
        return same_classes(fitted, as_image_set(test, request.like(fitted)))

    def _stored(
        self,
        pixels: np.ndarray,
        part: str,
        labels: np.ndarray | None = None,
        names: tuple[str, ...] = (),
        label_notes: tuple[str, ...] = (),
    ) -> ImageArray:
        return ImageArray(
            name=printable(self.path.stem),
            pixels=pixels,
            labels=labels,
            class_names=names,
            files=(self.path,),
            part=part,
            label_notes=label_notes,
        )

    def _read(self, channels: int) -> tuple[ImageArray, ImageArray | None]:
        """All images, or training and test images of a file that has both."""
        if self.path.suffix.lower() == ".npy":
            return self._stored(channels_first(_open(self.path), str(self.path), channels), "all"), None
        arrays = _open_all(self.path, channels)
        for x_train, y_train, x_test, y_test in HALVES:
            if x_train in arrays and x_test in arrays:
                train = self._images(arrays, x_train, channels)
                test = self._images(arrays, x_test, channels)
                if train.shape[1:] != test.shape[1:]:
                    raise UserError(
                        f"{self.path}: {x_train} holds {train.shape[1:]} images, {x_test} {test.shape[1:]}."
                    )
                if (train.dtype == np.uint8, train.dtype.kind == "f") != (
                    test.dtype == np.uint8,
                    test.dtype.kind == "f",
                ):
                    raise UserError(
                        f"{self.path}: {x_train} holds {train.dtype}, {x_test} {test.dtype}, so that the same values "
                        "would not have the same brightness. Save both as one type."
                    )
                labels, *about = self._labels(arrays, (y_train, y_test), (len(train), len(test)))
                return self._stored(train, "train", labels[0], *about), self._stored(test, "test", labels[1], *about)
        x = next((key for key in IMAGES if key in arrays), None)
        if x is not None:
            pixels = self._images(arrays, x, channels)
            labels, *about = self._labels(arrays, tuple(key for key in LABELS if key in arrays)[:1], (len(pixels),))
            return self._stored(pixels, "all", labels[0], *about), None
        found = ", ".join(sorted(arrays)) or "nothing"
        raise UserError(
            f"{self.path} holds {found}; it needs images (or x), or x_train and x_test, {shapes(channels)}."
        )

    def _images(self, arrays: dict[str, np.ndarray], key: str, channels: int) -> np.ndarray:
        return channels_first(arrays[key], f"{self.path}: {key}", channels)

    def _labels(
        self, arrays: dict[str, np.ndarray], keys: tuple[str, ...], lengths: tuple[int, ...]
    ) -> tuple[list[np.ndarray | None], tuple[str, ...], tuple[str, ...]]:
        """Labels 0, 1, ... of each part and the class names, which are the values in the file, sorted.

        None, () and the reason for arrays that are no labels: the images can be trained on all the same.
        """
        none: list[np.ndarray | None] = [None] * len(lengths)
        present = [key for key in keys if key in arrays]
        if len(present) < len(keys) or not keys:
            return (
                none,
                (),
                tuple(f"no labels: {present[0]} is there, {k} is not" for k in keys if present and k not in present),
            )
        parts = []
        for key, length in zip(keys, lengths, strict=True):
            values = arrays[key].reshape(-1) if arrays[key].shape[1:] == (1,) else arrays[key]
            if values.shape != (length,) or values.dtype.kind not in "iuU":
                return (
                    none,
                    (),
                    (
                        f"no labels: {key} is {values.dtype} of shape {values.shape}; labels are integers or text, "
                        f"one for each of {length:,} images",
                    ),
                )
            parts.append(values)
        classes, labels = np.unique(np.concatenate(parts), return_inverse=True)
        if len(classes) < 2:
            return none, (), (f"no labels: all images are of one class, {printable(str(classes[0]))}",)
        split = np.split(labels.reshape(-1).astype(np.int64), np.cumsum(lengths)[:-1])
        return list(split), tuple(str(name) for name in classes), ()


def _open(path: Path) -> np.ndarray:
    """A .npy, memory-mapped copy-on-write: torch shares such memory without a warning and the file stays as it is."""
    try:
        return np.lib.format.open_memmap(path, mode="c")
    except (OSError, *READ_ERRORS) as error:
        raise UserError(_damaged(path, error)) from error


def _open_all(path: Path, channels: int) -> dict[str, np.ndarray]:
    """The arrays of a .npz whose names have a meaning here; the others are not read and returned as empty arrays.

    Images of a kind that is refused are not unpacked either.
    """
    known = {key for keys in (*HALVES, IMAGES, LABELS) for key in keys}
    images = {key for keys in (*(half[::2] for half in HALVES), IMAGES) for key in keys}

    def is_wanted(name: str, header: Header) -> bool:
        if name in images and not header.dtype.hasobject:
            refuse_kind(header.shape, header.dtype, f"{path}: {name}", channels)
        return name in known

    try:
        arrays, headers = read_npz(path, is_wanted)
    except UserError:
        raise
    except (OSError, *READ_ERRORS) as error:
        raise UserError(_damaged(path, error)) from error
    return {name: arrays.get(name, np.empty(0)) for name in headers}


def _damaged(path: Path, error: Exception) -> str:
    if isinstance(error, PermissionError):
        return str(not_allowed(path))
    if any(word in str(error) for word in ("allow_pickle", "Object arrays", "Python objects")):
        return f"{path} holds Python objects, which are never unpickled; save images as {shapes(3)}."
    return f"{path} cannot be read as a NumPy file: {str(error).splitlines()[0] if str(error) else 'it is cut off'}."
