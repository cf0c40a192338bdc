"""Linear BYOL mode by mode: fixed points, basin of collapse, and the way there. Numbers of theory/eigenvalues.py."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy import ndarray

from eigenview.errors import require
from eigenview.simulations.outcome import Curve, Number, Outcome, Panel, Theory, level, time_grid, time_to_reach
from eigenview.theory import eigenvalues
from eigenview.theory.simulation import Simulation


@dataclass(frozen=True, kw_only=True)
class Options:
    """A mode has p in the predictor, s in the embeddings' second moment F, and tau in the target over the encoder."""

    eta: float = 0.1
    """Weight decay of encoder and predictor."""
    sigma2: float = 0.25
    """Variance of the view noise; the inputs' second moment is 1."""
    alpha_p: float = 1.0
    """Learning rate of the predictor over the encoder's (pretrain: --optim.predictor-lr-factor)."""
    tau: float = 1.0
    """Weight of the target over the encoder's: 1 without a target network; held, or with --beta where it starts."""
    beta: float | None = None
    """Rate at which a target network catches up: (1 - target momentum) / learning rate, a quarter of that for a run,
    whose loss is 4 J. Default: tau is held."""
    p: tuple[float, ...] = (0.05, 0.1, 0.13, 0.3, 0.5)
    """The predictor's eigenvalues at the start, one per mode."""
    s: tuple[float, ...] | None = None
    """Eigenvalues of F at the start, one per mode. Default: p^2 / alpha_p, on which every start ends."""
    end: float = 60.0
    """Time to simulate; a step of gradient descent takes a time of its learning rate."""
    basin_p: float = 0.1
    """Where the basin's edge in s is sought: the least s from which a mode with this p does not collapse."""
    elasticities: bool = False
    """Also: the percent by which the basin's edge moves for one percent of each parameter (some seconds)."""


def simulate(o: Options) -> Outcome:
    """Curves of p, s (and tau), the field p'(p), fixed points, the basin's edge and times to settle."""
    require(len(o.p) > 0, "p", o.p, "one number or more")
    p = np.array(o.p)
    require(
        o.s is not None or o.alpha_p > 0,
        "alpha-p",
        o.alpha_p,
        "above 0",
        "Give --s for a predictor that does not learn.",
    )
    s = p**2 / o.alpha_p if o.s is None else np.array(o.s)
    times = time_grid(o.end)
    run = eigenvalues.simulate(
        p, s, times, tau=o.tau, alpha_p=o.alpha_p, eta=o.eta, sigma2=o.sigma2, beta=o.beta, rtol=1e-9
    )
    # a target that follows is at 1 when everything rests
    points = eigenvalues.fixed_points(tau=o.tau if o.beta is None else 1.0, eta=o.eta, sigma2=o.sigma2)
    numbers = _fixed_numbers(o, points) | _basin_numbers(o) | _mode_numbers(o, run, points)
    return Outcome(numbers, (_outlook(o, points), _survivors(run, points)), _panels(o, run, points))


def _fixed_numbers(o: Options, points: eigenvalues.FixedPoints) -> dict[str, Number]:
    numbers: dict[str, Number] = {"largest eta that does not collapse everything": points.eta_bound}
    if points.p_minus is not None and points.p_plus is not None:
        numbers["p_minus (unstable)"] = points.p_minus
        numbers["p_plus (stable)"] = points.p_plus
        if o.alpha_p > 0:
            numbers["s_plus of F"] = points.s_plus(o.alpha_p)
    return numbers


def _basin_numbers(o: Options) -> dict[str, Number]:
    """The edge of the basin needs weight decay, a moving predictor and a moving target."""
    if o.eta == 0 or o.alpha_p == 0 or o.beta == 0 or (o.tau == 0 and o.beta is None):
        return {}
    options = {"alpha_p": o.alpha_p, "tau": o.tau, "eta": o.eta, "sigma2": o.sigma2, "beta": o.beta}
    edge = eigenvalues.basin_edge(o.basin_p, **options)
    numbers: dict[str, Number] = {f"basin edge in s at p = {o.basin_p:g}": edge}
    if o.elasticities and 0 < edge < np.inf:
        moved = eigenvalues.basin_elasticities(o.basin_p, **options)
        names = {"sigma2": "1 + sigma2"}
        numbers |= {f"percent of it per percent of {names.get(name, name)}": value for name, value in moved.items()}
    return numbers


def _mode_numbers(o: Options, run: Simulation, points: eigenvalues.FixedPoints) -> dict[str, Number]:
    numbers: dict[str, Number] = {}
    for k, start in enumerate(o.p):
        p = run.states["p"][:, k]
        numbers[f"p at t = {o.end:g} from {start:g}"] = float(p[-1])
        if points.p_plus is not None:
            near = 0.99 if start <= points.p_plus else 1.01
            numbers[f"time to within 1 % of p_plus from {start:g}"] = time_to_reach(run.times, p, near * points.p_plus)
    if o.alpha_p > 0:
        residual = eigenvalues.invariance_residual(run, alpha_p=o.alpha_p, eta=o.eta)
        numbers["largest error in s - p^2 / alpha_p = c e^(-2 eta t)"] = residual
    return numbers


def _outlook(o: Options, points: eigenvalues.FixedPoints) -> str:
    """The one-dimensional law where it is exact: W_p tied to F from the start, and a target that is held."""
    if points.p_minus is None or (o.s is None and o.beta is None):
        return points.describe()
    return (
        f"Modes come to rest at p_plus = {points.p_plus:.10g} or at 0, beyond eta = {points.eta_bound:.10g} all at 0. "
        f"Off the curve s = p^2 / alpha_p, and with a target that lags, p_minus = {points.p_minus:.10g} is not where "
        "starts part: the basin's edge in s is."
    )


def _survivors(run: Simulation, points: eigenvalues.FixedPoints) -> str:
    """How many modes are beyond the point of no return at the end of the simulation."""
    p: ndarray = run.final["p"]
    threshold = points.p_minus or 0.0
    if points.is_collapse:
        return f"At t = {run.times[-1]:g} the largest eigenvalue of W_p is {p.max():.4g}."
    return (
        f"At t = {run.times[-1]:g}, {int((p > threshold).sum())} of {len(p)} modes are above p_minus = {threshold:.6g}."
    )


def _panels(o: Options, run: Simulation, points: eigenvalues.FixedPoints) -> tuple[Panel, ...]:
    rest = () if points.p_plus is None else (level("p_plus", o.end, points.p_plus),)
    edge = () if points.p_minus is None else (level("p_minus", o.end, points.p_minus),)
    p = np.linspace(0, max([*o.p, max(o.tau, 1.0) / (1 + o.sigma2)]), 201)
    tau = o.tau if o.beta is None else 1.0
    speed = eigenvalues.reduced_field(p, tau=tau, eta=o.eta, sigma2=o.sigma2)
    panels = [
        Panel(
            "Predictor",
            "Eigenvalues p of W_p: above p_minus a mode is learned, below it collapses.",
            "time",
            "p",
            (Curve("p of a mode", run.times, run.states["p"]), *rest, *edge),
        ),
        Panel(
            "Embedding",
            "Eigenvalues s of F, the variance that the embedding gives each mode.",
            "time",
            "s",
            (Curve("s of a mode", run.times, run.states["s"]),),
        ),
        Panel(
            "Speed of p",
            "p' for W_p tied to F: zeros are fixed points, stable where the curve falls through zero.",
            "p",
            "p'",
            (Curve("p'", p, speed), Curve("0", p[[0, -1]], np.zeros(2))),
        ),
    ]
    if "tau" in run.states:
        caption = "Weight of the target over the encoder's: below 1 it lags behind a growing mode."
        panels.append(Panel("Target", caption, "time", "tau", (Curve("tau of a mode", run.times, run.states["tau"]),)))
    return tuple(panels)


THEORY = Theory(eigenvalues.assumptions, Options, simulate)
