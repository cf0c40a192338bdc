"""The interface of a source of images, and the request that is passed to it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from eigenview.config import LoaderConfig
from eigenview.config.reading import Reading
from eigenview.data.images import ImageSet, Split
from eigenview.data.pixels.cache import CacheDir
from eigenview.terminal import Console


@dataclass(frozen=True, kw_only=True)
class Request:
    """How to load images: sides in pixels (None: chosen from the data), reading and caching, progress console."""

    size: int | None = None
    source_size: int | None = None
    multiple: int = 1
    """A side that is chosen from the data is a multiple of this many pixels."""
    most_size: int | None = None
    """Largest side that is chosen from the data: that of the weights a run starts from."""
    loader: LoaderConfig = LoaderConfig()
    reading: Reading = Reading()
    """How pixels are made from files; its range is decided by the first set that needs one."""
    is_decided: bool = False
    """A range that `reading` has, or the full one, was decided in training: it holds whatever these images are."""
    console: Console | None = None
    cache_dir: CacheDir | None = None
    """Where decoded images are kept; default: the user's cache."""
    most: int | None = None
    """Read a fixed random subset of so many images if there are more; of files it is chosen before any is opened."""
    check: Callable[[int, bool], None] | None = None
    """Called with the number of readable images, and whether they have labels, before any is decoded; it may raise."""

    def like(self, images: ImageSet) -> Request:
        """The same request for images that are to be read as `images` were."""
        return dataclasses.replace(self, reading=images.reading, is_decided=True)

    def chosen(self, count: int) -> np.ndarray:
        """The rows of the subset of `count` images, ascending."""
        return np.sort(np.random.default_rng(0).permutation(count)[: self.most])


class Loaded:
    """Sets that a source has loaded already: probes ask for the training images again, with the side chosen before."""

    def __init__(self) -> None:
        self._sets: dict[tuple[object, ...], ImageSet] = {}

    def get(self, split: Split, request: Request) -> ImageSet | None:
        """The set loaded for such a request."""
        return self._sets.get(_key(split, request))

    def keep(self, split: Split, request: Request, images: ImageSet) -> ImageSet:
        """`images`, which are also those of a request for their own sides and reading."""
        for size, source_size in ((request.size, request.source_size), (images.size, images.source_size)):
            for reading in (request.reading, images.reading):
                own = dataclasses.replace(request, size=size, source_size=source_size, reading=reading)
                self._sets[_key(split, own)] = images
        return images


def _key(split: Split, request: Request) -> tuple[object, ...]:
    sides = (request.size, request.source_size)
    if request.size is None:  # a size that is given is neither rounded nor limited
        sides = (*sides, request.multiple, request.most_size)
    return split, sides, request.reading, request.loader, request.cache_dir, request.most


class Source(Protocol):
    """Where images come from."""

    def load(self, split: Split, request: Request) -> ImageSet:
        """The images of a split. A source without splits gives all its images as "train"; "test" is an error there."""
        ...

    def labelled_pair(self, request: Request) -> tuple[ImageSet, ImageSet] | None:
        """The source's own labelled training and test images, or None where it does not have both."""
        ...
