"""Values of more than 8 bits: reading them from a picture, the ends of their range, and the 8 bits made of them."""

from __future__ import annotations

import functools
import sys
from collections.abc import Sequence
from typing import IO

import numpy as np
from PIL import Image, ImageFile
from PIL.TiffImagePlugin import BITSPERSAMPLE, PHOTOMETRIC_INTERPRETATION, PLANAR_CONFIGURATION, TiffImageFile

from eigenview.config.reading import Reading

_AT_ONCE = 1 << 15
"""Values."""
_IS_LITTLE = sys.byteorder == "little"
_LOWER_BYTE = {";16B": ";16L", ";16L": ";16B", ";16N": ";16B" if _IS_LITTLE else ";16L"}
"""Pillow keeps the upper byte of 16-bit colour. Read as if the bytes lay the other way round, it keeps the lower."""
_NATIVE = {"I;16BS": "I;16S", "I;32BS": "I;32S", "F;32BF": "F;32F"} if _IS_LITTLE else {}
"""libtiff gives values in the order of the machine; Pillow reads these as if they still lay as in the file."""
MODES = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}
"""Of Pillow, for so many bands of 8 bits."""
_SPLIT = ("RGB;16", "RGBX;16", "RGBA;16")


class NotFinite(ValueError):
    """Some values are nan or infinite."""

    def __init__(self) -> None:
        super().__init__("holds values that are not finite")


def bits_of(image: ImageFile.ImageFile) -> int:
    """Bits of a value as stored: 8, 16 or 32.

    Of 16-bit CMYK, of 16-bit grey with transparency and of premultiplied colour Pillow keeps the upper byte alone: they
    count as 8 bits.
    """
    if image.mode == "F":
        return 32
    if image.mode.startswith("I"):
        return 16 if image.format == "PNG" or "16" in raw_mode(image) or "12" in raw_mode(image) else 32
    return 16 if raw_mode(image).startswith(_SPLIT) else 8


def keeps_upper_byte(image: ImageFile.ImageFile) -> bool:
    """Whether Pillow keeps the upper byte alone of the 16 bits of an image, which counts as one of 8 bits."""
    return bits_of(image) == 8 and ";16" in raw_mode(image)


def raw_mode(image: ImageFile.ImageFile) -> str:
    """How the file of an image that is not loaded yet stores its values, "RGB;16B" say."""
    if not image.tile:
        return image.mode
    arguments = image.tile[0][3]
    first = arguments[0] if isinstance(arguments, tuple) and arguments else arguments
    return first if isinstance(first, str) else ""


def refuse_planes(image: Image.Image) -> None:
    """Raises ValueError for a TIFF of more than 8 bits whose channels lie in separate planes.

    Pillow reads 16 bits there as if they were 8. It is right about one plane of floats, which lie in Intel's order.
    """
    if not isinstance(image, TiffImageFile) or image.tag_v2.get(PLANAR_CONFIGURATION) != 2:
        return
    bits = int(np.max(image.tag_v2.get(BITSPERSAMPLE, 1)))
    if bits > 8 and not (image.mode == "F" and image.tag_v2.prefix == b"II"):
        raise ValueError(
            f"stores its channels of {bits} bits in separate planes, which is not read; save it interleaved"
        )


def full_range(stored: str | np.dtype) -> tuple[float, float]:
    """The ends of a type: of a raw mode of Pillow, or of an array's. Floats are taken to lie between 0 and 1."""
    if isinstance(stored, np.dtype):
        if stored.kind not in "iu":
            return 0.0, 1.0
        return float(np.iinfo(stored).min), float(np.iinfo(stored).max)
    if stored.startswith("F"):
        return 0.0, 1.0
    bits = 12 if "12" in stored else 32 if "32" in stored or stored == "I" else 16 if "16" in stored else 8
    if stored.endswith("S") or stored == "I":  # a picture of mode I, which holds signed values
        return -(2.0 ** (bits - 1)), 2.0 ** (bits - 1) - 1
    return 0.0, 2.0**bits - 1


def lower_bytes(file: IO[bytes], image: ImageFile.ImageFile, page: int) -> ImageFile.ImageFile:
    """16-bit colour again, with the lower byte of each value where `image`, from the same file, has the upper one."""
    file.seek(0)
    again = Image.open(file, formats=[image.format or ""])
    again.seek(page)
    mode = raw_mode(again)
    end = next(end for end in _LOWER_BYTE if end in mode)
    _read_as(again, mode.replace(end, _LOWER_BYTE[end]))
    return again


def correct_order(image: ImageFile.ImageFile) -> None:
    """Have a compressed TIFF whose bytes lie in the other order than the machine's read with the right values."""
    mode = raw_mode(image)
    if mode in _NATIVE and image.tile[0][0] == "libtiff":
        _read_as(image, _NATIVE[mode])


def _read_as(image: ImageFile.ImageFile, mode: str) -> None:
    """Have an image that is not loaded yet decoded with another raw mode."""
    image.tile = [
        tile._replace(args=(mode, *tile.args[1:]) if isinstance(tile.args, tuple) else mode) for tile in image.tile
    ]


def is_negative(image: Image.Image) -> bool:
    """Whether low values of a TIFF of more than 8 bits are bright (WhiteIsZero). Of 8 bits Pillow inverts them."""
    return (
        isinstance(image, TiffImageFile)
        and image.mode.startswith(("I", "F"))
        and image.tag_v2.get(PHOTOMETRIC_INTERPRETATION) == 0
    )


def inverted(values: np.ndarray, ends: tuple[float, float]) -> np.ndarray:
    """Low values become high ones, in the same type, whose ends are `ends`: v becomes low + high - v."""
    return values.dtype.type(sum(ends)) - values


def values_of(image: Image.Image, stored: str, lower: Image.Image | None = None) -> np.ndarray:
    """The values (h, w) of a loaded grey image, or (h, w, c) of colour, in the type that holds them.

    stored: its raw mode. lower: for 16-bit colour the image of the lower bytes.
    """
    values = np.asarray(image)
    if lower is not None:
        return (values.astype(np.uint16) << 8) | np.asarray(lower)
    if stored == "I;32N" and values.dtype == np.int32:
        return values.view(np.uint32)  # Pillow keeps unsigned values in a signed image
    return values


def to_8_bits(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """uint8: `low` and what is below it becomes 0, `high` and what is above it 255, linearly between, rounded.

    Raises NotFinite.
    """
    if values.dtype in (np.uint8, np.uint16):
        return np.take(_table(values.dtype.char, low, high), values)
    is_wide = values.dtype.itemsize > 4 or values.dtype.kind in "iu"
    made = np.empty(values.shape, np.uint8)
    flat, out = values.reshape(-1), made.reshape(-1)
    for start in range(0, len(flat), _AT_ONCE):  # a part that stays in a core's cache
        part = slice(start, start + _AT_ONCE)
        scaled = flat[part].astype(np.float64 if is_wide else np.float32)
        if values.dtype.kind == "f" and not np.isfinite(scaled).all():
            raise NotFinite
        scaled -= low
        scaled *= 255 / (high - low)
        out[part] = np.rint(np.clip(scaled, 0, 255, out=scaled), out=scaled)
    return made


@functools.lru_cache(maxsize=64)
def _table(kind: str, low: float, high: float) -> np.ndarray:
    """What each value of an unsigned type of 8 or 16 bits becomes."""
    values = np.arange(np.iinfo(kind).max + 1, dtype=np.float64)
    return to_8_bits(values, low, high)


def channels_to_8_bits(values: np.ndarray, low: Sequence[float], high: Sequence[float]) -> np.ndarray:
    """`to_8_bits` of values (c, ...), each channel by its own ends, or all by the first where there are not as many."""
    if len(low) != len(values):
        return to_8_bits(values, low[0], high[0])
    return np.stack([to_8_bits(each, a, b) for each, a, b in zip(values, low, high, strict=True)])


def picture_of(
    values: np.ndarray, ends: tuple[float, float], reading: Reading, channel: int | None = None
) -> Image.Image:
    """Values (c, h, w) as a picture of 8 bits: grey or colour, with transparency where there are 2 or 4.

    ends: of the values' type, for a reading without a range. channel: where each page is a channel, which one it is.
    """
    low, high = (reading.low, reading.high) if reading.low else ((ends[0],), (ends[1],))
    has_alpha = reading.channels in (1, 3) and len(values) in (2, 4)
    if channel is not None and len(low) > 1:
        low, high = (low[channel],), (high[channel],)
    planes = list(channels_to_8_bits(values[:-1] if has_alpha else values, low, high))
    if has_alpha:
        planes.append(values[-1] if values.dtype == np.uint8 else (values[-1] >> 8).astype(np.uint8))
    pictures = [Image.fromarray(plane) for plane in planes]
    return pictures[0] if len(pictures) == 1 else Image.merge(MODES[len(planes)], pictures)
