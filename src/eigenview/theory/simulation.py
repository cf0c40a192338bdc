"""Used by every simulation: the integrator, the record it returns, and checks of arguments."""

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

MAX_EVALUATIONS = 100_000
"""Evaluations of the rates after which an integration is stopped. The pages of docs/theory need up to 6,000; one takes
30 microseconds in a small system."""
MAX_EVALUATIONS_OF_MATRICES = 10_000
"""The same for explicit steps of more than 64 numbers, such as two matrices of 8 x 8: one takes about a millisecond."""
LARGEST_SIZE, MOST_SAMPLES = 256, 4096
"""Largest side of a matrix, of which a simulation keeps 200 copies in time; most points or samples it is made from."""


@dataclass(frozen=True)
class Simulation:
    """The solution of an initial value problem: named states, each with the times as leading axis."""

    times: Float[ndarray, " T"]
    """The times given to `integrate`."""
    states: dict[str, ndarray]
    """Every state of shape (T, ...), float64."""

    @property
    def final(self) -> dict[str, ndarray]:
        """All states at the last time."""
        return {name: values[-1] for name, values in self.states.items()}


def integrate(
    field: Callable[[float, Mapping[str, ndarray]], Mapping[str, ndarray]],
    start: Mapping[str, ndarray | float],
    times: ndarray,
    *,
    rtol: float = 1e-10,
    atol: float = 1e-12,
    method: Method = "DOP853",
    evaluations: int | None = None,
) -> Simulation:
    """Solve y' = field(t, y), y(times[0]) = start, for a dictionary y of arrays; scipy's `solve_ivp` does the work.

    Definition
        `field` gets the time and the states by name, each in the shape of `start` (a number has shape ()), and returns
        their rates under the same names. States between the integrator's own steps are interpolated (order 7 for
        DOP853). `rtol` and `atol` bound the error of one step, not the total error; `rtol` must be 2.3e-14 or more.
        For stiff systems (the fastest rate times the whole time is 1e4 or more) `method="LSODA"` is faster.
        `evaluations` is the maximum number of calls of `field`, by default MAX_EVALUATIONS, or
        MAX_EVALUATIONS_OF_MATRICES: a step of DOP853 takes 12, and is never longer than about 6 / the fastest rate.

    Shapes
        times (T), increasing, T >= 2; every state comes back as (T, *shape of its start).

    Raises
        UserError if the times do not increase, `start` is not finite, the integration fails, a value is not finite, or
        `evaluations` is exceeded. The message names the last time reached.
    """
    times = np.asarray(times, dtype=np.float64)
    require(
        times.ndim == 1 and len(times) >= 2 and bool(np.isfinite(times).all() and (np.diff(times) > 0).all()),
        "times",
        times,
        "two or more finite numbers in increasing order",
    )
    require(evaluations is None or evaluations >= 1, "evaluations", evaluations, "1 or more")
    initial = {name: np.asarray(value, dtype=np.float64) for name, value in start.items()}
    for name, value in initial.items():
        require(bool(np.isfinite(value).all()), f"the start of {name}", value, "finite numbers")
    ends = np.cumsum([value.size for value in initial.values()])
    is_small = method != "DOP853" or ends[-1] <= 64
    most = evaluations or (MAX_EVALUATIONS if is_small else MAX_EVALUATIONS_OF_MATRICES)

    def unpack(y: ndarray) -> dict[str, ndarray]:
        pieces = np.split(y, ends[:-1])
        return {name: piece.reshape(value.shape) for piece, (name, value) in zip(pieces, initial.items(), strict=True)}

    last, repeats, overflows, used = float(times[0]), 0, 0, 0
    task = f"the integration of {', '.join(initial)} from t = {times[0]:g} to {times[-1]:g}"

    def failure(reason: str) -> UserError:
        return UserError(
            f"{task} failed near t = {last:.6g}: {reason} A state may grow without bound there. "
            "Choose a shorter time, a smaller start, or other parameters."
        )

    def rates(t: float, y: ndarray) -> ndarray:
        nonlocal last, repeats, overflows, used
        if used == most:
            raise UserError(
                f"{task} was stopped at t = {last:.6g}: it has evaluated the rates {used:,} times, the maximum "
                f"(method {method}, rtol {rtol:g}, atol {atol:g}). The fastest rate is too large for this time. "
                "Choose a shorter time or slower rates; in Python also a larger rtol, "
                "method='LSODA' for a stiff system, or more evaluations."
            )
        used += 1
        repeats = repeats + 1 if t == last else 0
        last = t
        rate = field(t, unpack(y))
        flat = np.concatenate([_flat_rate(rate, name, value.shape) for name, value in initial.items()])
        # scipy rejects a trial step that overflows, but would retry endlessly after an overflow at the start
        overflows += not np.isfinite(flat).all()
        if overflows > 1000 or (overflows and t == times[0]):
            raise failure("The rates are not finite.")
        # LSODA does not stop at steps of length zero; its Jacobian takes one evaluation per state at the same time
        if repeats > 10_000 + 10 * len(y):
            raise failure("The step size fell to zero.")
        return flat

    # imported late: `simulate NAME --help` must not wait for scipy
    from scipy.integrate import solve_ivp  # pyright: ignore[reportMissingTypeStubs, reportUnknownVariableType]

    y0 = np.concatenate([value.ravel() for value in initial.values()])
    with np.errstate(over="ignore", invalid="ignore"):  # a state that overflows is reported below
        span = (times[0], times[-1])
        solution = cast(Any, solve_ivp(rates, span, y0, t_eval=times, method=method, rtol=rtol, atol=atol))
    if not solution.success:
        raise failure(solution.message)
    if not np.isfinite(solution.y).all():
        raise failure("The states are not finite.")
    states = {name: np.empty((len(times), *value.shape)) for name, value in initial.items()}
    for index, y in enumerate(solution.y.T):
        for name, value in unpack(y).items():
            states[name][index] = value
    return Simulation(times, states)


def _flat_rate(rate: Mapping[str, ndarray], name: str, shape: tuple[int, ...]) -> ndarray:
    """The rate of one state, flattened. Raises ValueError for a wrong shape, which numpy would broadcast."""
    value = np.asarray(rate[name], dtype=np.float64)
    if value.shape != shape:
        raise ValueError(f"the field's rate of {name} has shape {value.shape}; its state has {shape}.")
    return value.ravel()


def check_number(name: str, value: float, low: float, high: float = math.inf, *, strict: bool = False) -> None:
    """Raise UserError unless `value` is a finite number in [low, high], or in (low, high] if `strict`."""
    above = value > low if strict else value >= low
    allowed = f"above {low:g}" if strict else f"{low:g} or more"
    if math.isfinite(high):
        allowed += f", up to {high:g}"
    require(bool(math.isfinite(value) and above and value <= high), name, value, allowed)


def check_size(name: str, value: int, low: int = 1, high: int = LARGEST_SIZE) -> None:
    """Raise UserError unless `value` is a whole number in [low, high]."""
    require(low <= value <= high, name, value, f"{low} to {high:,}")


def check_values(name: str, values: ndarray, low: float = 0.0) -> None:
    """Raise UserError if an entry of an array of eigenvalues or variances is not finite or is below `low`."""
    bad = values[~(np.isfinite(values) & (values >= low))]
    require(
        bad.size == 0, f"an entry of {name}", float(bad[0]) if bad.size else None, f"finite numbers, {low:g} or more"
    )


def check_nonnegative(**parameters: float) -> None:
    """Raise UserError unless each named parameter is a finite number, 0 or more."""
    for name, value in parameters.items():
        check_number(name, value, 0)


def check_finite(name: str, *arrays: ndarray) -> None:
    """Raise UserError with the number of entries that are not finite, if there are any."""
    bad = sum(int((~np.isfinite(array)).sum()) for array in arrays)
    require(bad == 0, f"the number of entries of {name} that are not finite", bad, "0")


def check_per_mode(first_name: str, first: ndarray, second_name: str, second: ndarray) -> None:
    """Raise UserError unless both arrays have shape (modes)."""
    ok = first.ndim == 1 and first.shape == second.shape
    shapes = (first.shape, second.shape)
    require(ok, f"the shapes of {first_name} and {second_name}", shapes, "one number per mode in both")


def check_square(name: str, matrix: ndarray, size: int | None = None) -> None:
    """Raise UserError unless `matrix` is a finite square matrix (of the given size)."""
    ok = matrix.ndim == 2 and matrix.shape[0] == matrix.shape[1] and size in (None, matrix.shape[0])
    require(ok, f"the shape of {name}", matrix.shape, "a square matrix" + (f" ({size}, {size})" if size else ""))
    require(bool(np.isfinite(matrix).all()), name, matrix, "finite entries")


def check_symmetric(name: str, matrix: ndarray, size: int | None = None) -> None:
    """Raise UserError unless `matrix` is square and equals its transpose up to 1e-10 of its largest entry."""
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
    """Raise UserError unless `matrix` is symmetric and has no negative eigenvalue (a negative variance)."""
    check_symmetric(name, matrix, size)
    smallest = float(np.linalg.eigvalsh(matrix)[0])
    require(
        smallest >= -1e-10 * max(float(np.abs(matrix).max()), 1e-300),
        f"the smallest eigenvalue of {name}",
        smallest,
        "0 or more: it is the variance of a direction",
    )
