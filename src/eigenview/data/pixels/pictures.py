"""Images of any number of channels as pictures that a person can look at: RGB, or grey."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

MOST_KEPT = 16
"""Channels that a run keeps of the images of its report."""


def default_channels(count: int) -> tuple[int, ...]:
    """The channels of a picture, counted from 0: RGB as it is, the first three of more, the first of two as grey."""
    return (0, 1, 2) if count >= 3 else (0,)


def channels_note(count: int, shown: Sequence[int]) -> str:
    """Which of `count` channels pictures show; empty for red, green and blue."""
    if count == 3 and tuple(shown) == (0, 1, 2):
        return ""
    if count == 1:
        return "The images are grey."
    numbers = [str(each + 1) for each in shown]
    if len(numbers) == 1:
        return f"Pictures show channel {numbers[0]} of {count} as grey."
    return f"Pictures show channels {numbers[0]}, {numbers[1]} and {numbers[2]} of {count} as red, green and blue."


def as_pictures(pixels: np.ndarray, channels: Sequence[int]) -> np.ndarray:
    """(..., C, h, w) as (..., 3, h, w): three of the channels as red, green and blue, or one of them as grey."""
    chosen = channels if len(channels) == 3 else (channels[0],) * 3
    return pixels[..., list(chosen), :, :]
