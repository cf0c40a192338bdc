"""The range of a data set: which values become black and white, decided once from a fixed sample of its images."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from eigenview.config.reading import PERCENT, Range, Reading
from eigenview.data.pixels.deep import to_8_bits
from eigenview.errors import UserError
from eigenview.runfiles.schema import Fields, ListOf, integer
from eigenview.runfiles.schema import number as finite

SAMPLED_IMAGES, SAMPLED_VALUES = 64, 16384
"""Images that are looked at, and values of each channel of one of them."""
_SHOWN_RANGES = 6


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Values of the sample: one number for all channels, or one for each."""

    bits: int
    least: tuple[float, ...]
    most: tuple[float, ...]
    low: tuple[float, ...]
    """The lower percentile."""
    high: tuple[float, ...]
    full: tuple[float, float]
    """The ends of the type that the first image is stored in."""


MEASURED = Fields(
    required={"bits": integer(8), "full": ListOf(finite(), 2)}
    | dict.fromkeys(("least", "most", "low", "high"), ListOf(finite()))
)
"""A `Measured` as the cache keeps it."""


def sampled_rows(rows: np.ndarray) -> np.ndarray:
    """At most SAMPLED_IMAGES of `rows`, ascending: the same ones at every start."""
    chosen = np.random.default_rng(0).permutation(len(rows))[:SAMPLED_IMAGES]
    return np.asarray(rows)[np.sort(chosen)]


def sampled_values(values: np.ndarray) -> np.ndarray:
    """At most SAMPLED_VALUES of each channel of an image (c, n), (c, h, w): (c, m), the same places in all channels."""
    flat = values.reshape(len(values), -1)
    count = flat.shape[1]
    if count <= SAMPLED_VALUES:
        return flat
    return flat[:, np.sort(np.random.default_rng(0).integers(0, count, SAMPLED_VALUES))]


def measure(
    samples: Sequence[np.ndarray],
    bits: int,
    reading: Reading,
    full: tuple[float, float],
    name: str,
    *,
    has_own: bool,
) -> Measured:
    """What the values (c, m) of the sampled images say of the range that `reading` asks for.

    has_own: whether each channel has a range. Colours share one, or the colours would change.

    Raises UserError for values that are not finite.
    """
    asked = reading.asked
    percent = (asked.low, asked.high) if reading.is_measured else PERCENT
    if has_own:
        groups = [np.concatenate([each[c].ravel() for each in samples]) for c in range(reading.channels)]
    else:
        groups = [np.concatenate([each.ravel() for each in samples])]
    for group in groups:
        if not np.isfinite(group).all():
            raise UserError(
                f"{name}: values are not finite (nan or inf). Replace them by a number first, with np.nan_to_num say."
            )
    # "nearest": a value that occurs, so that the range of integers is one of integers
    ends = [np.percentile(group, percent, method="nearest") for group in groups]
    return Measured(
        bits=bits,
        least=tuple(float(group.min()) for group in groups),
        most=tuple(float(group.max()) for group in groups),
        low=tuple(float(low) for low, _ in ends),
        high=tuple(float(high) for _, high in ends),
        full=full,
    )


def decided(reading: Reading, found: Measured, name: str) -> Reading:
    """`reading` with its range.

    Raises UserError where the range leaves one grey level, of all channels or of one that has its own range.
    """
    kind = reading.asked.kind
    low, high = (found.low, found.high) if reading.is_measured else (reading.low, reading.high)
    low, high = ((found.full[0],), (found.full[1],)) if kind == "full" else (low, high)
    for c, (least, most) in enumerate(zip(found.least, found.most, strict=True)):
        k = c if len(low) > 1 else 0
        ends = np.array([least, most])
        if low[k] < high[k] and len(np.unique(to_8_bits(ends, low[k], high[k]))) == 2:
            continue
        where = f" of channel {c}" if len(found.least) > 1 else ""
        if least == most:
            raise UserError(
                f"{name}: every value{where} that was looked at is {number(least)}, so one grey level is left. "
                "Give other images, or leave that channel out."
            )
        raise UserError(
            f"{name}: --range {reading.range}{_as_values(low[k], high[k], reading.asked)} leaves one grey level of the "
            f"values{where}, {number(least)} to {number(most)}. "
            f"Give another, such as --range={number(least, '')},{number(most, '')}."
        )
    return reading if kind == "full" else dataclasses.replace(reading, low=low, high=high)


def _as_values(low: float, high: float, asked: Range) -> str:
    return "" if asked.kind == "values" else f" ({number(low)} to {number(high)})"


def range_note(reading: Reading, found: Measured, images: int, of: int) -> str:
    """A sentence on the range of a set: "values 1 to 2,950 of 16 bits: range 12 to 2,950 (0.1 to 99.9 %)"."""
    asked = reading.asked
    text = f"values {number(min(found.least))} to {number(max(found.most))} of {found.bits} bits: "
    if asked.kind == "full":
        text += "the full range of their type"
    else:
        each = " of each channel" if len(reading.low) > 1 else ""
        how = "as asked for" if asked.kind == "values" else f"{asked.low:g} to {asked.high:g} %{each}"
        text += f"{kept_range(reading)} ({how})"
        text += " where a DICOM names no window" if asked.kind == "window" else ""
    few = "" if images == of else f"; {of - images:,} of {of:,} images have 8 bits and stay as they are"
    return f"{text}, kept with the encoder{few}"


def kept_range(reading: Reading) -> str:
    """A decided range in words: "range 12 to 2,950"."""
    ends = [f"{number(a)} to {number(b)}" for a, b in zip(reading.low, reading.high, strict=True)]
    more = f" and {len(ends) - _SHOWN_RANGES} more" if len(ends) > _SHOWN_RANGES else ""
    return f"range{'s' if len(ends) > 1 else ''} {', '.join(ends[:_SHOWN_RANGES])}{more}"


def is_same_range(own: Reading, asked: Reading) -> bool:
    """Whether images that were made by `own` have the range that is asked for; auto takes any until it is decided.

    Where auto or window was never decided all images have 8 bits, which auto, window and full leave as they are.
    """
    if own.is_open and not asked.applies_to(8):
        return True
    if asked.low and own.low:
        is_window = asked.asked.kind == "window"
        return (asked.low, asked.high, is_window) == (own.low, own.high, own.asked.kind == "window")
    return not asked.low and (asked.asked.kind == "auto" or asked.asked == own.asked)


def number(value: float, comma: str = ",") -> str:
    """2950.0 as 2,950; 0.123456 as 0.123456, 1.5e-05 as it is."""
    return format(int(value), comma) if value == int(value) and abs(value) < 1e15 else format(value, comma + ".6g")
