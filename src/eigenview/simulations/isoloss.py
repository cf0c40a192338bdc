"""Convergence times of every mode with a closed-form predictor, under BYOL's gradient and under IsoLoss."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy import ndarray

from eigenview.errors import require
from eigenview.simulations.result import Curve, Number, Panel, Result, Theory, time_grid
from eigenview.theory import isoloss
from eigenview.theory.simulation import Simulation, check_number

METHODS: tuple[tuple[isoloss.Method, str], ...] = (("byol", "BYOL"), ("isoloss", "IsoLoss"))


@dataclass(frozen=True, kw_only=True)
class Options:
    """Both methods start from the same eigenvalues of W_p = F^alpha."""

    metric: isoloss.Metric = "euclidean"
    """euclidean: modes are independent, and the equation is exact; cosine: modes are coupled and converge to a common
    value, in a mean-field approximation."""
    lam: tuple[float, ...] = (0.1, 0.3, 0.5)
    """Initial eigenvalues of W_p, one per mode."""
    alpha: float = 0.5
    """Exponent of the predictor F^alpha."""
    eta: float = 1.0
    """Learning rate, for the loss 1/2 |p - t|^2 or -cos(p, t)."""
    r: float = 1.0
    """Correlation of two views in every mode, to which all eigenvalues converge. Euclidean only."""
    share: float = 0.9
    """Fraction of the limit that counts as converged: times are measured until lam reaches share * r (euclidean), or
    stays within a relative 1 - share of its last value (cosine)."""
    at: float = 2.0
    """Time at which the table shows the eigenvalues."""
    end: float = 20.0
    """Time to simulate; one step of gradient descent at learning rate h takes a time of h."""


def simulate(o: Options) -> Result:
    """lam(t) of both methods, convergence time of each mode, and the final participation ratio of F."""
    require(0 < o.share < 1, "share", o.share, "above 0 and below 1")
    check_number("at", o.at, 0, o.end)
    lam, times = np.array(o.lam), time_grid(o.end)
    numbers: dict[str, Number] = {}
    curves: list[Curve] = []
    converged: dict[str, ndarray] = {}
    for method, name in METHODS:
        # integrate to o.at itself instead of interpolating between points of the curve
        grid = np.union1d(times, [o.at])
        run = isoloss.simulate(lam, grid, metric=o.metric, method=method, alpha=o.alpha, eta=o.eta, r=o.r)
        found = run.states["lam"]
        converged[name] = _convergence_times(o, method, run)
        curves.append(Curve(name, grid, found))
        if o.metric == "cosine":
            rates = isoloss.vector_field(lam, metric=o.metric, method=method, alpha=o.alpha, eta=o.eta)
            numbers |= {f"{name}: lam' at the start from {x:g}": float(v) for x, v in zip(o.lam, rates, strict=True)}
        at = found[np.searchsorted(grid, o.at)]
        numbers |= {f"{name}: lam at t = {o.at:g} from {x:g}": float(v) for x, v in zip(o.lam, at, strict=True)}
        goal = f"to {o.share:g} r" if o.metric == "euclidean" else "to converge"
        numbers |= {f"{name}: time {goal} from {x:g}": float(t) for x, t in zip(o.lam, converged[name], strict=True)}
        numbers[f"{name}: participation ratio of F at t = {o.end:g}"] = _participation(found[-1], o.alpha)
    panel = Panel(
        "Eigenvalues of the predictor",
        "Under BYOL a mode of small eigenvalue grows slowly at first; under IsoLoss it grows exponentially at once.",
        "time",
        "lam",
        tuple(curves),
    )
    return Result(numbers, (_compare(o, converged),), (panel, *_waiting_panel(o)))


def _convergence_times(o: Options, method: isoloss.Method, run: Simulation) -> ndarray:
    """Convergence time of each mode, by the closed form if there is one; 0 if a mode starts beyond share * r."""
    if o.metric == "cosine":
        return isoloss.settling_times(run, 1 - o.share)
    goal = o.share * o.r
    times = np.zeros(len(o.lam))
    for k, start in enumerate(o.lam):
        if start == 0:
            times[k] = np.inf
        elif start < goal:
            times[k] = isoloss.euclidean_time(start, goal, method=method, alpha=o.alpha, eta=o.eta, r=o.r)
    return times


def _participation(lam: ndarray, alpha: float) -> float:
    """(sum s)^2 / sum s^2 of the eigenvalues s = lam^(1/alpha) of F: between 1 and D (all equal); 0 if all are 0."""
    s = lam ** (1 / alpha)
    return float(s.sum() ** 2 / (s**2).sum()) if s.any() else 0.0


def _compare(o: Options, converged: dict[str, ndarray]) -> str:
    k = int(np.argmin(o.lam))
    slow, fast = converged["BYOL"][k], converged["IsoLoss"][k]
    if fast == 0:
        return "Every mode has converged at the start."
    if not np.isfinite(slow):
        return "A mode that starts at 0 stays at 0 under both methods: the gradient along it is 0."
    verb = f"reaches {o.share * o.r:g}" if o.metric == "euclidean" else "converges"
    return (
        f"The weakest mode, from {o.lam[k]:g}, {verb} after {slow:.4g} under BYOL's gradient and {fast:.4g} under "
        f"IsoLoss: a factor of {slow / fast:.3g}."
    )


def _waiting_panel(o: Options) -> tuple[Panel, ...]:
    """Convergence time as a function of the initial eigenvalue; for the Euclidean metric, which has a closed form."""
    if o.metric == "cosine":
        return ()
    goal = o.share * o.r
    starts = np.geomspace(1e-4 * goal, 0.99 * goal, 200)
    curves = [
        Curve(name, starts, isoloss.euclidean_time(starts, goal, method=method, alpha=o.alpha, eta=o.eta, r=o.r))
        for method, name in METHODS
    ]
    caption = "Convergence time by the closed form: for small initial lam about 1 / lam (BYOL), log(1 / lam) (IsoLoss)."
    return (Panel("Waiting time", caption, "lam at the start", "time", tuple(curves), is_log=True, is_log_x=True),)


THEORY = Theory(isoloss.assumptions, Options, simulate)
