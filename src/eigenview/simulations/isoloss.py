"""A closed-form predictor under BYOL's gradient and under IsoLoss: how long each mode takes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy import ndarray

from eigenview.errors import require
from eigenview.simulations.outcome import Curve, Number, Outcome, Panel, Theory, time_grid
from eigenview.theory import isoloss
from eigenview.theory.simulation import Simulation, check_number

NAMES: tuple[tuple[isoloss.Method, str], ...] = (("byol", "BYOL"), ("isoloss", "IsoLoss"))


@dataclass(frozen=True, kw_only=True)
class Options:
    """Both methods start from the same eigenvalues of W_p = F^alpha."""

    metric: isoloss.Metric = "euclidean"
    """euclidean: modes evolve alone, exact; cosine: modes draw each other to one value, a mean field."""
    lam: tuple[float, ...] = (0.1, 0.3, 0.5)
    """Eigenvalues of W_p at the start, one per mode."""
    alpha: float = 0.5
    """Power of F that is the predictor."""
    eta: float = 1.0
    """Learning rate, for the loss 1/2 |p - t|^2 or -cos(p, t)."""
    r: float = 1.0
    """Correlation of two views in every mode; modes end at it. Euclidean only."""
    share: float = 0.9
    """Times are to this share of r (euclidean), or until within 1 - share of the last value (cosine)."""
    at: float = 2.0
    """The table has the eigenvalues at this time."""
    end: float = 20.0
    """Time to simulate; a step of gradient descent takes a time of its learning rate."""


def simulate(o: Options) -> Outcome:
    """lam(t) of both methods, times to converge per mode, and how isotropic the embedding ends."""
    require(0 < o.share < 1, "share", o.share, "above 0 and below 1")
    check_number("at", o.at, 0, o.end)
    lam, times = np.array(o.lam), time_grid(o.end)
    numbers: dict[str, Number] = {}
    curves: list[Curve] = []
    waits: dict[str, ndarray] = {}
    for method, name in NAMES:
        # the time of the table is one of the integrator's, not a reading off the curve
        grid = np.union1d(times, [o.at])
        run = isoloss.simulate(lam, grid, metric=o.metric, method=method, alpha=o.alpha, eta=o.eta, r=o.r)
        found = run.states["lam"]
        waits[name] = _waits(o, method, run)
        curves.append(Curve(name, grid, found))
        if o.metric == "cosine":
            rates = isoloss.vector_field(lam, metric=o.metric, method=method, alpha=o.alpha, eta=o.eta)
            numbers |= {f"{name}: lam' at the start from {x:g}": float(v) for x, v in zip(o.lam, rates, strict=True)}
        at = found[np.searchsorted(grid, o.at)]
        numbers |= {f"{name}: lam at t = {o.at:g} from {x:g}": float(v) for x, v in zip(o.lam, at, strict=True)}
        goal = f"to {o.share:g} r" if o.metric == "euclidean" else "to settle"
        numbers |= {f"{name}: time {goal} from {x:g}": float(t) for x, t in zip(o.lam, waits[name], strict=True)}
        numbers[f"{name}: participation ratio of F at t = {o.end:g}"] = _participation(found[-1], o.alpha)
    panel = Panel(
        "Eigenvalues of the predictor",
        "The smaller a mode, the longer BYOL's gradient leaves it; IsoLoss starts all of them at once.",
        "time",
        "lam",
        tuple(curves),
    )
    return Outcome(numbers, (_compare(o, waits),), (panel, *_waiting_panel(o)))


def _waits(o: Options, method: isoloss.Method, run: Simulation) -> ndarray:
    """Time of each mode; from the closed form where there is one. 0 for a mode that starts beyond the goal."""
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
    """(sum s)^2 / sum s^2 of the eigenvalues s = lam^(1/alpha) of F: their number where all are equal."""
    s = lam ** (1 / alpha)
    return float(s.sum() ** 2 / (s**2).sum()) if s.any() else 0.0


def _compare(o: Options, waits: dict[str, ndarray]) -> str:
    k = int(np.argmin(o.lam))
    slow, fast = waits["BYOL"][k], waits["IsoLoss"][k]
    if fast == 0:
        return "Every mode starts where it is to arrive."
    if not np.isfinite(slow):
        return "A mode that starts at 0 stays there under both: nothing moves an embedding that does not vary."
    verb = f"reaches {o.share * o.r:g}" if o.metric == "euclidean" else "settles"
    return (
        f"The weakest mode, from {o.lam[k]:g}, {verb} after {slow:.4g} under BYOL's gradient and {fast:.4g} under "
        f"IsoLoss: a factor of {slow / fast:.3g}."
    )


def _waiting_panel(o: Options) -> tuple[Panel, ...]:
    """Time to converge against the start; Euclidean, where it has a closed form."""
    if o.metric == "cosine":
        return ()
    goal = o.share * o.r
    starts = np.geomspace(1e-4 * goal, 0.99 * goal, 200)
    curves = [
        Curve(name, starts, isoloss.euclidean_time(starts, goal, method=method, alpha=o.alpha, eta=o.eta, r=o.r))
        for method, name in NAMES
    ]
    caption = "The closed forms: about 1 / lam for BYOL and log(1 / lam) for IsoLoss, from a small lam."
    return (Panel("Waiting time", caption, "lam at the start", "time", tuple(curves), is_log=True, is_log_x=True),)


THEORY = Theory(isoloss.assumptions, Options, simulate)
