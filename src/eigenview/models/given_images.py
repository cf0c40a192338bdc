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
from eigenview.data.pixels.decode import Unreadable, decode, square, to_rgb
from eigenview.errors import UserError

Given: TypeAlias = Tensor | np.ndarray | Image.Image | str | Path | Sequence[Any]
ALLOWED = "uint8 images (n, 3, H, W) or (n, H, W, 3) as a tensor or array, or a list of PIL images or paths"


def as_images(given: Given, side: int, reading: Reading = Reading()) -> Tensor:
    """uint8 (n 3 S S). Pictures and files are cropped to their centred square and resized to `side`, as in training.

    Raises: UserError for anything else, and for a file that is no readable image.
    """
    if isinstance(given, np.ndarray):
        given = torch.from_numpy(np.ascontiguousarray(given))
    if isinstance(given, Tensor):
        if given.ndim == 4 and given.dtype == torch.uint8:
            if given.shape[1] != 3 and given.shape[3] == 3:
                given = given.permute(0, 3, 1, 2).contiguous()
            if given.shape[1] == 3:
                return given
        shape = f"{tuple(given.shape)} of {str(given.dtype).removeprefix('torch.')}"
        raise UserError(f"images have the shape {shape}; allowed: {ALLOWED}.")
    each = [given] if isinstance(given, str | Path | Image.Image) else list(given)
    if not each:
        raise UserError(f"images are an empty list; allowed: {ALLOWED}.")
    return torch.from_numpy(np.stack([_pixels(one, side, reading) for one in each]))


def _pixels(one: Any, side: int, reading: Reading) -> np.ndarray:
    if isinstance(one, Image.Image):
        return square(to_rgb(one), side)
    if not isinstance(one, str | Path):
        raise UserError(f"images hold a {type(one).__name__}; allowed: {ALLOWED}.")
    try:
        return decode(str(one), side, reading)
    except Unreadable as error:
        raise UserError(f"{one} cannot be read as an image: {error}.") from None
