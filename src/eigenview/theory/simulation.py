"""What every simulation shares: the record it returns, the integrator, and the checks of its arguments."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from eigenview.errors import UserError, require

Method = Literal["DOP853", "LSODA"]

EVALUATIONS = 100_000
"""Budget of an integration. The pages of docs/theory need up to 6,000; one takes 30 microseconds in a small system."""


@dataclass(frozen=True)
class Simulation:
    """A solved initial value problem: named states, each with the times as leading axis."""

    times: Float[ndarray, " T"]
    """The times asked for."""
    states: dict[str, ndarray]
    """Every state of shape (T, ...), float64."""

    @property
    def final(self) -> dict[str, ndarray]:
        """Every state at the last time."""
        return {name: values[-1] for name, values in self.states.items()}


def integrate(
    field: Callable[[float, Mapping[str, ndarray]], Mapping[str, ndarray]],
    start: Mapping[str, ndarray | float],
    times: ndarray,
    *,
    rtol: float = 1e-10,
    atol: float = 1e-12,
    method: Method = "DOP853",
    evaluations: int = EVALUATIONS,
) -> Simulation:
    """Solve y' = field(t, y), y(times[0]) = start, for a dictionary y of arrays; scipy's `solve_ivp` does the work.

    Definition
        `field` gets the time and the states by name, each in the shape of `start` (a number has shape ()), and returns
        their rates under the same names. States between the integrator's own steps are interpolated by it (order 7 for
        DOP853). `rtol` and `atol` bound the error of a step, not of the whole; `rtol` is 2.3e-14 or more. Systems whose
        fastest rate is far above the rate of interest (times of 1e4 and more) go faster with `method="LSODA"`.
        `evaluations` is the most often that `field` is called: a step of DOP853 takes 12, and is no longer than about
        6 / the fastest rate, however little happens.

    Shapes
        times (T), increasing, T >= 2; every state comes back as (T, *shape of its start).

    Raises
        UserError for times that do not increase, a start that is not finite, and an integration that fails, gives
        values that are not finite or uses up its evaluations: the message names the last time reached.
    """
    times = np.asarray(times, dtype=np.float64)
    require(
        times.ndim == 1 and len(times) >= 2 and bool(np.isfinite(times).all() and (np.diff(times) > 0).all()),
        "times",
        times,
        "two or more finite numbers in increasing order",
    )
    require(evaluations >= 1, "evaluations", evaluations, "1 or more")
    parts = {name: np.asarray(value, dtype=np.float64) for name, value in start.items()}
    for name, value in parts.items():
        require(bool(np.isfinite(value).all()), f"the start of {name}", value, "finite numbers")
    ends = np.cumsum([value.size for value in parts.values()])

    def unpacked(y: ndarray) -> dict[str, ndarray]:
        pieces = np.split(y, ends[:-1])
        return {name: piece.reshape(part.shape) for piece, (name, part) in zip(pieces, parts.items(), strict=True)}

    last, repeats, overflows, used = float(times[0]), 0, 0, 0
    task = f"the integration of {', '.join(parts)} from t = {times[0]:g} to {times[-1]:g}"

    def failure(reason: str) -> UserError:
        return UserError(
            f"{task} failed near t = {last:.6g}: {reason} A state may grow without bound there. "
            "Ask for a shorter time, start smaller, or change the parameters."
        )

    def rates(t: float, y: ndarray) -> ndarray:
        nonlocal last, repeats, overflows, used
        if used == evaluations:
            raise UserError(
                f"{task} was given up at t = {last:.6g}: it has evaluated the rates {used:,} times, all it may "
                f"(method {method}, rtol {rtol:g}, atol {atol:g}). Its fastest rate is too large for so long a time. "
                "Ask for a shorter time, or slower parameters; in Python also a larger rtol, "
                "method='LSODA' for a stiff system, or more evaluations."
            )
        used += 1
        repeats = repeats + 1 if t == last else 0
        last = t
        rate = field(t, unpacked(y))
        flat = np.concatenate([_rate(rate, name, part.shape) for name, part in parts.items()])
        # a trial step may overflow and be taken back; beyond that many, or at the start, scipy would try for ever
        overflows += not np.isfinite(flat).all()
        if overflows > 1000 or (overflows and t == times[0]):
            raise failure("The rates are not finite.")
        # LSODA goes on with steps of length zero; a Jacobian takes one evaluation per state at the same time
        if repeats > 10_000 + 10 * len(y):
            raise failure("The step size fell to zero.")
        return flat

    # here, since help needs none of it and has a second
    from scipy.integrate import solve_ivp  # pyright: ignore[reportMissingTypeStubs, reportUnknownVariableType]

    y0 = np.concatenate([value.ravel() for value in parts.values()])
    with np.errstate(over="ignore", invalid="ignore"):  # a state that blows up is reported below, in words
        span = (times[0], times[-1])
        solution = cast(Any, solve_ivp(rates, span, y0, t_eval=times, method=method, rtol=rtol, atol=atol))
    if not solution.success:
        raise failure(solution.message)
    if not np.isfinite(solution.y).all():
        raise failure("The states are not finite.")
    states = {name: np.empty((len(times), *part.shape)) for name, part in parts.items()}
    for index, y in enumerate(solution.y.T):
        for name, value in unpacked(y).items():
            states[name][index] = value
    return Simulation(times, states)


def _rate(rate: Mapping[str, ndarray], name: str, shape: tuple[int, ...]) -> ndarray:
    """The rate of one state, flat; a wrong shape must not be broadcast."""
    value = np.asarray(rate[name], dtype=np.float64)
    if value.shape != shape:
        raise ValueError(f"the field's rate of {name} has shape {value.shape}; its state has {shape}.")
    return value.ravel()


def check_number(name: str, value: float, low: float, high: float = math.inf, *, strict: bool = False) -> None:
    """Refuse a parameter that is not a finite number in [low, high], or in (low, high] where `strict`."""
    above = value > low if strict else value >= low
    allowed = f"above {low:g}" if strict else f"{low:g} or more"
    if math.isfinite(high):
        allowed += f", up to {high:g}"
    require(bool(math.isfinite(value) and above and value <= high), name, value, allowed)


def check_values(name: str, values: ndarray, low: float = 0.0) -> None:
    """Refuse an array of eigenvalues or variances with an entry that is not finite or is below `low`."""
    bad = values[~(np.isfinite(values) & (values >= low))]
    require(
        bad.size == 0, f"an entry of {name}", float(bad[0]) if bad.size else None, f"finite numbers, {low:g} or more"
    )


def check_square(name: str, matrix: ndarray, size: int | None = None) -> None:
    """Refuse what is not a finite square matrix (of the given size)."""
    ok = matrix.ndim == 2 and matrix.shape[0] == matrix.shape[1] and size in (None, matrix.shape[0])
    require(ok, f"the shape of {name}", matrix.shape, "a square matrix" + (f" ({size}, {size})" if size else ""))
    require(bool(np.isfinite(matrix).all()), name, matrix, "finite entries")


def check_symmetric(name: str, matrix: ndarray, size: int | None = None) -> None:
    """Refuse a matrix that is not square, or differs from its transpose by more than 1e-10 of its largest entry."""
    check_square(name, matrix, size)
    gap = float(np.abs(matrix - matrix.T).max())
    require(
        gap <= 1e-10 * float(np.abs(matrix).max()),
        f"the largest difference between {name} and its transpose",
        gap,
        "rounding error",
        f"Give a symmetric matrix, for example ({name} + {name}.T) / 2.",
    )


def check_second_moment(name: str, matrix: ndarray, size: int | None = None) -> None:
    """Refuse a matrix that is not symmetric or has an eigenvalue below zero (a negative variance)."""
    check_symmetric(name, matrix, size)
    smallest = float(np.linalg.eigvalsh(matrix)[0])
    require(
        smallest >= -1e-10 * max(float(np.abs(matrix).max()), 1e-300),
        f"the smallest eigenvalue of {name}",
        smallest,
        "0 or more: it is the variance of a direction",
    )
