"""The centred square of a picture, resized: antialiased bicubic."""

from __future__ import annotations

import numpy as np
from PIL import Image


def square(image: Image.Image, side: int) -> np.ndarray:
    """The centred square of a picture as uint8 (bands, side, side): the same as resizing the whole, then cropping."""
    width, height = image.size
    short = min(width, height)
    left, top = (width - short) // 2, (height - short) // 2
    box = (left, top, left + short, top + short)
    if short == side:
        image = image.crop(box) if width != height else image
    else:
        # reducing_gap: large pictures are first shrunk by an integer factor, to no less than three times the target
        image = image.resize((side, side), Image.Resampling.BICUBIC, box=box, reducing_gap=3.0)
    pixels = np.asarray(image)
    return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)


def resized(pixels: np.ndarray, side: int) -> np.ndarray:
    """The centred square of an image uint8 (C, h, w) as uint8 (C, side, side)."""
    if len(pixels) == 3:
        return square(Image.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0))), side)
    return np.concatenate([square(Image.fromarray(np.ascontiguousarray(plane)), side) for plane in pixels])
