"""DirectSet(alpha): singular values of a linear encoder on invariant and on nuisance directions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from eigenview.simulations.result import Curve, Number, Panel, Result, Theory, time_grid, time_to_within_1_percent
from eigenview.theory import directset


@dataclass(frozen=True, kw_only=True)
class Options:
    """Inputs have second moment I. View noise has variance sigma2 in nuisance directions and 0 in invariant ones."""

    alpha: float = 0.5
    """Exponent of the predictor F^alpha: 1/2 is DirectPred, 1 is DirectCopy."""
    eta: float = 0.2
    """Weight decay."""
    sigma2: float = 1.0
    """Variance of the view noise in nuisance directions."""
    start: float = 0.9
    """Initial singular value of the encoder, in both subspaces."""
    end: float = 60.0
    """Time to simulate; one step of gradient descent at learning rate h takes a time of h."""


def simulate(o: Options) -> Result:
    """Both singular values in time; their limits as functions of weight decay; their ratio as a function of alpha."""
    points = directset.fixed_points(alpha=o.alpha, eta=o.eta, sigma2=o.sigma2)
    run = directset.simulate_modes(
        np.full(2, o.start), time_grid(o.end), alpha=o.alpha, eta=o.eta, sigma2=np.array([0.0, o.sigma2])
    )
    w = run.states["w"]
    numbers: dict[str, Number] = {
        "eta above which nuisance directions vanish": points.threshold,
        "singular value at rest, invariant": points.invariant,
        "singular value at rest, nuisance": points.nuisance,
        "start below which it collapses, invariant": points.invariant_edge,
        "start below which it vanishes, nuisance": points.nuisance_edge,
    }
    if points.invariant > 0:
        numbers["signal to noise, ratio of squares"] = points.signal_to_noise
        numbers["time to within 1 % of rest, invariant"] = time_to_within_1_percent(
            run.times, w[:, 0], points.invariant
        )
    numbers[f"simulated at t = {o.end:g}, invariant"] = float(w[-1, 0])
    numbers[f"simulated at t = {o.end:g}, nuisance"] = float(w[-1, 1])
    statements = [points.describe()]
    if points.invariant > 0 and o.start < points.invariant_edge:
        statements.append(
            f"The initial value {o.start:g} is below {points.invariant_edge:.10g}: invariant directions collapse too."
        )
    return Result(numbers, tuple(statements), _panels(o, run.times, w))


def _panels(o: Options, times: np.ndarray, w: np.ndarray) -> tuple[Panel, ...]:
    etas = np.linspace(0, 0.3, 301)
    rest = [directset.fixed_points(alpha=o.alpha, eta=float(eta), sigma2=o.sigma2) for eta in etas]
    panels = [
        Panel(
            "Singular values of the encoder",
            "Invariant directions are kept; nuisance directions vanish if weight decay is above the threshold.",
            "time",
            "singular value of W",
            (Curve("invariant", times, w[:, 0]), Curve("nuisance", times, w[:, 1])),
        ),
        Panel(
            "At rest, against weight decay",
            "Between the two thresholds the encoder keeps invariant directions only.",
            "eta",
            "singular value of W",
            (
                Curve("invariant", etas, np.array([point.invariant for point in rest])),
                Curve("nuisance", etas, np.array([point.nuisance for point in rest])),
            ),
        ),
    ]
    alphas = np.linspace(0.1, 2, 96)
    ratios = [directset.fixed_points(alpha=float(a), eta=o.eta, sigma2=o.sigma2) for a in alphas]
    if ratios[0].nuisance > 0:
        noise = np.array([point.signal_to_noise for point in ratios])
        caption = "(invariant / nuisance)^2 at rest: the smaller alpha, the more the invariant directions dominate."
        panels.append(
            Panel(
                "Signal to noise, against alpha",
                caption,
                "alpha",
                "ratio",
                (Curve("ratio", alphas, noise),),
                is_log=True,
            )
        )
    return tuple(panels)


THEORY = Theory(directset.assumptions, Options, simulate)
