"""How many pixels may be decoded at the same time, so that several threads do not decode huge images at once."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

MOST_PIXELS = 100_000_000
"""About 0.4 GB for each copy that decoding makes: eight photos of 12 million pixels at once."""
SMALL_PIXELS = 1_000_000
"""Smaller images are not counted: sixteen threads hold at most a sixth of the budget, and waiting costs time."""


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
