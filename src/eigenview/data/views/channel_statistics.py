"""Mean and deviation of the channels of a set, for images that are not RGB."""

from __future__ import annotations

import numpy as np

from eigenview.data.images import ImageSet
from eigenview.data.sources.streams import StreamedSet

LOOKED_AT = 512
"""Images: evenly spaced ones, of a stream the first."""


def channel_statistics(images: ImageSet) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel over all pixels, between 0 and 1, rounded to four digits.

    A channel that does not vary is given the deviation of one grey level.
    """
    count = min(len(images), LOOKED_AT)
    rows = np.arange(count) if isinstance(images, StreamedSet) else np.arange(count) * len(images) // count
    pixels = images.read(rows).astype(np.float32) / 255
    mean, std = pixels.mean(axis=(0, 2, 3), dtype=np.float64), pixels.std(axis=(0, 2, 3), dtype=np.float64)
    return tuple(round(float(m), 4) for m in mean), tuple(round(max(float(s), 1 / 255), 4) for s in std)
