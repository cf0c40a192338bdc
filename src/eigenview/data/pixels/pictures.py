"""Images of any number of channels as pictures that a person can look at: RGB, or grey."""

from __future__ import annotations

import numpy as np


def as_pictures(pixels: np.ndarray) -> np.ndarray:
    """(..., C, h, w) as (..., 3, h, w): RGB as it is, the first three of more channels, the first of fewer as grey."""
    channels = pixels.shape[-3]
    return pixels[..., :3, :, :] if channels >= 3 else np.repeat(pixels[..., :1, :, :], 3, axis=-3)
