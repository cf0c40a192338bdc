"""How pixels are made from files: what the user asks for, and what is decided from it once for a data set.

One `Reading` goes from the command line to the decoder. The images come back with the one that was used (its range
decided), the encoder keeps it in encoder.json, and whatever the encoder is used for reads its images in the same way.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from eigenview.config.fit import parse_fit
from eigenview.errors import UserError, require

Pages = Literal["first", "images", "channels"]
PAGES: tuple[Pages, ...] = ("first", "images", "channels")
PERCENT = (0.1, 99.9)
"""The percentiles of `auto`: one pixel in a thousand may be darker or brighter, a dead pixel or a reflection."""
MOST_CHANNELS = 256
OF_RUN = ("range", "channels", "pages", "fit")
"""What a run that starts from another one takes over from it, where its own options have their defaults."""
RANGES = "auto, full, window, LOW,HIGH (such as 0,4095) or LOW%,HIGH% (such as 0.1%,99.9%)"


class Range(NamedTuple):
    """What --range asks for; `low` and `high` are values of the files, percentiles, or without meaning."""

    kind: Literal["auto", "full", "window", "values", "percent"]
    low: float = 0.0
    high: float = 0.0


def parse_range(text: str) -> Range:
    """The range that `text` asks for. Raises UserError for anything but RANGES, and where LOW is not below HIGH."""
    if text == "auto":
        return Range("auto", *PERCENT)
    if text == "window":
        return Range("window", *PERCENT)
    if text == "full":
        return Range("full")
    parts = [part.strip() for part in text.split(",")]
    is_percent = all(part.endswith("%") for part in parts)
    try:
        low, high = (float(part.removesuffix("%") if is_percent else part) for part in parts)
    except ValueError:
        raise UserError(f"--range is {text!r}; allowed: {RANGES}.") from None
    require(math.isfinite(low) and math.isfinite(high), "--range", text, RANGES)
    if low >= high:
        raise UserError(f"--range is {text!r}, whose low end is not below its high end; allowed: {RANGES}.")
    require(not is_percent or (low >= 0 and high <= 100), "--range", text, "percentages from 0 to 100")
    return Range("percent" if is_percent else "values", low, high)


@dataclass(frozen=True, kw_only=True)
class Reading:
    """The rule by which a file becomes pixels 0 to 255."""

    range: str = "auto"
    """As `parse_range` reads it. auto, full and window apply to images of more than 8 bits alone, the others to all."""
    low: tuple[float, ...] = ()
    """The values that become 0: one for all channels, or one for each channel. () while it is not decided: no image of
    more than 8 bits has been seen, or the range is that of each file's own type (full)."""
    high: tuple[float, ...] = ()
    """The values that become 255."""
    channels: int = 3
    """Channels C of the pixels."""
    pages: Pages = "first"
    """Of a file with several pages: the first is used, each is an image, or each is a channel."""
    fit: str = "crop"
    """How an image becomes a square, as `parse_fit` reads it."""

    def __post_init__(self) -> None:
        asked = parse_range(self.range)
        parse_fit(self.fit)
        if asked.kind == "values" and not self.low:
            object.__setattr__(self, "low", (asked.low,))
            object.__setattr__(self, "high", (asked.high,))
        require(1 <= self.channels <= MOST_CHANNELS, "--channels", self.channels, f"1 to {MOST_CHANNELS}")
        require(self.pages in PAGES, "--pages", self.pages, ", ".join(PAGES))
        require(len(self.low) == len(self.high), "high", self.high, f"as many values as low ({len(self.low)})")
        require(len(self.low) in (0, 1, self.channels), "low", self.low, f"one value, or {self.channels}")
        require(all(a < b for a, b in zip(self.low, self.high, strict=True)), "high", self.high, f"above {self.low}")

    @property
    def is_measured(self) -> bool:
        """Whether the range comes from the values of the images."""
        return self.asked.kind in ("auto", "window", "percent")

    @property
    def asked(self) -> Range:
        """What was asked for."""
        return parse_range(self.range)

    @property
    def is_open(self) -> bool:
        """Whether the range is still to be decided, should images need one."""
        return not self.low and self.asked.kind != "full"

    def applies_to(self, bits: int) -> bool:
        """Whether the range is used for images of so many bits a value: auto leaves 8 bits as they are."""
        return bits > 8 or self.asked.kind in ("values", "percent")

    def key(self, *, has_deep: bool) -> str:
        """What the pixels of a set depend on, for the cache; "" for all defaults. has_deep: more than 8 bits occur."""
        plain, ignored = Reading(), () if self.applies_to(16 if has_deep else 8) else ("range", "low", "high")
        names = [f.name for f in dataclasses.fields(self) if f.name not in ignored]
        return " ".join(f"{name}={vars(self)[name]!r}" for name in names if vars(self)[name] != vars(plain)[name])

    def as_json(self) -> dict[str, Any]:
        """The fields as encoder.json and a pack keep them."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in vars(self).items()}

    @staticmethod
    def from_json(content: dict[str, Any] | None) -> Reading:
        """The reading that `as_json` wrote; None for an encoder or a pack of a version before there was one.

        Raises: UserError for values that are not allowed.
        """
        known = {f.name for f in dataclasses.fields(Reading)}
        values: dict[str, Any] = {name: value for name, value in (content or {}).items() if name in known}
        values |= {name: tuple(value) for name, value in values.items() if isinstance(value, list)}
        return Reading(**values)
