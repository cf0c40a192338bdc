"""Images as a caller in Python has them, as the uint8 tensor that encoders take."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from eigenview.config.reading import Reading
from eigenview.data.pixels.decode import decode, given_picture
from eigenview.data.pixels.image_files import Unreadable
from eigenview.data.sources.array_shapes import channels_first
from eigenview.data.sources.arrays import ImageArray, array_pixels
from eigenview.errors import UserError

Given: TypeAlias = Tensor | np.ndarray | Image.Image | str | Path | Sequence[Any]
ALLOWED = "uint8 images (n, {0}, H, W) or (n, H, W, {0}) as a tensor or array, or a list of PIL images or paths"


def as_images(given: Given, side: int, reading: Reading = Reading()) -> Tensor:
    """uint8 (n C S S). Files, pictures and arrays become squares of `side` pixels by `reading`, as in training: an
    array is read as a .npy that holds it. A tensor holds pixels that were made so, of any side, and stays as it is.

    Raises: UserError for anything else, for a file that is no readable image, and for more than 8 bits where the
    encoder was trained on 8 and has no range for them.
    """
    channels, allowed = reading.channels, ALLOWED.format(reading.channels)
    if isinstance(given, np.ndarray):
        if given.dtype != np.uint8 and (reading.is_open or given.dtype.kind not in "uif"):
            raise UserError(f"images have the shape {given.shape} of {given.dtype}; allowed: {allowed}.")
        stored = ImageArray(name="images", pixels=channels_first(given, "the array", channels))
        return torch.from_numpy(array_pixels(stored, side, reading))
    if isinstance(given, Tensor):
        if given.ndim == 4 and given.dtype == torch.uint8:
            if given.shape[1] != channels and given.shape[3] == channels:
                given = given.permute(0, 3, 1, 2).contiguous()
            if given.shape[1] == channels:
                return given
        shape = f"{tuple(given.shape)} of {str(given.dtype).removeprefix('torch.')}"
        raise UserError(f"images have the shape {shape}; allowed: {allowed}.")
    each = [given] if isinstance(given, str | Path | Image.Image) else list(given)
    if not each:
        raise UserError(f"images are an empty list; allowed: {allowed}.")
    return torch.from_numpy(np.stack([_pixels(one, side, reading) for one in each]))


def _pixels(one: Any, side: int, reading: Reading) -> np.ndarray:
    if isinstance(one, Image.Image):
        try:
            return given_picture(one, side, reading)
        except ValueError as error:
            raise UserError(f"a picture {error}. Give its file, or an array of values.") from None
    if not isinstance(one, str | Path):
        raise UserError(f"images hold a {type(one).__name__}; allowed: {ALLOWED.format(reading.channels)}.")
    try:
        return decode(str(one), side, reading)
    except Unreadable as error:
        raise UserError(f"{one} cannot be read as an image: {error}.") from None
