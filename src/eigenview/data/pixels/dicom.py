"""DICOM files, read by the extra pydicom: values after the rescaling that the file asks for, and how they are shown.

Grey (MONOCHROME2, and MONOCHROME1, whose low values are bright) has the values slope * stored + intercept, Hounsfield
units of a CT say, or those of its modality look-up table; the range of the set makes 8 bits of them, and MONOCHROME1 is
inverted after that. Where nothing is rescaled and 8 bits are stored, they are taken as they are. Colour is RGB, YBR
(converted) or a palette (applied). Pixels that the file declares as padding do not count for the range. Each frame is a
page.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import IO, Any, BinaryIO, cast

import numpy as np
from PIL import Image, ImageOps

from eigenview.config.reading import Reading
from eigenview.data.pixels.byte_ranges import as_piece
from eigenview.data.pixels.deep import picture_of, to_8_bits
from eigenview.errors import UserError

SUFFIXES = (".dcm", ".dicom")
DEFLATE_AT_MOST = 1032
"""Times that deflate can shorten anything."""
ITEM_HEADER = 8
"""Bytes that each frame of compressed pixels has at least."""
NO_PIXELS = "a DICOM file without pixels"


@dataclass(frozen=True, kw_only=True)
class About:
    """What the header of a DICOM file says."""

    width: int
    height: int
    bits: int
    """Bits of a value as an image: 8, 16 or 32."""
    frames: int
    """As many as the header says, but at most one more than the file has bytes for: that one is reported as damaged."""
    channels: int
    """1 or 3."""


@dataclass(frozen=True, kw_only=True)
class Frame:
    """One frame."""

    values: np.ndarray
    """(c, h, w), rescaled."""
    bits: int
    ends: tuple[float, float]
    """Of the values that can be stored, rescaled."""
    is_inverted: bool
    """Low values are bright."""
    padding: np.ndarray | None
    """bool (h, w): pixels that hold no value; None: there are none."""
    window: tuple[float, float] | None
    """The values that the file asks to be shown as black and white."""


def is_dicom(path: str) -> bool:
    """Whether a file, or a piece of one, is named like a DICOM file."""
    piece = as_piece(path)
    return (path if piece is None else piece.name).lower().endswith(SUFFIXES)


def require_pydicom(path: str) -> None:
    """Raises UserError where the package that reads DICOM files is not installed."""
    if importlib.util.find_spec("pydicom") is None:
        raise UserError(
            f"{path} is a DICOM file, which needs the package pydicom: uv sync --extra dicom, or pip install "
            "'eigenview[dicom]'. Files that end in .dcm or .dicom are read as DICOM."
        )


def about(file: IO[bytes]) -> About:
    """The header of a DICOM file. Raises ValueError where it has no pixels, and pydicom's errors if it is damaged."""
    header = _header(file)
    is_colour = header.SamplesPerPixel == 3 or header.PhotometricInterpretation == "PALETTE COLOR"
    return About(
        width=int(header.Columns),
        height=int(header.Rows),
        bits=_bits(header, _rescaling(header, 0)),
        frames=max(1, min(int(header.get("NumberOfFrames", 1) or 1), _most_frames(header, file))),
        channels=3 if is_colour else 1,
    )


def frame(file: IO[bytes], index: int) -> Frame:
    """A frame of a DICOM file, counted from 0. Raises as `about`."""
    from pydicom.pixels.processing import apply_color_lut, apply_modality_lut
    from pydicom.pixels.utils import pixel_array

    header = _header(file)
    file.seek(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of odd but readable files
        try:
            stored = pixel_array(cast(BinaryIO, file), index=index)
        except AttributeError as error:
            raise ValueError(NO_PIXELS if "Pixel Data" in str(error) else str(error)) from None
        except RuntimeError as error:  # a compression whose decoder is not installed: the first line says which
            raise ValueError(str(error).splitlines()[0].rstrip(": ")) from None
        if header.PhotometricInterpretation == "PALETTE COLOR":
            stored = apply_color_lut(stored, header)
    rescaling = _rescaling(header, index)
    bits = _bits(header, rescaling)
    if stored.ndim == 3:
        planes = np.moveaxis(stored, -1, 0)
        planes = (planes >> 8).astype(np.uint8) if bits == 8 and planes.dtype == np.uint16 else planes
        ends = (0.0, 255.0) if bits == 8 else (0.0, 2.0 ** int(header.BitsStored) - 1)
        return Frame(values=planes, bits=bits, ends=ends, is_inverted=False, padding=None, window=None)
    if header.get("ModalityLUTSequence"):
        depth = int(header.ModalityLUTSequence[0].LUTDescriptor[2])
        values, ends = apply_modality_lut(stored, header), (0.0, 2.0**depth - 1)
    else:
        values, ends = _rescaled(stored, *rescaling), _ends(header, *rescaling)
    return Frame(
        values=values[None],
        bits=bits,
        ends=ends,
        is_inverted=header.PhotometricInterpretation == "MONOCHROME1",
        padding=_padding(header, stored),
        window=_window(header, index),
    )


def dicom_picture(file: IO[bytes], index: int, reading: Reading, channel: int | None = None) -> Image.Image:
    """A frame as a picture of 8 bits. channel: where each frame is a channel, which one it is. Raises as `about`."""
    found = frame(file, index)
    if reading.applies_to(found.bits):
        if reading.asked.kind == "window" and found.window is not None:
            low, high = found.window
            reading = dataclasses.replace(reading, low=(low,), high=(high,))
        if reading.is_open:
            raise ValueError(f"has {found.bits} bits a value, and there is no range for them")
        picture = picture_of(found.values, found.ends, reading, channel)
    else:
        planes = [Image.fromarray(to_8_bits(plane, *found.ends)) for plane in found.values]
        picture = planes[0] if len(planes) == 1 else Image.merge("RGB", planes)
    return ImageOps.invert(picture) if found.is_inverted else picture


def dicom_values(file: IO[bytes], index: int) -> tuple[np.ndarray, tuple[float, float]]:
    """The values (c, m) of a frame without its padding, and the ends of those that can be stored. Raises as `about`."""
    found = frame(file, index)
    if found.padding is None:
        return found.values.reshape(len(found.values), -1), found.ends
    return found.values[:, ~found.padding], found.ends


def _header(file: IO[bytes]) -> Any:
    """The data elements before the pixels."""
    from pydicom import dcmread
    from pydicom.errors import InvalidDicomError

    file.seek(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            header = dcmread(file, stop_before_pixels=True)
        except InvalidDicomError:
            raise ValueError("not a DICOM file: it has no DICOM header") from None
    needed = ("Rows", "Columns", "SamplesPerPixel", "PhotometricInterpretation", "BitsAllocated", "BitsStored")
    if any(header.get(name) in (None, "", 0) for name in needed):
        raise ValueError(NO_PIXELS)
    return header


def _most_frames(header: Any, file: IO[bytes]) -> int:
    """One more than the frames that the rest of the file, from its position on, can hold bytes of."""
    from pydicom.uid import DeflatedExplicitVRLittleEndian

    start = file.tell()
    left = file.seek(0, os.SEEK_END) - start
    syntax = header.file_meta.get("TransferSyntaxUID") if header.file_meta is not None else None
    least = int(header.Rows) * int(header.Columns) * int(header.SamplesPerPixel) * int(header.BitsAllocated) // 8
    if header.PhotometricInterpretation == "YBR_FULL_422":
        least = least * 2 // 3
    if syntax == DeflatedExplicitVRLittleEndian:  # all that follows its first group is compressed, the header too
        left = DEFLATE_AT_MOST * (left + start)
    elif syntax is not None and syntax.is_compressed:
        least = ITEM_HEADER
    return 1 + left // max(1, least)


def _bits(header: Any, rescaling: tuple[float, float]) -> int:
    is_plain = header.PhotometricInterpretation == "PALETTE COLOR" or (
        header.BitsAllocated <= 8
        and rescaling == (1.0, 0.0)
        and not header.get("PixelRepresentation", 0)
        and not header.get("ModalityLUTSequence")
    )
    return 8 if is_plain else 16 if header.BitsAllocated <= 16 else 32


def _part(header: Any, index: int, sequence: str) -> Any:
    """The data set that holds the elements of `sequence`: of the frame, of all frames, or the file itself."""
    frames = header.get("PerFrameFunctionalGroupsSequence") or []
    shared = header.get("SharedFunctionalGroupsSequence") or []
    for group in (*frames[index : index + 1], *shared[:1]):
        if group.get(sequence):
            return group.get(sequence)[0]
    return header


def _rescaling(header: Any, index: int) -> tuple[float, float]:
    part = _part(header, index, "PixelValueTransformationSequence")
    slope, intercept = part.get("RescaleSlope", 1), part.get("RescaleIntercept", 0)
    return float(1 if slope in (None, "") else slope), float(0 if intercept in (None, "") else intercept)


def _window(header: Any, index: int) -> tuple[float, float] | None:
    """The ends of the first window, of centre c and width w: c - w / 2 and c + w / 2 - 1 (PS3.3 C.11.2.1.2).

    Of the function LINEAR_EXACT c - w / 2 and c + w / 2. Of SIGMOID the line through its centre is taken, with as steep
    a slope; tables (VOI LUT Sequence) are not used.
    """
    part = _part(header, index, "FrameVOILUTSequence")
    centre, width = (_first(part.get(name)) for name in ("WindowCenter", "WindowWidth"))
    last = 1 if (part.get("VOILUTFunction") or "LINEAR") == "LINEAR" else 0
    if centre is None or width is None or width <= last:
        return None
    return centre - width / 2, centre + width / 2 - last


def _first(value: Any) -> float | None:
    """A number, or the first of several; None where there is none."""
    if value in (None, ""):
        return None
    return float(value[0] if isinstance(value, Sequence) and not isinstance(value, str) else value)


def _rescaled(stored: np.ndarray, slope: float, intercept: float) -> np.ndarray:
    if (slope, intercept) == (1.0, 0.0):
        return stored
    if slope.is_integer() and intercept.is_integer() and stored.dtype.itemsize <= 2:
        return stored.astype(np.int32) * int(slope) + int(intercept)
    return stored.astype(np.float64) * slope + intercept


def _ends(header: Any, slope: float, intercept: float) -> tuple[float, float]:
    bits, is_signed = int(header.BitsStored), bool(header.get("PixelRepresentation", 0))
    least, most = (-(2.0 ** (bits - 1)), 2.0 ** (bits - 1) - 1) if is_signed else (0.0, 2.0**bits - 1)
    low, high = sorted((least * slope + intercept, most * slope + intercept))
    return low, high


def _padding(header: Any, stored: np.ndarray) -> np.ndarray | None:
    value, limit = header.get("PixelPaddingValue"), header.get("PixelPaddingRangeLimit")
    if value is None:
        return None
    low, high = sorted((int(value), int(value if limit is None else limit)))
    found = (stored >= low) & (stored <= high)
    return found if found.any() and not found.all() else None
