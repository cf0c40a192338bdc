"""How many pixels an image may have, and how many may be decoded at the same time on several threads."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator

from PIL import Image

from eigenview.errors import require

MOST_PIXELS = 100_000_000
"""About 0.4 GB for each copy that decoding makes: eight photos of 12 million pixels at once."""
SMALL_PIXELS = 1_000_000
"""Smaller images are not counted: sixteen threads hold at most a sixth of the budget, and waiting costs time."""


LIMIT = "EIGENVIEW_MAX_PIXELS"
"""Environment variable: the most pixels an image may have; default Pillow's limit, 178,956,970."""


def limit_pixels() -> int:
    """Let Pillow open images of up to $EIGENVIEW_MAX_PIXELS pixels; returns the limit.

    Raises: UserError if that is no number of pixels.
    """
    text = os.environ.get(LIMIT, "")
    if text:
        is_number = text.isascii() and text.isdigit() and 1 <= len(text) <= 12
        require(is_number and int(text) > 1, LIMIT, text[:20], "a number of pixels, such as 500000000")
        Image.MAX_IMAGE_PIXELS = int(text) // 2  # Pillow warns from here on, and refuses from twice as many
    return 2 * (Image.MAX_IMAGE_PIXELS or 1 << 62)


class Budget:
    """A number of pixels that threads share. An image larger than all of it waits until it is alone."""

    def __init__(self, most: int, small: int = 0) -> None:
        self.most, self.small = most, small
        self.held_now = 0
        self._changed = threading.Condition()

    @contextlib.contextmanager
    def held(self, pixels: int) -> Iterator[None]:
        """Waits until `pixels` more fit into the budget, and keeps them until the block ends."""
        if pixels < self.small:
            yield
            return
        with self._changed:
            self._changed.wait_for(lambda: self.held_now == 0 or self.held_now + pixels <= self.most)
            self.held_now += pixels
        try:
            yield
        finally:
            with self._changed:
                self.held_now -= pixels
                self._changed.notify_all()


IN_FLIGHT = Budget(MOST_PIXELS, SMALL_PIXELS)
"""The budget of this process."""
