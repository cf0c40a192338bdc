"""Linear BYOL, one eigenvalue at a time: fixed points, basin of collapse, convergence times (theory/eigenvalues.py)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy import ndarray

from eigenview.errors import require
from eigenview.simulations.result import (
    Curve,
    Number,
    Panel,
    Result,
    Theory,
    horizontal_line,
    time_grid,
    time_to_within_1_percent,
)
from eigenview.theory import basin, eigenvalues
from eigenview.theory.simulation import Simulation


@dataclass(frozen=True, kw_only=True)
class Options:
    """Each mode has an eigenvalue p of the predictor W_p, an eigenvalue s of the embeddings' second moment F, and the
    weight tau of the target network relative to the encoder's."""

    eta: float = 0.1
    """Weight decay of encoder and predictor."""
    sigma2: float = 0.25
    """Variance of the view noise; the inputs' second moment is 1."""
    alpha_p: float = 1.0
    """Ratio of the predictor's learning rate to the encoder's (pretrain: --optim.predictor-lr-factor)."""
    tau: float = 1.0
    """Weight of the target relative to the encoder's: 1 without a target network. Constant, or the initial value if
    --beta is given."""
    beta: float | None = None
    """Rate at which a target network follows the encoder: (1 - target momentum) / learning rate; for a run of pretrain
    a quarter of that, because its loss is 4 times the theory's. Default: tau is constant."""
    p: tuple[float, ...] = (0.05, 0.1, 0.13, 0.3, 0.5)
    """Initial eigenvalues of the predictor, one per mode."""
    s: tuple[float, ...] | None = None
    """Initial eigenvalues of F, one per mode. Default: p^2 / alpha_p, the curve to which all modes converge."""
    end: float = 60.0
    """Time to simulate; one step of gradient descent at learning rate h takes a time of h."""
    basin_p: float = 0.1
    """Initial p of the mode whose basin edge is computed: the smallest initial s from which it does not collapse."""
    elasticities: bool = False
    """Also compute by how many percent the basin edge moves if a parameter is raised by one percent (some seconds)."""


def simulate(o: Options) -> Result:
    """Curves of p, s (and tau), the rate p'(p), fixed points, the basin edge and convergence times."""
    require(len(o.p) > 0, "p", o.p, "one number or more")
    p = np.array(o.p)
    require(
        o.s is not None or o.alpha_p > 0,
        "alpha-p",
        o.alpha_p,
        "above 0",
        "Give --s if the predictor does not learn.",
    )
    s = p**2 / o.alpha_p if o.s is None else np.array(o.s)
    times = time_grid(o.end)
    run = eigenvalues.simulate(
        p, s, times, tau=o.tau, alpha_p=o.alpha_p, eta=o.eta, sigma2=o.sigma2, beta=o.beta, rtol=1e-9
    )
    # at a fixed point a target network equals the encoder
    points = eigenvalues.fixed_points(tau=o.tau if o.beta is None else 1.0, eta=o.eta, sigma2=o.sigma2)
    numbers = _fixed_numbers(o, points) | _basin_numbers(o) | _mode_numbers(o, run, points)
    return Result(numbers, (_describe_fixed_points(o, points), _count_survivors(run, points)), _panels(o, run, points))


def _fixed_numbers(o: Options, points: eigenvalues.FixedPoints) -> dict[str, Number]:
    numbers: dict[str, Number] = {"largest eta that does not collapse everything": points.eta_bound}
    if points.p_minus is not None and points.p_plus is not None:
        numbers["p_minus (unstable)"] = points.p_minus
        numbers["p_plus (stable)"] = points.p_plus
        if o.alpha_p > 0:
            numbers["s_plus of F"] = points.s_plus(o.alpha_p)
    return numbers


def _basin_numbers(o: Options) -> dict[str, Number]:
    """The basin edge; there is none without weight decay or if predictor or target do not move."""
    if o.eta == 0 or o.alpha_p == 0 or o.beta == 0 or (o.tau == 0 and o.beta is None):
        return {}
    options = {"alpha_p": o.alpha_p, "tau": o.tau, "eta": o.eta, "sigma2": o.sigma2, "beta": o.beta}
    edge = basin.basin_edge(o.basin_p, **options)
    numbers: dict[str, Number] = {f"basin edge in s at p = {o.basin_p:g}": edge}
    if o.elasticities and 0 < edge < np.inf:
        elasticities = basin.basin_elasticities(o.basin_p, **options)
        names = {"sigma2": "1 + sigma2"}
        numbers |= {f"percent of it per percent of {names.get(name, name)}": v for name, v in elasticities.items()}
    return numbers


def _mode_numbers(o: Options, run: Simulation, points: eigenvalues.FixedPoints) -> dict[str, Number]:
    numbers: dict[str, Number] = {}
    for k, start in enumerate(o.p):
        p = run.states["p"][:, k]
        numbers[f"p at t = {o.end:g} from {start:g}"] = float(p[-1])
        if points.p_plus is not None:
            time = time_to_within_1_percent(run.times, p, points.p_plus)
            numbers[f"time to within 1 % of p_plus from {start:g}"] = time
    if o.alpha_p > 0:
        residual = eigenvalues.invariance_residual(run, alpha_p=o.alpha_p, eta=o.eta)
        numbers["largest error in s - p^2 / alpha_p = c e^(-2 eta t)"] = residual
    return numbers


def _describe_fixed_points(o: Options, points: eigenvalues.FixedPoints) -> str:
    """The one-dimensional equation is exact only for s = p^2 / alpha_p initially and constant tau; say so otherwise."""
    if points.p_minus is None or (o.s is None and o.beta is None):
        return points.describe()
    return (
        f"Modes converge to p_plus = {points.p_plus:.10g} or to 0; above eta = {points.eta_bound:.10g} all go to 0. "
        "With a target network, or an initial s other than p^2 / alpha_p, modes that collapse are not separated from "
        f"the others by p_minus = {points.p_minus:.10g}, but by the basin edge in s."
    )


def _count_survivors(run: Simulation, points: eigenvalues.FixedPoints) -> str:
    """How many modes are above the unstable fixed point at the end of the simulation."""
    p: ndarray = run.final["p"]
    threshold = points.p_minus or 0.0
    if points.is_collapse:
        return f"At t = {run.times[-1]:g} the largest eigenvalue of W_p is {p.max():.4g}."
    return (
        f"At t = {run.times[-1]:g}, {int((p > threshold).sum())} of {len(p)} modes are above p_minus = {threshold:.6g}."
    )


def _panels(o: Options, run: Simulation, points: eigenvalues.FixedPoints) -> tuple[Panel, ...]:
    stable = () if points.p_plus is None else (horizontal_line("p_plus", o.end, points.p_plus),)
    unstable = () if points.p_minus is None else (horizontal_line("p_minus", o.end, points.p_minus),)
    p = np.linspace(0, max([*o.p, max(o.tau, 1.0) / (1 + o.sigma2)]), 201)
    tau = o.tau if o.beta is None else 1.0
    speed = eigenvalues.reduced_field(p, tau=tau, eta=o.eta, sigma2=o.sigma2)
    panels = [
        Panel(
            "Predictor",
            "Eigenvalues p of W_p. A mode above p_minus is learned; a mode below it collapses.",
            "time",
            "p",
            (Curve("p of a mode", run.times, run.states["p"]), *stable, *unstable),
        ),
        Panel(
            "Embedding",
            "Eigenvalues s of F: the variance of the embedding along each mode.",
            "time",
            "s",
            (Curve("s of a mode", run.times, run.states["s"]),),
        ),
        Panel(
            "Speed of p",
            "p' as a function of p for s = p^2 / alpha_p. Zeros are fixed points, stable if p' is falling there.",
            "p",
            "p'",
            (Curve("p'", p, speed), Curve("0", p[[0, -1]], np.zeros(2))),
        ),
    ]
    if "tau" in run.states:
        caption = "Weight of the target network relative to the encoder's: below 1 if it lags behind a growing mode."
        panels.append(Panel("Target", caption, "time", "tau", (Curve("tau of a mode", run.times, run.states["tau"]),)))
    return tuple(panels)


THEORY = Theory(eigenvalues.assumptions, Options, simulate)
