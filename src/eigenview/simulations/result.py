"""The records that a simulation returns, the record that describes it, and measures of curves that several use."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy import ndarray

from eigenview.theory.simulation import check_number

Number = float | int | str
"""A cell of the table. A time is infinite if the event never happens."""

NUM_TIMES = 401


@dataclass(frozen=True)
class Curve:
    """A line, or several lines with one name, colour and dash."""

    name: str
    x: ndarray
    """(T)"""
    y: ndarray
    """(T) or (T lines); nan where nothing is drawn."""


@dataclass(frozen=True)
class Panel:
    """One plot of curves; `caption` says in a sentence what to look at."""

    title: str
    caption: str
    x: str
    y: str
    curves: tuple[Curve, ...]
    is_log: bool = False
    """Logarithmic y axis; values of 0 and below are not drawn."""
    is_log_x: bool = False
    """Logarithmic x axis."""


@dataclass(frozen=True)
class Cloud:
    """A scatter plot of points in the plane, coloured by a value."""

    title: str
    caption: str
    points: ndarray
    """(n 2)"""
    values: ndarray
    """(n)"""
    is_shared: bool = False
    """Identical for all values of a sweep, and therefore drawn once."""


@dataclass(frozen=True)
class Result:
    """What a simulation returns for one set of options."""

    numbers: dict[str, Number]
    """The rows of the table: name and value, in the order in which they are printed."""
    statements: tuple[str, ...]
    """Sentences that interpret the numbers, printed below the table."""
    panels: tuple[Panel, ...]
    clouds: tuple[Cloud, ...] = ()
    """Scatter plots, if there are any."""


@dataclass(frozen=True)
class Theory:
    """What the command line needs to know about one simulation."""

    assumptions: str
    """Assumptions, and when they do not hold: shown by --help and at the end of every page."""
    options: type
    """Frozen keyword-only dataclass; the string below each field is its help text."""
    simulate: Callable[[Any], Result]
    default_sweep: str | None = None
    """The --sweep that is run if none is given and its option is None."""


def time_grid(end: float, points: int = NUM_TIMES) -> ndarray:
    """Equally spaced times from 0 to `end`, both included. Raises UserError if `end` is not above 0."""
    check_number("end", end, 0, strict=True)
    return np.linspace(0.0, end, points)


def horizontal_line(name: str, end: float, value: float) -> Curve:
    """The constant `value` from 0 to `end`."""
    return Curve(name, np.array([0.0, end]), np.array([value, value]))


def time_to_reach(times: ndarray, values: ndarray, goal: float) -> float:
    """First time at which `values` (T) reaches `goal`, from above or from below; infinity if it never does.

    Interpolated linearly between the two neighbouring times.
    """
    gap = (values - goal) * np.sign(goal - values[0])  # negative before the goal is reached
    reached = np.flatnonzero(gap >= 0)
    if reached.size == 0:
        return float("inf")
    k = int(reached[0])
    if k == 0:
        return float(times[0])
    fraction = gap[k - 1] / (gap[k - 1] - gap[k])
    return float(times[k - 1] + fraction * (times[k] - times[k - 1]))


def time_to_within_1_percent(times: ndarray, values: ndarray, limit: float) -> float:
    """First time at which `values` (T) is within 1 % of a positive `limit`; infinity if it never is."""
    return time_to_reach(times, values, (0.99 if values[0] <= limit else 1.01) * limit)


def effective_rank(values: ndarray) -> float:
    """exp(-sum_i q_i log q_i) with q_i = values_i / sum(values): 1 to the number of values; 0 if all values are 0."""
    total = float(values.sum())
    if total == 0:
        return 0.0
    q = values[values > 0] / total
    return float(np.exp(-(q * np.log(q)).sum()))
