"""One image, a file or a piece of one -> one uint8 RGB square.

Colour: grey is repeated over three channels; transparency is laid on white (what a browser shows; the colour under
fully transparent pixels is arbitrary); CMYK is converted without its colour profile; 16-bit grey is divided by 257, so
that 65535 becomes 255; of an animation the first frame counts. 32-bit integers and floats have no agreed white: see
`deep_to_8_bit`. Geometry: the EXIF orientation is applied, then the centred square is resized, antialiased bicubic.
"""

from __future__ import annotations

import io
import os
import re
import struct
import zlib
from collections.abc import Sequence
from typing import IO

import numpy as np
from PIL import Image, ImageOps, TiffImagePlugin

from eigenview.config.reading import Reading
from eigenview.data.opening import open_regular
from eigenview.data.pixels.budget import IN_FLIGHT, LIMIT, limit_pixels
from eigenview.data.pixels.byte_ranges import Piece, as_piece, read_piece

DECODE_VERSION = 1
"""Part of every cache key: raise it when the same file would decode to other pixels."""

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif"})
READABLE = "jpg, jpeg, png, webp, bmp, tif, tiff, gif"
# Only these decoders: others that Pillow knows start programs (EPS) or are rarely meant by a file called .jpg.
_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF")
_BAND_PIXELS = 1 << 20
_LOW_RANGE = 65536 / 4

# What Pillow's readers raise on damaged files. DecompressionBombError: an image of more pixels than `limit_pixels`;
# NotImplementedError: a variant of a format that Pillow cannot read.
_DAMAGE = (OSError, SyntaxError, ValueError, EOFError, IndexError, KeyError, TypeError, AttributeError, OverflowError)
_DAMAGE += (struct.error, zlib.error, MemoryError, NotImplementedError, Image.DecompressionBombError)


class Unreadable(Exception):
    """A file that is no readable image; the text is the reason, without the path."""


def _reason(path: str, error: BaseException) -> str:
    if isinstance(error, Image.UnidentifiedImageError):
        return "not an image in a format eigenview reads" if _has_content(path) else "empty file"
    if isinstance(error, Image.DecompressionBombError):
        found = re.search(r"\d+", str(error))  # Pillow raises before there is an image to ask
        pixels = int(found[0]) if found else 0
        return f"its {pixels:,} pixels are over the limit of {limit_pixels():,}; to read it set {LIMIT}={pixels}"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return (str(error) or type(error).__name__).replace("\n", " ")


def _has_content(path: str) -> bool:
    piece = as_piece(path)
    if piece is not None:
        return piece.bytes > 0
    try:
        return os.path.getsize(path) > 0
    except OSError:
        return False


def short_side(path: str) -> int:
    """The smaller of width and height in pixels, from the header alone. Raises Unreadable."""
    return int(header(path)[0])


def header(path: str) -> tuple[int, int, int]:
    """Short side in pixels, bits of a value (8, 16 or 32), and pages of a TIFF, from the headers. Raises Unreadable."""
    try:
        with _content(path) as file, _opened(file) as image:
            pages = image.n_frames if isinstance(image, TiffImagePlugin.TiffImageFile) else 1
            return min(image.size), _bits(image), pages
    except _DAMAGE as error:
        raise Unreadable(_reason(path, error)) from error


def _bits(image: Image.Image) -> int:
    """Bits of a value as stored: Pillow itself keeps the upper 8 of 16-bit colour."""
    if image.mode.startswith(("I;16", "F")) or image.mode == "I":
        return 16 if image.mode.startswith("I;16") or image.format == "PNG" else 32
    return 16 if any("16" in _raw_mode(tile[3]) for tile in getattr(image, "tile", ())) else 8


def _raw_mode(parameters: object) -> str:
    """The raw mode among the parameters of one of Pillow's decoders, "RGB;16B" say."""
    first = parameters[0] if isinstance(parameters, tuple) and parameters else parameters
    return first if isinstance(first, str) else ""


def value_range(path: str) -> tuple[float, float]:
    """Smallest and largest value of an image of more than 8 bits. Raises Unreadable."""
    try:
        with (
            _content(path) as file,
            _opened(file) as image,
            IN_FLIGHT.held(image.width * image.height),
        ):
            values = np.asarray(image)
            scale = 257 if values.dtype == np.uint8 else 1
            return float(values.min()) * scale, float(values.max()) * scale
    except _DAMAGE as error:
        raise Unreadable(_reason(path, error)) from error


def decode(path: str, side: int, reading: Reading) -> np.ndarray:
    """The image as uint8 (C, side, side), C = reading.channels.

    Raises Unreadable when the file is damaged, truncated or no image.
    """
    try:
        piece = as_piece(path)
        if piece is not None and piece.side:
            return _stored(piece, side)
        with _content(path) as file, _opened(file) as image:
            # JPEG can decode at 1/2, 1/4, 1/8; twice the wanted side keeps the final resize's quality.
            image.draft(None, (2 * side, 2 * side))
            with IN_FLIGHT.held(image.width * image.height):
                return square(to_rgb(_upright(image)), side)
    except _DAMAGE as error:
        raise Unreadable(_reason(path, error)) from error


def _opened(file: IO[bytes]) -> Image.Image:
    limit_pixels()
    return Image.open(file, formats=_FORMATS)


def _content(path: str) -> IO[bytes]:
    piece = as_piece(path)
    return open_regular(path) if piece is None else io.BytesIO(read_piece(piece))


def _stored(piece: Piece, side: int) -> np.ndarray:
    pixels = np.frombuffer(read_piece(piece), np.uint8).reshape(3, piece.side, piece.side)
    if side == piece.side:
        return pixels
    return square(Image.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0))), side)


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
    if image.mode.startswith(("I", "F")):
        return Image.fromarray(deep_to_8_bit(np.asarray(image))).convert("RGB")
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


def deep_to_8_bit(values: np.ndarray) -> np.ndarray:
    """Grey of more than 8 bits as uint8.

    16-bit integers: divided by 257 and rounded. 32-bit integers and floats, by the range the image itself uses: floats
    within 0..1 times 255; within 0..255 as they are; within 0..65535 divided by 257; anything else is stretched from
    its own minimum to its maximum. Raises ValueError for values that are not finite.
    """
    is_16_bit, is_float = values.dtype.itemsize == 2, values.dtype.kind == "f"
    values = values.astype(np.float64)
    low, high = float(values.min()), float(values.max())
    if not np.isfinite(low) or not np.isfinite(high):
        raise ValueError("holds values that are not finite")
    if low < 0 or high > 65535:
        values = (values - low) * (255 / max(high - low, 1e-300))
    elif is_16_bit or high > 255:
        values = values / 257
    elif is_float and high <= 1:
        values = values * 255
    return np.rint(values).astype(np.uint8)


def square(image: Image.Image, side: int) -> np.ndarray:
    """The centred square of an RGB image as uint8 (3, side, side): the same as resizing the whole, then cropping."""
    width, height = image.size
    short = min(width, height)
    left, top = (width - short) // 2, (height - short) // 2
    box = (left, top, left + short, top + short)
    if short == side:
        image = image.crop(box) if width != height else image
    else:
        # reducing_gap: large pictures are first shrunk by an integer factor, to no less than three times the target
        image = image.resize((side, side), Image.Resampling.BICUBIC, box=box, reducing_gap=3.0)
    return np.asarray(image).transpose(2, 0, 1)


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


def headers(paths: Sequence[str]) -> tuple[np.ndarray, dict[int, str]]:
    """float64 (n, 5), zeros where a header is unreadable, and the reason at each such position.

    Columns: short side, bits, pages (see `header`), and the smallest and largest value. Of the
    images of more than 8 bits the first of each depth is read for its values; they are nan for the others.
    """
    rows = np.zeros((len(paths), 5))
    broken: dict[int, str] = {}
    measured: set[int] = set()
    for i, path in enumerate(paths):
        try:
            found = header(path)
            rows[i] = *found, np.nan, np.nan
            if found[1] > 8 and found[1] not in measured:
                rows[i, 3:] = value_range(path)
                measured.add(found[1])
        except Unreadable as error:
            rows[i] = 0
            broken[i] = str(error)
    return rows, broken


def header_notes(rows: np.ndarray) -> tuple[str, ...]:
    """What the headers of a set (`headers`) say that its squares do not show, a sentence each."""
    notes: tuple[str, ...] = ()
    several = rows[:, 2] > 1
    if several.any():
        pages = int(rows[several, 2].sum())
        notes += (f"{several.sum():,} TIFF files hold several pages, {pages:,} in all; the first page of each is used",)
    for bits, rule in ((16, "divided by 257"), (32, "scaled by the range that each image uses")):
        deep = rows[rows[:, 1] == bits]
        if not len(deep):
            continue
        looked_at = deep[np.isfinite(deep[:, 4])]
        text = f"{len(deep):,} images have {bits} bits a value and are {rule}"
        low, high = (looked_at[:, 3].min(), looked_at[:, 4].max()) if len(looked_at) else (0, 65535)
        if len(looked_at):
            text += f"; in the {len(looked_at):,} looked at, values lie between {low:,.6g} and {high:,.6g}"
        if bits == 16 and high - low < _LOW_RANGE:
            text = f"warning: {text}: only {round((high - low) / 257) + 1} of 256 grey levels are left. Stretch them "
            text += "to 0 to 65,535, or save 8 bits"
        notes += (text,)
    return notes
