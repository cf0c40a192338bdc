"""Exponents: how a quantity grows with the size of one thing, measured at three sizes and stated by a formula.

The exponent is the slope of a straight line through the points (log size, log quantity). The stated one is that of the
formula at the same sizes, so that a sum such as V N^2 D + V^2 N D has the exponent that it has there.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

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
    values: Sequence[float],
    stated: Callable[[float], float],
    settings: Settings,
    *,
    unit: str = "s",
    threads: int | None = None,
) -> Row:
    """A row: the measured exponent, the stated one, and their difference. `case` names the axis, `of` the quantity."""
    found, expected = exponent(sizes, values), exponent(sizes, [stated(size) for size in sizes])
    points = ", ".join(f"{size:,g}: {value:.3g}" for size, value in zip(sizes, values, strict=True))
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
