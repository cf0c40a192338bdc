"""One image, a file or a piece of one -> one uint8 square of C channels, by the rule of a `Reading`.

Colour: grey is repeated over three channels; transparency is laid on white (what a browser shows; the colour under
fully transparent pixels is arbitrary); CMYK is converted without its colour profile; of an animation the first frame
counts. More than 8 bits: the values between the ends of the set's range become 0 to 255 (deep.py, ranges.py).
Geometry: the EXIF orientation is applied, then the picture is made a square (geometry.py).
"""

from __future__ import annotations

import logging
import struct
from collections.abc import Sequence
from typing import IO, NamedTuple

import numpy as np
from PIL import Image, ImageFile, ImageOps

from eigenview.config.reading import Reading
from eigenview.data.pixels.budget import IN_FLIGHT
from eigenview.data.pixels.byte_ranges import Piece, as_piece, original, read_piece, shown, split_page, split_tile
from eigenview.data.pixels.deep import (
    MODES,
    NotFinite,
    bits_of,
    correct_order,
    full_range,
    inverted,
    is_negative,
    keeps_upper_byte,
    lower_bytes,
    picture_of,
    raw_mode,
    values_of,
)
from eigenview.data.pixels.dicom import about, dicom_picture, dicom_values, is_dicom, require_pydicom
from eigenview.data.pixels.geometry import CROP, Place, resized, square
from eigenview.data.pixels.image_files import DAMAGE, Unreadable, bands, content, opened, pages_of, reason, turn_to
from eigenview.data.pixels.ranges import sampled_values

logging.getLogger("PIL").addHandler(logging.NullHandler())  # what it logs about damaged files would be printed

DECODE_VERSION = 2
"""Part of every cache key: raise it when the same file would decode to other pixels."""

_BAND_PIXELS = 1 << 20


class Sample(NamedTuple):
    """Some values of an image, for the range of its set."""

    values: np.ndarray
    """(c, m), as they are stored."""
    ends: tuple[float, float]
    """Of the type that they are stored in."""
    is_paged: bool = False
    """Whether each channel is a page."""


def sample(path: str, reading: Reading) -> Sample:
    """Some values of an image, without those of its transparency. Raises as `decode`."""
    base, page = split_page(original(path))
    if is_dicom(base):
        require_pydicom(shown(base))
    try:
        found = _sample_of_dicom(base, page, reading) if is_dicom(base) else _sample_of_file(base, page, reading)
        if not np.isfinite(found.values).all():
            raise NotFinite
        return found
    except DAMAGE as error:
        raise Unreadable(reason(path, error)) from error


def _sample_of_file(path: str, page: int, reading: Reading) -> Sample:
    with content(path) as file, opened(file) as image, IN_FLIGHT.held(image.width * image.height):
        ends = full_range(raw_mode(image))
        if reading.pages == "channels" and pages_of(image) > 1:
            pages = [_values(file, image, k, reading)[:1] for k in range(_page_channels(pages_of(image), reading))]
            return Sample(np.concatenate([sampled_values(values) for values in pages]), ends, True)
        values = _values(file, image, page, reading)
        colours = len(values) - (reading.channels in (1, 3) and len(values) in (2, 4))
        _check_planes(colours, reading.channels)
        return Sample(sampled_values(values[:colours]), ends)


def decode(path: str, side: int, reading: Reading) -> np.ndarray:
    """The image as uint8 (C, side, side), C = reading.channels.

    Raises Unreadable when the file is damaged, truncated or no image, and where it has other channels; UserError for a
    DICOM without the package pydicom.
    """
    path, tile, of = split_tile(path)
    place, piece = Place(reading.fit, tile, of), as_piece(path)
    base, page = split_page(path)
    is_stored = piece is not None and piece.side > 0
    if is_dicom(base) and not is_stored:
        require_pydicom(shown(base))
    try:
        if piece is not None and is_stored:
            return _stored(piece, side)
        if is_dicom(base):
            return _of_dicom(base, page, side, reading, place)
        with content(base) as file, opened(file) as image:
            # JPEG can decode at 1/2, 1/4, 1/8; twice the wanted side keeps the final resize's quality.
            image.draft(None, (2 * side, 2 * side))
            with IN_FLIGHT.held(image.width * image.height):
                if reading.pages == "channels" and pages_of(image) > 1:
                    pages = range(_page_channels(pages_of(image), reading))
                    return np.concatenate(
                        [square(_picture(file, image, k, reading, k).convert("L"), side, place) for k in pages]
                    )
                return squares(_picture(file, image, page, reading), side, reading.channels, place)
    except DAMAGE as error:
        raise Unreadable(reason(path, error)) from error


def _page_channels(pages: int, reading: Reading) -> int:
    """The pages of an image, each of which is a channel. Raises ValueError where there are more or fewer channels."""
    if pages != reading.channels:
        raise ValueError(f"its {pages} pages are not {reading.channels} channel{'s' if reading.channels > 1 else ''}")
    return reading.channels


def _of_dicom(path: str, page: int, side: int, reading: Reading, place: Place) -> np.ndarray:
    with content(path) as file:
        found = about(file)
        with IN_FLIGHT.held(found.width * found.height):
            if reading.pages == "channels" and found.frames > 1:
                frames = [dicom_picture(file, k, reading, k) for k in range(_page_channels(found.frames, reading))]
                return np.concatenate([square(frame.convert("L"), side, place) for frame in frames])
            return squares(dicom_picture(file, page, reading), side, reading.channels, place)


def _sample_of_dicom(path: str, page: int, reading: Reading) -> Sample:
    with content(path) as file:
        found = about(file)
        with IN_FLIGHT.held(found.width * found.height):
            if reading.pages == "channels" and found.frames > 1:
                frames = [dicom_values(file, k) for k in range(_page_channels(found.frames, reading))]
                return Sample(np.concatenate([sampled_values(values[:1]) for values, _ in frames]), frames[0][1], True)
            values, ends = dicom_values(file, page)
            _check_planes(len(values), reading.channels)
            return Sample(sampled_values(values), ends)


def _picture(
    file: IO[bytes], image: ImageFile.ImageFile, page: int, reading: Reading, channel: int | None = None
) -> Image.Image:
    """A page as an upright picture of 8 bits. channel: where each page is a channel, which one it is."""
    turn_to(image, page)
    bits, ends = bits_of(image), full_range(raw_mode(image))
    if not reading.applies_to(bits):
        return _upright(image)
    if reading.is_open:
        raise ValueError(f"has {bits} bits a value, and there is no range for them: the encoder was trained on 8 bits")
    return picture_of(_values(file, image, page, reading), ends, reading, channel)


def _values(file: IO[bytes], image: ImageFile.ImageFile, page: int, reading: Reading) -> np.ndarray:
    """The values (c, h, w) of a page, upright, as they are stored; those of a negative inverted."""
    turn_to(image, page)
    stored, bits, is_inverted = raw_mode(image), bits_of(image), is_negative(image)
    if keeps_upper_byte(image):
        raise ValueError(
            "has 16-bit values of which the upper byte alone can be read, so no range applies; save it as grey or RGB "
            "without transparency"
        )
    lower = lower_bytes(file, image, page) if bits == 16 and len(image.getbands()) > 1 else None
    correct_order(image)
    upright = _upright(image)
    if bits == 8:
        return _bands_of(upright, reading.channels)
    values = values_of(upright, stored, None if lower is None else _upright(lower))
    values = inverted(values, full_range(stored)) if is_inverted else values
    return values[None] if values.ndim == 2 else np.moveaxis(values, -1, 0)


def _bands_of(image: Image.Image, channels: int) -> np.ndarray:
    """The bands (c, h, w) of a picture of 8 bits, as `_with_bands` gives them."""
    pixels = np.asarray(_with_bands(image, channels))
    return pixels[None] if pixels.ndim == 2 else np.moveaxis(pixels, -1, 0)


def _with_bands(picture: Image.Image, channels: int) -> Image.Image:
    """A picture of 8 bits whose bands are those that its header counts: grey or colour, perhaps with transparency.

    CMYK becomes RGB where grey or colour is wanted, and keeps its four bands for other `channels`.
    """
    if picture.mode == "CMYK":
        return picture.convert("RGB") if channels in (1, 3) else picture
    mode = MODES[len(bands(picture))]
    return picture if picture.mode == mode and "transparency" not in picture.info else picture.convert(mode)


def squares(picture: Image.Image, side: int, channels: int, place: Place = CROP) -> np.ndarray:
    """The `square` of a picture of 8 bits as uint8 (channels, side, side).

    Three channels: RGB, grey repeated. One: grey. Others: the bands of the picture, of which there must be as many.
    Raises ValueError where there are not.
    """
    if channels in (1, 3):
        is_grey = picture.mode == "L" and "transparency" not in picture.info
        if channels == 3 and not is_grey:
            return square(to_rgb(picture), side, place)
        grey = square(picture if is_grey else to_rgb(picture).convert("L"), side, place)
        return np.repeat(grey, channels, axis=0)  # the same as of three equal channels, in a third of the time
    planes = _with_bands(picture, channels).split()
    _check_planes(len(planes), channels)
    # one by one: Pillow would weight the others by the last one, as if it were transparency
    return np.concatenate([square(plane, side, place) for plane in planes])


def _check_planes(found: int, channels: int) -> None:
    """Raises ValueError unless a picture of so many planes can become one of `channels`: any becomes grey or colour."""
    if channels not in (1, 3) and found != channels:
        raise ValueError(f"has {found} channel{'s' if found > 1 else ''}, not {channels}")


def given_picture(image: Image.Image, side: int, reading: Reading) -> np.ndarray:
    """A picture that a caller has opened, as `decode` gives one of a file; it is not turned.

    Raises ValueError for a picture that has other channels, or more than 8 bits without a range.
    """
    is_deep, ends = image.mode.startswith(("I", "F")), full_range(image.mode)
    if is_deep and reading.is_open:
        raise ValueError(f"of mode {image.mode} has more than 8 bits, and there is no range for them")
    if is_deep:
        values = values_of(image, image.mode)[None]
        image = picture_of(inverted(values, ends) if is_negative(image) else values, ends, reading)
    elif reading.applies_to(8):
        image = picture_of(_bands_of(image, reading.channels), ends, reading)
    return squares(image, side, reading.channels, Place(reading.fit))


def _stored(piece: Piece, side: int) -> np.ndarray:
    pixels = np.frombuffer(read_piece(piece), np.uint8).reshape(-1, piece.side, piece.side)
    return pixels if side == piece.side else resized(pixels, side)


def _upright(image: Image.Image) -> Image.Image:
    """The image turned as its EXIF orientation asks; a damaged EXIF block is no reason to lose the picture."""
    image.load()
    try:
        return ImageOps.exif_transpose(image)
    except (ValueError, SyntaxError, KeyError, TypeError, struct.error, OSError):
        return image


def to_rgb(image: Image.Image) -> Image.Image:
    """Any Pillow mode as 8-bit RGB, by the rules at the top of this file."""
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        return _on_white(image)
    return image.convert("RGB")


def _on_white(image: Image.Image) -> Image.Image:
    """A transparent image on white, band by band: whole copies of a large image would take four times its memory."""
    result = Image.new("RGB", image.size)
    rows = max(1, _BAND_PIXELS // image.width)
    for top in range(0, image.height, rows):
        band = image.crop((0, top, image.width, min(top + rows, image.height)))
        layer = band.convert("LA").convert("RGBA") if band.mode == "La" else band.convert("RGBA")
        white = Image.new("RGBA", layer.size, "white")
        result.paste(Image.alpha_composite(white, layer).convert("RGB"), (0, top))
    return result


def decode_rows(paths: Sequence[str], side: int, reading: Reading) -> tuple[np.ndarray, dict[int, str]]:
    """uint8 (n, C, side, side), black where a file is unreadable, and the reason at each such position."""
    rows = np.zeros((len(paths), reading.channels, side, side), np.uint8)
    broken: dict[int, str] = {}
    for i, path in enumerate(paths):
        try:
            rows[i] = decode(path, side, reading)
        except Unreadable as error:
            broken[i] = str(error)
    return rows, broken
