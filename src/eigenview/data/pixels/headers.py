"""What the headers of images say: a row of numbers for each file, and the sentences made of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from eigenview.config.reading import Pages
from eigenview.data.pixels.byte_ranges import original, shown, split_page
from eigenview.data.pixels.deep import bits_of
from eigenview.data.pixels.dicom import about, is_dicom, require_pydicom
from eigenview.data.pixels.image_files import DAMAGE, Unreadable, bands, content, opened, pages_of, reason

COLUMNS = 6
SHORT, LONG, BITS, PAGES, CHANNELS, DICOM = range(COLUMNS)
"""Columns of `headers`."""


class Header(NamedTuple):
    """What the headers of a file say: a row of `headers`."""

    short: int
    """The smaller of width and height in pixels."""
    long: int
    bits: int
    """Bits of a value: 8, 16 or 32."""
    pages: int
    """Pages of a TIFF, frames of a DICOM; 1 for other files (of an animation the first frame counts)."""
    channels: int
    is_dicom: bool = False


def header(path: str) -> Header:
    """What the headers say of an image. Raises Unreadable, and UserError for a DICOM without the package pydicom."""
    base, _ = split_page(original(path))
    if is_dicom(base):
        require_pydicom(shown(base))
    try:
        if is_dicom(base):
            with content(base) as file:
                found = about(file)
            short, long = sorted((found.width, found.height))
            return Header(short, long, found.bits, found.frames, found.channels, is_dicom=True)
        with content(base) as file, opened(file) as image:
            return Header(min(image.size), max(image.size), bits_of(image), pages_of(image), len(bands(image)))
    except DAMAGE as error:
        raise Unreadable(reason(path, error)) from error


def short_side(path: str) -> int:
    """The smaller of width and height in pixels, from the header alone. Raises Unreadable."""
    return header(path).short


def headers(paths: Sequence[str]) -> tuple[np.ndarray, dict[int, str]]:
    """float64 (n, 6), the fields of `Header`, zeros where one is unreadable, and the reason at each such position."""
    rows = np.zeros((len(paths), COLUMNS))
    broken: dict[int, str] = {}
    for i, path in enumerate(paths):
        try:
            rows[i] = header(path)
        except Unreadable as error:
            broken[i] = str(error)
    return rows, broken


def header_notes(rows: np.ndarray, pages: Pages) -> tuple[str, ...]:
    """What the headers of a set (`headers`) say that its squares do not show, a sentence each."""
    notes: tuple[str, ...] = ()
    for of_dicom, kind, page in ((False, "TIFF", "page"), (True, "DICOM", "frame")):
        several = rows[(rows[:, PAGES] > 1) & (rows[:, DICOM] == of_dicom)]
        if not len(several):
            continue
        holding = f"{kind} files hold" if len(several) > 1 else f"{kind} file holds"
        files = f"{len(several):,} {holding} several {page}s, {int(several[:, PAGES].sum()):,} in all"
        rule = f"each {page} is {'a channel' if pages == 'channels' else 'an image'}"
        if pages == "first" and not of_dicom:
            rule = "the first page of each is used (--pages images or --pages channels uses all of them)"
        notes += (f"{files}; {rule}",)
    return notes


def are_images(rows: np.ndarray, pages: Pages) -> np.ndarray:
    """bool (n,): which of the files with the headers `rows` hold several images: frames of a DICOM, unless each is a
    channel, and pages of a TIFF where that is asked for."""
    return (rows[:, PAGES] > 1) & ((pages == "images") | ((pages == "first") & (rows[:, DICOM] == 1)))
