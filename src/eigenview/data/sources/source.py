"""What is asked of a source of images, and what every source can do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from rich.console import Console

from eigenview.config import LoaderConfig
from eigenview.data.images import ImageSet, Split
from eigenview.data.pixels.cache import CacheDir


@dataclass(frozen=True, kw_only=True)
class Request:
    """How the images are wanted: sides in pixels (None: chosen from the data), reading and caching, where to report."""

    size: int | None = None
    source_size: int | None = None
    loader: LoaderConfig = LoaderConfig()
    console: Console | None = None
    shelf: CacheDir | None = None
    """Where decoded images are kept; default: the user's cache."""


class Source(Protocol):
    """A place where images lie."""

    def load(self, split: Split, request: Request) -> ImageSet:
        """The images of a split. A source without splits gives all its images as "train"; "test" is an error there."""
        ...

    def labelled_pair(self, request: Request) -> tuple[ImageSet, ImageSet] | None:
        """The source's own labelled training and test images, or None where it does not have both."""
        ...
