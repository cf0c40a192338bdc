"""Images that already lie in one uint8 array: .npy and .npz files, and what the built-in sets share with them."""

from __future__ import annotations

import dataclasses
import tokenize
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from eigenview.data.images import File, ImageSet, Split, printable
from eigenview.data.npz import Header, read_npz
from eigenview.data.opening import not_allowed
from eigenview.data.pixels.cache import Entry
from eigenview.data.pixels.decode import square
from eigenview.data.pixels.image_size import Sizes, choose_sizes
from eigenview.data.pixels.parallel import Rows, map_chunks
from eigenview.data.sources.source import Request
from eigenview.data.splitting import same_classes
from eigenview.errors import UnusableLabels, UserError

SHAPES = "uint8 of shape (N, H, W, 3), (N, 3, H, W), or (N, H, W), also with 1 channel for grey"
IMAGES, LABELS = ("images", "x", "arr_0"), ("labels", "y")
# the four arrays of a file with splits; the second as MedMNIST writes it
HALVES = (("x_train", "y_train", "x_test", "y_test"), ("train_images", "train_labels", "test_images", "test_labels"))

READ_ERRORS = (ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error, tokenize.TokenError, SyntaxError)
READ_ERRORS += (MemoryError, OverflowError)
"""What NumPy raises for files whose headers are damaged, besides OSError."""
_CONVERSIONS = {
    "u": " Choose the lowest and highest value that count, and save np.clip((a - low) / (high - low), 0, 1) * 255 "
    "as uint8.",
    "b": " Save a.astype(np.uint8) * 255.",
}
_CONVERSIONS |= {"i": _CONVERSIONS["u"], "f": _CONVERSIONS["u"]}
"""How numbers of another kind become images, by dtype.kind."""
_IN_MEMORY_BYTES = 64e6
"""A resized copy up to this size is made in memory at each start: that takes less than a second or two."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ImageArray:
    """Images of one shape in an array uint8 (N, C, H, W), C 3 or 1; possibly a view of a memory-mapped file."""

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

    An array too large for the cache keeps its own side, as a view. Raises UserError if it had to be enlarged.
    """
    if request.check is not None:
        request.check(len(stored.pixels), stored.labels is not None)
    if request.most is not None and request.most < len(stored.pixels):
        rows = request.chosen(len(stored.pixels))
        labels = None if stored.labels is None else stored.labels[rows]
        # without files: the resized copy of a few images is not worth keeping
        stored = dataclasses.replace(stored, pixels=stored.pixels[rows], labels=labels, files=())
    height, width = stored.pixels.shape[2:]
    short = min(height, width)
    sizes = sizes or choose_sizes(short, request.size, request.source_size, request.multiple)
    side, needed = sizes.source_size, len(stored.pixels) * 3 * sizes.source_size**2
    pixels = stored.pixels
    if (height, width) != (side, side):
        if needed <= _IN_MEMORY_BYTES or not stored.files:
            pixels = np.concatenate([rows for rows, _ in _resized(stored, side, request)])
        elif needed <= request.loader.cache_gb * 1e9:
            what = f"{stored.files[0].name} {stored.part}"
            entry = Entry.of(stored.files[0].parent, stored.listing(), what, cache_dir=request.cache_dir)
            kept = entry.pixels(side)
            if kept is None:
                with entry.turn(f"resizing the images of {stored.name}", request.console):
                    parts = _resized(stored, side, request)
                    kept = entry.pixels(side) or entry.keep_pixels(side, parts, len(pixels))
            pixels = kept[0]
        elif short < sizes.size:
            raise UserError(
                f"{stored.name}: enlarged from {short} to {side} px the images take {needed / 1e9:.1f} GB, more than "
                f"loader.cache_gb {request.loader.cache_gb:g}. Raise it, or use --image-size {short}."
            )
        else:
            top, left, side = (height - short) // 2, (width - short) // 2, short
            pixels = pixels[:, :, top : top + short, left : left + short]
    if pixels.shape[1] == 1:
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
        label_notes=stored.label_notes,
        files=stored.listing(),
        reading=request.reading,
    )


def _in_three_channels(grey: np.ndarray) -> np.ndarray:
    """Grey images (N, 1, H, W) as (N, 3, H, W), a view: the three channels are the same memory."""
    shape, strides = (len(grey), 3, *grey.shape[2:]), (grey.strides[0], 0, *grey.strides[2:])
    return np.lib.stride_tricks.as_strided(grey, shape, strides, subok=True)


def _resized(stored: ImageArray, side: int, request: Request) -> Iterator[Rows]:
    def work(index: Sequence[int]) -> Rows:
        planes = np.broadcast_to(stored.pixels[index[0] : index[-1] + 1], (len(index), 3, *stored.pixels.shape[2:]))
        pictures = np.ascontiguousarray(planes.transpose(0, 2, 3, 1))
        return np.stack([square(Image.fromarray(picture), side) for picture in pictures]), {}

    rows = range(len(stored.pixels))
    return map_chunks(work, rows, chunk=64, title="resizing images", console=request.console)


@dataclass(frozen=True)
class ArrayFile:
    """A .npy or .npz file as a source of images."""

    path: Path

    def load(self, split: Split, request: Request) -> ImageSet:
        train, test = self._read()
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
        train, test = self._read()
        if test is None:
            return None
        if unusable := [*train.label_notes, *test.label_notes]:
            raise UnusableLabels(f"{self.path} has {unusable[0]}.")
        if train.labels is None or test.labels is None:
            return None
        return same_classes(as_image_set(train, request), as_image_set(test, request))

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

    def _read(self) -> tuple[ImageArray, ImageArray | None]:
        """All images, or training and test images of a file that has both."""
        if self.path.suffix.lower() == ".npy":
            return self._stored(_channels_first(_open(self.path), str(self.path)), "all"), None
        arrays = _open_all(self.path)
        for x_train, y_train, x_test, y_test in HALVES:
            if x_train in arrays and x_test in arrays:
                train = self._images(arrays, x_train)
                test = self._images(arrays, x_test)
                if train.shape[1:] != test.shape[1:]:
                    raise UserError(
                        f"{self.path}: {x_train} holds {train.shape[1:]} images, {x_test} {test.shape[1:]}."
                    )
                labels, *about = self._labels(arrays, (y_train, y_test), (len(train), len(test)))
                return self._stored(train, "train", labels[0], *about), self._stored(test, "test", labels[1], *about)
        x = next((key for key in IMAGES if key in arrays), None)
        if x is not None:
            pixels = self._images(arrays, x)
            labels, *about = self._labels(arrays, tuple(key for key in LABELS if key in arrays)[:1], (len(pixels),))
            return self._stored(pixels, "all", labels[0], *about), None
        found = ", ".join(sorted(arrays)) or "nothing"
        raise UserError(f"{self.path} holds {found}; it needs images (or x), or x_train and x_test, {SHAPES}.")

    def _images(self, arrays: dict[str, np.ndarray], key: str) -> np.ndarray:
        return _channels_first(arrays[key], f"{self.path}: {key}")

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


def _open_all(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a .npz whose names have a meaning here; the others are not read and returned as empty arrays.

    Images of a kind that is refused are not unpacked either.
    """
    known = {key for keys in (*HALVES, IMAGES, LABELS) for key in keys}
    images = {key for keys in (*(half[::2] for half in HALVES), IMAGES) for key in keys}

    def is_wanted(name: str, header: Header) -> bool:
        if name in images and not header.dtype.hasobject:
            _refuse_kind(header.shape, header.dtype, f"{path}: {name}")
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
        return f"{path} holds Python objects, which are never unpickled; save images as {SHAPES}."
    return f"{path} cannot be read as a NumPy file: {str(error).splitlines()[0] if str(error) else 'it is cut off'}."


def _channels_first(array: np.ndarray, what: str) -> np.ndarray:
    """A view uint8 (N, C, H, W), C 1 or 3, of images in any of SHAPES. Raises UserError for anything else."""
    _refuse_kind(array.shape, array.dtype, what)
    if array.ndim == 3:
        return array[:, None]
    return array if array.shape[1] in (1, 3) else array.transpose(0, 3, 1, 2)


def _refuse_kind(shape: tuple[int, ...], dtype: np.dtype, what: str) -> None:
    """Raises UserError for an array that does not hold images as they are read here, with the way to convert it."""
    given = f"{what} is {dtype} of shape {shape}"
    if dtype != np.uint8:
        convert = _CONVERSIONS.get(dtype.kind, "")
        raise UserError(f"{given}; images are {SHAPES}, values 0 to 255.{convert}")
    if len(shape) not in (3, 4) or 0 in shape:
        raise UserError(f"{given}; images are {SHAPES}.")
    if len(shape) == 3:
        if shape[2] <= 4:
            raise UserError(f"{given}, which looks like a single image; images are {SHAPES}.")
        return
    first, last = shape[1] in (1, 3), shape[3] in (1, 3)
    if first == last:
        problem = "it is unclear which axis is colour" if first else "no axis is colour, 1 or 3 channels"
        advice = "" if first else " Save three of the channels, such as a[..., :3], or one."
        raise UserError(f"{given}, where {problem}; images are {SHAPES}.{advice}")
