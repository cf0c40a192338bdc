"""Numbers as text: a few digits, units, and a dash if there is no number."""

from __future__ import annotations

import math
from typing import Any

from eigenview import durations

MISSING = "–"


def number(value: Any) -> float | None:
    """A finite float, or None for everything else: null, text, booleans, NaN and infinities."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) else None


def short(value: Any) -> str:
    """Three significant digits; whole numbers in full, with commas; text unchanged; a dash for None and nan."""
    if isinstance(value, bool | str):
        return str(value)
    x = number(value)
    if x is None:
        return MISSING
    if x == int(x) and abs(x) < 1e15:
        return f"{int(x):,}"
    size = abs(x)
    if size >= 1000:
        return f"{x:,.0f}"
    if size < 1e-3:
        mantissa, exponent = f"{x:.1e}".split("e")
        return f"{mantissa}e{int(exponent)}"
    decimals = max(0, 2 - math.floor(math.log10(size)))
    return f"{x:.{decimals}f}"


def percent(value: Any) -> str:
    """One decimal, the precision to which accuracies are compared."""
    x = number(value)
    return MISSING if x is None else f"{x:.1f}"


def duration(seconds: Any) -> str:
    """Seconds as text, and a dash if there is no number."""
    x = number(seconds)
    return MISSING if x is None else durations.duration(x)


def count(value: Any, one: str, many: str | None = None) -> str:
    """`1 image`, `2,000 images`."""
    x = number(value)
    if x is None:
        return MISSING
    return f"{short(x)} {one if x == 1 else many or one + 's'}"


def parameters(value: Any) -> str:
    """`11.2 M parameters`."""
    x = number(value)
    if x is None:
        return MISSING
    for scale, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if x >= scale:
            return f"{x / scale:.3g} {unit} parameters"
    return count(x, "parameter")
