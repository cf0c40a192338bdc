"""Known sets: scikit-learn's digits, and CIFAR-10/100 and STL-10 as torchvision leaves them on disk."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import numpy as np

from eigenview.data.images import ImageSet, Split
from eigenview.data.opening import kind_of, open_regular, read_regular, why
from eigenview.data.pixels.image_size import Sizes
from eigenview.data.sources.arrays import ImageArray, as_image_set
from eigenview.data.sources.pickles import read_arrays_pickle
from eigenview.data.sources.source import Request
from eigenview.data.splitting import same_classes, stratified_split
from eigenview.errors import UserError
from eigenview.runfiles.schema import TEXT, Kind, ListOf, integer, misfit

UNPACK = "Unpack the archive again."
DIGITS_SIDE = 16
DIGITS_SPLIT_SEED = 0


@dataclass(frozen=True)
class Digits:
    """scikit-learn's handwritten digits, 1,797 images of 8 x 8 pixels in ten classes, installed with it.

    Values 0..16 become 0..255 in three equal channels. Split 80/20 within each class, always the same way.
    """

    def load(self, split: Split, request: Request) -> ImageSet:
        values, labels = _read_digits()
        grey = np.rint(values.reshape(-1, 1, 8, 8) * (255 / 16)).astype(np.uint8)
        train, test = stratified_split(labels, DIGITS_SPLIT_SEED)
        chosen = {"train": train, "test": test, "all": np.arange(len(labels))}[split]
        names = tuple(str(digit) for digit in range(10))
        stored = ImageArray(
            name="digits", pixels=grey[chosen], labels=labels[chosen].astype(np.int64), class_names=names
        )
        sizes = None
        if request.size is None and request.source_size is None:
            reason = "because digits are 8 x 8: doubled, so that the strides of a small conv net leave something to see"
            sizes = Sizes(size=DIGITS_SIDE, source_size=DIGITS_SIDE, reason=reason)
        return as_image_set(stored, request, sizes)

    def labelled_pair(self, request: Request) -> tuple[ImageSet, ImageSet] | None:
        train = self.load("train", request)
        return train, self.load("test", request.like(train))


def _read_digits() -> tuple[np.ndarray, np.ndarray]:
    """Values (N, 64) and labels of sklearn's `load_digits`, from its file: importing sklearn takes half a second."""
    file = distribution("scikit-learn").locate_file("sklearn/datasets/data/digits.csv.gz")
    table = np.loadtxt(str(file), delimiter=",")
    return table[:, :-1], table[:, -1]


Half = tuple[np.ndarray, np.ndarray]
"""Images uint8 (N, 3, H, W) and labels int64 (N,)."""


@dataclass(frozen=True)
class PublishedDataset:
    """A published set in the folder layout of its publisher."""

    name: str
    folder: Path
    train_files: tuple[str, ...]
    test_files: tuple[str, ...]
    read_half: Callable[[Path, tuple[str, ...]], Half]
    read_names: Callable[[Path], tuple[str, ...]]
    unlabelled_file: str | None = None
    """Images without labels, preferred for training where the file is there."""

    def load(self, split: Split, request: Request) -> ImageSet:
        unlabelled = None if self.unlabelled_file is None else self.folder / self.unlabelled_file
        if split != "test" and unlabelled is not None and kind_of(unlabelled) != "nothing":
            pixels, notes = _stl_images(unlabelled), ()
            if split == "all":
                halves = [self.read_half(self.folder, files)[0] for files in (self.train_files, self.test_files)]
                pixels = np.concatenate([pixels, *halves])
            else:
                notes = (
                    f"the {len(pixels):,} unlabelled images of {self.name} are used; its labelled ones serve probes",
                )
            stored = ImageArray(name=self.name, pixels=pixels, files=(unlabelled,), part=split, notes=notes)
            return as_image_set(stored, request)
        return self._labelled(split, request)

    def labelled_pair(self, request: Request) -> tuple[ImageSet, ImageSet] | None:
        train = self._labelled("train", request)
        return same_classes(train, self._labelled("test", request.like(train)))

    def _labelled(self, split: Split, request: Request) -> ImageSet:
        files = {"train": self.train_files, "test": self.test_files, "all": self.train_files + self.test_files}[split]
        for file in files:
            if kind_of(self.folder / file) == "nothing":
                raise UserError(f"{self.folder / file} is missing: unpack the {self.name} archive again.")
        pixels, labels = self.read_half(self.folder, files)
        names = self.read_names(self.folder)
        if len(labels) != len(pixels) or labels.min(initial=0) < 0 or labels.max(initial=0) >= len(names):
            raise UserError(
                f"{self.folder}: images, labels and class names of {self.name} do not fit. Unpack it again."
            )
        paths = tuple(self.folder / file for file in files)
        stored = ImageArray(name=self.name, pixels=pixels, labels=labels, class_names=names, files=paths, part=split)
        return as_image_set(stored, request)


def _entry(content: dict[str, Any], key: str, path: Path) -> Any:
    if key not in content:
        raise UserError(f"{path} has no {key!r}: it is not a file of this data set.")
    return content[key]


def _require_kind(value: Any, kind: Kind, key: str, path: Path) -> None:
    found = misfit(value, kind, key)
    if found is not None:
        raise UserError(f"{path} is damaged: {found}. {UNPACK}")


def _labels_of(content: dict[str, Any], key: str, path: Path) -> np.ndarray:
    labels = _entry(content, key, path)
    labels = labels.tolist() if isinstance(labels, np.ndarray) else labels
    _require_kind(labels, ListOf(integer(0, 10**6)), key, path)
    return np.array(labels, np.int64)


def _pickled_half(label_key: str) -> Callable[[Path, tuple[str, ...]], Half]:
    def read(folder: Path, files: tuple[str, ...]) -> Half:
        pixels: list[np.ndarray] = []
        labels: list[np.ndarray] = []
        for file in files:
            content = read_arrays_pickle(folder / file)
            rows = _entry(content, "data", folder / file)
            if not isinstance(rows, np.ndarray) or rows.dtype != np.uint8 or rows.shape[1:] != (3072,):
                given = f"{rows.dtype} of shape {rows.shape}" if isinstance(rows, np.ndarray) else type(rows).__name__
                raise UserError(f"{folder / file}: data is {given}, expected uint8 (N, 3072). {UNPACK}")
            pixels.append(rows.reshape(-1, 3, 32, 32))
            labels.append(_labels_of(content, label_key, folder / file))
        return np.concatenate(pixels), np.concatenate(labels)

    return read


def _pickled_names(file: str, key: str) -> Callable[[Path], tuple[str, ...]]:
    def read(folder: Path) -> tuple[str, ...]:
        names = _entry(read_arrays_pickle(folder / file), key, folder / file)
        _require_kind(names, ListOf(TEXT), key, folder / file)
        return tuple(names)

    return read


def _bytes_of(path: Path, row: int) -> np.ndarray:
    """The file as uint8 (N, row), memory-mapped."""
    try:
        with open_regular(path) as file:
            size = os.fstat(file.fileno()).st_size
    except OSError as error:
        raise UserError(f"{path} cannot be read: {why(error)}. Unpack the archive again.") from error
    if size == 0 or size % row:
        raise UserError(f"{path} is cut off: {size} bytes are not a whole number of {row}-byte rows. Unpack it again.")
    return np.memmap(path, np.uint8, mode="c").reshape(-1, row)


def _cifar_half(label_bytes: int) -> Callable[[Path, tuple[str, ...]], Half]:
    """CIFAR's binary version: each row is its labels (the fine one last) and 3,072 bytes of pixels."""

    def read(folder: Path, files: tuple[str, ...]) -> Half:
        rows = np.concatenate([_bytes_of(folder / file, label_bytes + 3072) for file in files])
        return rows[:, label_bytes:].reshape(-1, 3, 32, 32), rows[:, label_bytes - 1].astype(np.int64)

    return read


def _listed_names(file: str) -> Callable[[Path], tuple[str, ...]]:
    def read(folder: Path) -> tuple[str, ...]:
        try:
            return tuple(read_regular(folder / file).decode().split())
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"{folder / file} cannot be read: {error}. Unpack the archive again.") from error

    return read


def _stl_images(path: Path) -> np.ndarray:
    """STL-10 stores columns first: a view (N, 3, 96, 96) of the mapped file with the last axes exchanged."""
    return _bytes_of(path, 3 * 96 * 96).reshape(-1, 3, 96, 96).transpose(0, 1, 3, 2)


def _stl_half(folder: Path, files: tuple[str, ...]) -> Half:
    """Files come as images, labels, images, labels; labels count from 1."""
    pixels = [_stl_images(folder / file) for file in files[::2]]
    labels = [_bytes_of(folder / file, 1)[:, 0].astype(np.int64) - 1 for file in files[1::2]]
    return (pixels[0] if len(pixels) == 1 else np.concatenate(pixels)), np.concatenate(labels)


_BATCHES = tuple(f"data_batch_{i}" for i in range(1, 6))


def _layouts(folder: Path) -> dict[str, tuple[str, Callable[[], PublishedDataset]]]:
    """By usual folder name: a file that marks the layout, and the set."""
    ten, hundred = _pickled_names("batches.meta", "label_names"), _pickled_names("meta", "fine_label_names")
    stl_train, stl_test = ("train_X.bin", "train_y.bin"), ("test_X.bin", "test_y.bin")
    ten_bin = tuple(f"{name}.bin" for name in _BATCHES)
    listed_ten, listed_hundred = _listed_names("batches.meta.txt"), _listed_names("fine_label_names.txt")
    stl_names = _listed_names("class_names.txt")
    return {
        "cifar-10-batches-py": (
            "batches.meta",
            lambda: PublishedDataset("CIFAR-10", folder, _BATCHES, ("test_batch",), _pickled_half("labels"), ten),
        ),
        "cifar-100-python": (
            "meta",
            lambda: PublishedDataset("CIFAR-100", folder, ("train",), ("test",), _pickled_half("fine_labels"), hundred),
        ),
        "cifar-10-batches-bin": (
            "data_batch_1.bin",
            lambda: PublishedDataset("CIFAR-10", folder, ten_bin, ("test_batch.bin",), _cifar_half(1), listed_ten),
        ),
        "cifar-100-binary": (
            "fine_label_names.txt",
            lambda: PublishedDataset(
                "CIFAR-100", folder, ("train.bin",), ("test.bin",), _cifar_half(2), listed_hundred
            ),
        ),
        "stl10_binary": (
            "train_X.bin",
            lambda: PublishedDataset("STL-10", folder, stl_train, stl_test, _stl_half, stl_names, "unlabeled_X.bin"),
        ),
    }


def find_on_disk(root: Path) -> PublishedDataset | None:
    """The published set in `root` or in the folder that its archive unpacks to below it; None where there is none."""
    found: list[PublishedDataset] = []
    for usual, (marker, make) in _layouts(root).items():
        if kind_of(root / marker) == "file":
            return make()
        if kind_of(root / usual / marker) == "file":
            found.append(_layouts(root / usual)[usual][1]())
    if len(found) > 1:
        raise UserError(
            f"{root} holds several data sets: {', '.join(str(each.folder) for each in found)}. Name one of them."
        )
    return found[0] if found else None
