"""Files of encoded images: which are read, how they are opened, and what is wrong with one that cannot be read."""

from __future__ import annotations

import io
import os
import re
import struct
import zlib
from typing import IO

from PIL import Image, ImageFile, TiffImagePlugin

from eigenview.data.opening import open_regular
from eigenview.data.pixels.budget import LIMIT, limit_pixels
from eigenview.data.pixels.byte_ranges import as_piece, read_piece, split_page
from eigenview.data.pixels.deep import refuse_planes
from eigenview.data.pixels.dicom import SUFFIXES as DICOM_SUFFIXES

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif", *DICOM_SUFFIXES})
READABLE = "jpg, jpeg, png, webp, bmp, tif, tiff, gif, dcm, dicom"
# Only these decoders: others that Pillow knows start programs (EPS) or are rarely meant by a file called .jpg.
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF")

# What Pillow's readers raise on damaged files. DecompressionBombError: an image of more pixels than `limit_pixels`;
# NotImplementedError: a variant of a format that Pillow cannot read.
DAMAGE = (OSError, SyntaxError, ValueError, EOFError, IndexError, KeyError, TypeError, AttributeError, OverflowError)
DAMAGE += (struct.error, zlib.error, MemoryError, NotImplementedError, Image.DecompressionBombError)


class Unreadable(Exception):
    """A file that is no readable image; the text is the reason, without the path."""


def reason(path: str, error: BaseException) -> str:
    """Why an image cannot be read, for messages that name it."""
    if isinstance(error, Image.UnidentifiedImageError):
        return "not an image in a format eigenview reads" if _has_content(split_page(path)[0]) else "empty file"
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


def opened(file: IO[bytes]) -> ImageFile.ImageFile:
    """An image, of which no pixel is decoded yet. Raises as `turn_to`."""
    limit_pixels()
    image = Image.open(file, formats=FORMATS)
    refuse_planes(image)
    return image


def turn_to(image: ImageFile.ImageFile, page: int) -> None:
    """Go to a page of an image that was just opened, or to a later one. Raises ValueError as `refuse_planes`."""
    if page:
        image.seek(page)
        refuse_planes(image)


def content(path: str) -> IO[bytes]:
    """The bytes of a file, or of a piece of one, as a file."""
    piece = as_piece(path)
    return open_regular(path) if piece is None else io.BytesIO(read_piece(piece))


def pages_of(image: Image.Image) -> int:
    """Pages of a TIFF, 1 for other files."""
    return image.n_frames if isinstance(image, TiffImagePlugin.TiffImageFile) else 1


def bands(image: Image.Image) -> tuple[str, ...]:
    is_palette = image.mode in ("P", "PA")
    has_alpha = "transparency" in image.info or image.mode == "PA"
    bands = ("R", "G", "B") if is_palette else image.getbands()
    return (*bands, "A") if has_alpha and "A" not in bands and "a" not in bands else bands
