"""What every simulated idea returns, and what joins it to the command line."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy import ndarray

from eigenview.theory.simulation import check_number

Number = float | int | str
"""A cell of the table; infinity for what never happens."""

POINTS = 401


@dataclass(frozen=True)
class Curve:
    """A line, or a family of lines that share a name and a look."""

    name: str
    x: ndarray
    """(T)"""
    y: ndarray
    """(T) or (T lines); nan for a gap."""


@dataclass(frozen=True)
class Panel:
    """One plot of curves; `caption` says in a sentence what to look at."""

    title: str
    caption: str
    x: str
    y: str
    curves: tuple[Curve, ...]
    is_log: bool = False
    """A logarithmic y axis, on which values of 0 and less are gaps."""
    is_log_x: bool = False


@dataclass(frozen=True)
class Cloud:
    """Points in the plane, coloured by a value."""

    title: str
    caption: str
    points: ndarray
    """(n 2)"""
    values: ndarray
    """(n)"""
    is_shared: bool = False
    """The same for every value of a sweep: drawn once."""


@dataclass(frozen=True)
class Outcome:
    """The answer to one set of options."""

    numbers: dict[str, Number]
    """The decisive numbers by name, in the order to be read."""
    statements: tuple[str, ...]
    """What they mean, in sentences."""
    panels: tuple[Panel, ...]
    clouds: tuple[Cloud, ...] = ()


@dataclass(frozen=True)
class Theory:
    """One name of `eigenview simulate`."""

    assumptions: str
    """What is assumed, and where it fails: shown by --help and below every figure."""
    options: type
    """Frozen keyword-only dataclass; each field's sentence is its help."""
    simulate: Callable[[Any], Outcome]
    usual_sweep: str | None = None
    """The --sweep made where its option is left at None."""


def time_grid(end: float, points: int = POINTS) -> ndarray:
    """Equal steps from 0 to `end`; UserError for an end not above 0."""
    check_number("end", end, 0, strict=True)
    return np.linspace(0.0, end, points)


def level(name: str, end: float, value: float) -> Curve:
    """A horizontal line."""
    return Curve(name, np.array([0.0, end]), np.array([value, value]))


def time_to_reach(times: ndarray, values: ndarray, goal: float) -> float:
    """First time at which `values` (T) is at `goal` or beyond, from the side it starts on; infinity if it never is.

    Linear between the times.
    """
    gap = (values - goal) * np.sign(goal - values[0])
    beyond = np.flatnonzero(gap >= 0)
    if beyond.size == 0:
        return float("inf")
    k = int(beyond[0])
    if k == 0:
        return float(times[0])
    share = gap[k - 1] / (gap[k - 1] - gap[k])
    return float(times[k - 1] + share * (times[k] - times[k - 1]))


def effective_rank(values: ndarray) -> float:
    """exp of the entropy of the singular values as shares: between 1 and their number, 0 where all of them are 0."""
    total = float(values.sum())
    if total == 0:
        return 0.0
    shares = values[values > 0] / total
    return float(np.exp(-(shares * np.log(shares)).sum()))
