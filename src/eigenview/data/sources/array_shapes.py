"""Which arrays are images: their numbers, and which of their axes is colour."""

from __future__ import annotations

import numpy as np

from eigenview.config.reading import MOST_CHANNELS
from eigenview.errors import UserError

KINDS = "integers or floats"
SHAPES = "of shape (N, H, W, 3), (N, 3, H, W), or (N, H, W), also with 1 channel for grey"
MANY_SHAPES = "of shape (N, H, W, C) or (N, C, H, W), where C is --channels"


def bits_of(dtype: np.dtype) -> int:
    """Bits of a value: 8 for uint8 alone, whose values are those of pixels; 16 or more for all other types."""
    return 8 if dtype == np.uint8 else max(16, 8 * dtype.itemsize)


def channels_first(array: np.ndarray, what: str, channels: int) -> np.ndarray:
    """A view (N, C, H, W) of images in any of the shapes that are allowed. Raises UserError for anything else."""
    refuse_kind(array.shape, array.dtype, what, channels)
    if array.ndim == 3:
        return array[:, None]
    return array if array.shape[1] in allowed_channels(channels) else array.transpose(0, 3, 1, 2)


def allowed_channels(channels: int) -> tuple[int, ...]:
    """Channels of an array from which so many can be made: grey is repeated, colour becomes grey."""
    return (1, 3) if channels in (1, 3) else (channels,)


def shapes(channels: int) -> str:
    """What an array of images may be, for messages."""
    return f"{KINDS} {SHAPES if channels in (1, 3) else MANY_SHAPES}"


def refuse_kind(shape: tuple[int, ...], dtype: np.dtype, what: str, channels: int) -> None:
    """Raises UserError for an array that does not hold images as they are read here, with the way to convert it."""
    given, images = f"{what} is {dtype} of shape {shape}", f"images are {shapes(channels)}"
    if dtype.kind not in "uif":
        convert = " Save a.astype(np.uint8) * 255." if dtype.kind == "b" else ""
        raise UserError(f"{given}; {images}.{convert}")
    if len(shape) not in (3, 4) or 0 in shape:
        raise UserError(f"{given}; {images}.")
    if len(shape) == 3:
        if shape[2] <= 4:
            raise UserError(f"{given}, which looks like a single image; {images}.")
        if channels not in (1, 3):
            raise UserError(f"{given}, grey images, and --channels is {channels}: give --channels 1 or leave it out.")
        return
    allowed = allowed_channels(channels)
    first, last = shape[1] in allowed, shape[3] in allowed
    if first != last:
        return
    words = "1 or 3 channels" if len(allowed) == 2 else f"{channels} channels (--channels)"
    problem = "it is unclear which axis is colour" if first else f"no axis is colour, {words}"
    least = min(shape[1], shape[3])
    advice = (
        "" if first else f" To train on all of them give pretrain --channels {least}." if least <= MOST_CHANNELS else ""
    )
    raise UserError(f"{given}, where {problem}; {images}.{advice}")
