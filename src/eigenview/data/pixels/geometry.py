"""A picture as one square of pixels, antialiased bicubic: cropped, padded, squashed, or one of several tiles."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from PIL import Image

from eigenview.config.fit import parse_fit


class Place(NamedTuple):
    """Which square of a picture is meant."""

    fit: str = "crop"
    """A value of --fit."""
    tile: int = 0
    """Number of the tile, counted from 0 and from the left or from the top."""
    of: int = 1
    """Tiles of this picture."""


CROP = Place()


def square(picture: Image.Image, side: int, place: Place = CROP) -> np.ndarray:
    """A square of a picture as uint8 (bands, side, side).

    crop: the centred square, the same as resizing the whole and then cropping. tiles:N: the same of the square at
    round(k (long - short) / (n - 1)) along the longer side, for tile k of n, or the centred one if n is 1. squash: the
    whole, with both sides resized. pad: the whole, its longer side resized to `side`, in the middle of a square of one
    colour, in each channel the median of the outermost pixels of the resized picture: a few dark ones on a white edge
    leave it white.
    """
    kind = parse_fit(place.fit).kind
    if kind == "pad":
        return _padded(picture, side)
    if kind == "squash":
        return _bands(_resized(picture, (side, side), (0, 0, *picture.size)))
    width, height = picture.size
    short = min(width, height)
    left, top = _offset(width - short, place), _offset(height - short, place)
    return _bands(_resized(picture, (side, side), (left, top, left + short, top + short)))


def resized(pixels: np.ndarray, side: int, place: Place = CROP) -> np.ndarray:
    """The `square` of an image uint8 (C, h, w) as uint8 (C, side, side)."""
    if len(pixels) == 3:
        return square(Image.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0))), side, place)
    return np.concatenate([square(Image.fromarray(np.ascontiguousarray(plane)), side, place) for plane in pixels])


def _offset(spare: int, place: Place) -> int:
    return spare // 2 if place.of == 1 else round(place.tile * spare / (place.of - 1))


def _resized(picture: Image.Image, size: tuple[int, int], box: tuple[int, int, int, int]) -> Image.Image:
    if (box[2] - box[0], box[3] - box[1]) == size:
        return picture.crop(box) if picture.size != size else picture
    # reducing_gap: large pictures are first shrunk by an integer factor, to no less than three times the target
    return picture.resize(size, Image.Resampling.BICUBIC, box=box, reducing_gap=3.0)


def _padded(picture: Image.Image, side: int) -> np.ndarray:
    width, height = picture.size
    long = max(width, height)
    size = (max(1, round(width / long * side)), max(1, round(height / long * side)))
    pixels = _bands(_resized(picture, size, (0, 0, width, height)))
    if size == (side, side):
        return pixels
    outermost = np.ones(pixels.shape[1:], bool)
    outermost[1:-1, 1:-1] = False
    colour = np.rint(np.median(pixels[:, outermost], axis=1)).astype(np.uint8)
    padded = np.empty((len(pixels), side, side), np.uint8)
    padded[:] = colour[:, None, None]
    left, top = (side - size[0]) // 2, (side - size[1]) // 2
    padded[:, top : top + size[1], left : left + size[0]] = pixels
    return padded


def _bands(picture: Image.Image) -> np.ndarray:
    pixels = np.asarray(picture)
    return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)
