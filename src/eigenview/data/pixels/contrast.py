"""Whether the pixels of a set show anything: a set that decodes to nearly constant images gets a warning."""

from __future__ import annotations

import numpy as np

from eigenview.config.reading import Reading

LOOKED_AT = 64
"""Images that are looked at."""
FLAT = 5.0
"""Grey levels: where half of the images vary less than this (standard deviation), they are nearly constant."""
BLACK = 8
"""Grey levels below this count as black."""


def contrast_note(pixels: np.ndarray, reading: Reading, *, is_packed: bool = False) -> str | None:
    """A warning if half of the images uint8 (n, C, S, S) hardly vary; None if they do, or if there is none.

    is_packed: they come from a pack, whose range is that of its making.
    """
    if not len(pixels):
        return None
    # of the channel that varies most: of several, some may well be empty
    spread = pixels.astype(np.float32).std(axis=(2, 3)).max(axis=1)
    if np.median(spread) >= FLAT:
        return None
    black = float((pixels < BLACK).mean())
    again = "--range=0.1%,99.9% takes the range from their values" if reading.is_open else "another --range may help"
    again = f"pack them again: {again}" if is_packed else again
    return (
        f"warning: the images are nearly constant: half of the {len(pixels):,} looked at vary by less than "
        f"{np.median(spread):.1f} of 255 grey levels (median grey level {np.median(pixels):.0f}, {black:.0%} of the "
        f"pixels black). Look at some of them; {again}"
    )
