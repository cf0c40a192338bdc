"""How an image that is not square becomes a square: the values of --fit."""

from __future__ import annotations

import functools
from typing import Literal, NamedTuple

from eigenview.errors import UserError, hint

WORDS = ("crop", "pad", "squash", "tiles:N")
MOST_TILES = 64


class Fit(NamedTuple):
    """What --fit asks for."""

    kind: Literal["crop", "pad", "squash", "tiles"]
    tiles: int = 1
    """Most squares of an image; 1 except for tiles."""

    def squares_of(self, short: float, long: float) -> int:
        """Squares of an image with these sides: as many as cover it, at most `tiles`, at least 1."""
        return max(1, min(self.tiles, -int(-long // max(short, 1))))


@functools.cache
def parse_fit(text: str) -> Fit:
    """The fit that `text` asks for. Raises UserError for anything but WORDS, and for too many tiles or too few."""
    if text in ("crop", "pad", "squash"):
        return Fit(text)  # type: ignore[arg-type]
    word, mark, number = text.partition(":")
    is_number = number.isascii() and number.isdecimal() and len(number) < 5
    if word == "tiles" and mark and is_number and 2 <= int(number) <= MOST_TILES:
        return Fit("tiles", int(number))
    if word == "tiles":
        raise UserError(f"--fit is {text!r}; allowed: tiles:N with N from 2 to {MOST_TILES}, such as tiles:3.")
    known = (*WORDS[:3], "tiles")
    raise UserError(f"--fit is {text!r}; allowed: {', '.join(WORDS)}. {hint(word, known)}".rstrip())
