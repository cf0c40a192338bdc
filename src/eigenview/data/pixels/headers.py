"""What the headers of images say: a row of numbers for each file, and the sentences made of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from eigenview.config.reading import Pages
from eigenview.data.pixels.byte_ranges import split_page
from eigenview.data.pixels.deep import bits_of
from eigenview.data.pixels.image_files import DAMAGE, Unreadable, bands, content, opened, pages_of, reason

SHORT, LONG, BITS, PAGES, CHANNELS = range(5)
"""Columns of `headers`."""


class Header(NamedTuple):
    """What the headers of a file say: a row of `headers`."""

    short: int
    """The smaller of width and height in pixels."""
    long: int
    bits: int
    """Bits of a value: 8, 16 or 32."""
    pages: int
    """Pages of a TIFF; 1 for other files (of an animation the first frame counts)."""
    channels: int


def header(path: str) -> Header:
    """What the headers say of an image. Raises Unreadable."""
    try:
        with content(split_page(path)[0]) as file, opened(file) as image:
            return Header(min(image.size), max(image.size), bits_of(image), pages_of(image), len(bands(image)))
    except DAMAGE as error:
        raise Unreadable(reason(path, error)) from error


def short_side(path: str) -> int:
    """The smaller of width and height in pixels, from the header alone. Raises Unreadable."""
    return header(path).short


def headers(paths: Sequence[str]) -> tuple[np.ndarray, dict[int, str]]:
    """float64 (n, 5), the fields of `Header`, zeros where one is unreadable, and the reason at each such position."""
    rows = np.zeros((len(paths), 5))
    broken: dict[int, str] = {}
    for i, path in enumerate(paths):
        try:
            rows[i] = header(path)
        except Unreadable as error:
            broken[i] = str(error)
    return rows, broken


def header_notes(rows: np.ndarray, pages: Pages) -> tuple[str, ...]:
    """What the headers of a set (`headers`) say that its squares do not show, a sentence each."""
    several = rows[rows[:, PAGES] > 1]
    if not len(several):
        return ()
    files = f"{len(several):,} TIFF files hold several pages, {int(several[:, PAGES].sum()):,} in all"
    rule = {
        "first": "the first page of each is used (--pages images or --pages channels uses all of them)",
        "images": "each page is an image",
        "channels": "each page is a channel",
    }
    return (f"{files}; {rule[pages]}",)
