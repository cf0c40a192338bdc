"""The interface of a source of images, and the request that is passed to it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from eigenview.config import LoaderConfig
from eigenview.data.images import ImageSet, Split
from eigenview.data.pixels.cache import CacheDir
from eigenview.terminal import Console


@dataclass(frozen=True, kw_only=True)
class Request:
    """How to load images: sides in pixels (None: chosen from the data), reading and caching, progress console."""

    size: int | None = None
    source_size: int | None = None
    loader: LoaderConfig = LoaderConfig()
    console: Console | None = None
    cache_dir: CacheDir | None = None
    """Where decoded images are kept; default: the user's cache."""


class Source(Protocol):
    """Where images come from."""

    def load(self, split: Split, request: Request) -> ImageSet:
        """The images of a split. A source without splits gives all its images as "train"; "test" is an error there."""
        ...

    def labelled_pair(self, request: Request) -> tuple[ImageSet, ImageSet] | None:
        """The source's own labelled training and test images, or None where it does not have both."""
        ...
