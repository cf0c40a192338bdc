"""Exponents: how a quantity grows with the size of one thing, measured at three sizes and stated by a formula.

The exponent is the slope of a straight line through the points (log size, log quantity). The stated one is that of the
formula at the same sizes, so that a sum such as V N^2 D + V^2 N D has the exponent that it has there. Times are taken
in turns, every size once in a turn, and the exponent is the median of those of the turns: the smallest time of each
size would set a lucky moment of the short work beside an average one of the long.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from statistics import median

from benchmarks.contest import Goal, Row, Settings

MOST = 0.15
"""So much faster than stated may a quantity grow. Slower is no fault: constant costs make small sizes too expensive."""


def exponent(sizes: Sequence[float], values: Sequence[float]) -> float:
    """Slope of log value against log size, by least squares."""
    x, y = [math.log(size) for size in sizes], [math.log(value) for value in values]
    mean_x, mean_y = sum(x) / len(x), sum(y) / len(y)
    products = [(a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True)]
    return sum(products) / sum((a - mean_x) ** 2 for a in x)


def growth_row(
    section: str,
    case: str,
    of: str,
    sizes: Sequence[float],
    turns: Sequence[Sequence[float]],
    stated: Callable[[float], float],
    settings: Settings,
    *,
    unit: str = "s",
    threads: int | None = None,
) -> Row:
    """A row: the measured exponent (median over the turns, each with a value for every size), the stated one, and their
    difference. `case` names the axis, `of` the quantity; the points shown are the medians of the sizes."""
    found = median(exponent(sizes, turn) for turn in turns)
    expected = exponent(sizes, [stated(size) for size in sizes])
    middles = [median(each) for each in zip(*turns, strict=True)]
    points = ", ".join(f"{size:,g}: {value:.3g}" for size, value in zip(sizes, middles, strict=True))
    return Row(
        section=section,
        case=case,
        contestant=f"{of} ({points} {unit})",
        quantity="exponent over the stated one",
        ours=found,
        theirs=expected,
        unit="",
        figure=found - expected,
        form="+",
        goal=Goal(MOST, at_most=True) if settings.scale == "full" else None,
        threads=threads,
    )
