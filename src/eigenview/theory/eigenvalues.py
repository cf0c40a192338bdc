"""Linear BYOL mode by mode: eigenvalues p of W_p and s of F that share eigenvectors.

Each mode is a system of its own: p of the predictor, s of the embeddings' second moment, tau of the target (W_a =
tau W in that mode). With W_p tied to F (s = p^2 / alpha_p, where every start ends) one equation is left for p.

Reference: Tian, Chen, Ganguli 2021, arXiv 2102.06810, section 3.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from eigenview.errors import UserError, require
from eigenview.theory.simulation import Simulation, check_number, check_values, integrate

assumptions = (
    "Linear BYOL with inputs of unit second moment (X = I), view noise of the same variance sigma2 in every direction, "
    "and W_p and F that share their eigenvectors, so that each mode evolves alone. "
    "Fails before the eigenvectors have aligned (theory/symmetrised.py says when they do), for inputs with a spectrum, "
    "and for normalised embeddings, which couple the modes."
)


def vector_field(
    p: Float[ndarray, " modes"],
    s: Float[ndarray, " modes"],
    tau: Float[ndarray, " modes"] | float,
    *,
    alpha_p: float,
    eta: float,
    sigma2: float,
    beta: float = 0.0,
) -> dict[str, ndarray]:
    """Rates of p, s and tau of every mode.

    Definition
        p'     = alpha_p s [tau - (1 + sigma2) p] - eta p,
        s'     = 2 p s [tau - (1 + sigma2) p] - 2 eta s,
        s tau' = beta (1 - tau) s - tau s' / 2, here divided by s, which s' contains.

    Ranges
        alpha_p: learning rate of the predictor over the encoder's; eta: weight decay; sigma2: variance of the view
        noise; beta: rate at which the target catches up (the opposite of BYOL's retention tau). This tau is
        another: the target's weight over the encoder's, below 1 while a mode grows, above 1 while it shrinks.
    """
    drive = tau - (1 + sigma2) * p
    growth = p * drive - eta  # of the encoder's weights, w'/w; s is their square
    return {"p": alpha_p * s * drive - eta * p, "s": 2 * s * growth, "tau": beta * (1 - tau) - tau * growth}


def simulate(
    p: Float[ndarray, " modes"],
    s: Float[ndarray, " modes"],
    times: Float[ndarray, " T"],
    *,
    tau: float = 1.0,
    alpha_p: float = 1.0,
    eta: float = 0.0,
    sigma2: float = 0.0,
    beta: float | None = None,
    rtol: float = 1e-10,
) -> Simulation:
    """Integrate `vector_field` for all modes together.

    Definition
        beta None: tau stays what it is (1: no target network). A number: tau is a state of every mode and starts at
        `tau`. A mode that collapses with beta < eta has a tau that grows as e^((eta - beta) t): its weights vanish
        faster than the target follows.

    Shapes
        States p (T modes), s (T modes) and, with a target network, tau (T modes).

    Raises
        UserError for p and s of different shapes, a negative s, tau, alpha_p, eta, sigma2 or beta below zero,
        and a failed integration.
    """
    _check_parameters(alpha_p=alpha_p, tau=tau, eta=eta, sigma2=sigma2, beta=beta)
    require(
        p.ndim == 1 and p.shape == s.shape, "the shapes of p and s", (p.shape, s.shape), "one number per mode in both"
    )
    check_values("s", s)
    start = {"p": p, "s": s} if beta is None else {"p": p, "s": s, "tau": np.full(len(p), tau)}

    def field(_: float, y: Mapping[str, ndarray]) -> dict[str, ndarray]:
        rates = vector_field(
            y["p"], y["s"], y.get("tau", tau), alpha_p=alpha_p, eta=eta, sigma2=sigma2, beta=beta or 0.0
        )
        return {name: rates[name] for name in y}

    return integrate(field, start, times, rtol=rtol, atol=rtol / 100)


def invariant(p: ndarray, s: ndarray, *, alpha_p: float) -> ndarray:
    """c = s - p^2 / alpha_p, of which c(t) = e^(-2 eta t) c(0), for any tau(t): weight decay ties W_p to F."""
    check_number("alpha_p", alpha_p, 0, strict=True)
    return s - p**2 / alpha_p


def invariance_residual(simulation: Simulation, *, alpha_p: float, eta: float) -> float:
    """Largest |c(t) - e^(-2 eta (t - t0)) c(t0)| over times and modes: the integration's error in the invariant."""
    c = invariant(simulation.states["p"], simulation.states["s"], alpha_p=alpha_p)
    decay = np.exp(-2 * eta * (simulation.times - simulation.times[0]))
    return float(np.abs(c - decay[:, None] * c[0]).max())


def reduced_field(p: ndarray, *, tau: float, eta: float, sigma2: float) -> ndarray:
    """p' = p^2 [tau - (1 + sigma2) p] - eta p: `vector_field` on s = p^2 / alpha_p, whatever alpha_p."""
    return p**2 * (tau - (1 + sigma2) * p) - eta * p


def reduced_slope(p: ndarray, *, tau: float, eta: float, sigma2: float) -> ndarray:
    """d p' / d p of `reduced_field`: below zero at a stable fixed point, above zero at an unstable one."""
    return 2 * tau * p - 3 * (1 + sigma2) * p**2 - eta


def simulate_reduced(
    p: Float[ndarray, " starts"],
    times: Float[ndarray, " T"],
    *,
    tau: float = 1.0,
    eta: float = 0.0,
    sigma2: float = 0.0,
) -> Simulation:
    """Integrate `reduced_field` from any number of starts p: state p (T starts). Raises as `simulate`."""
    _check_parameters(tau=tau, eta=eta, sigma2=sigma2)
    return integrate(lambda _, y: {"p": reduced_field(y["p"], tau=tau, eta=eta, sigma2=sigma2)}, {"p": p}, times)


@dataclass(frozen=True)
class FixedPoints:
    """Where an eigenvalue of W_p comes to rest, next to p = 0. Made by `fixed_points`."""

    tau: float
    eta: float
    sigma2: float
    eta_bound: float
    """The largest weight decay that leaves a fixed point other than 0: tau^2 / (4 (1 + sigma2)), the saddle-node."""
    p_minus: float | None
    """Unstable: starts below it go to 0, starts above it to p_plus. None beyond the bound."""
    p_plus: float | None
    """Stable. None beyond the bound."""

    @property
    def is_collapse(self) -> bool:
        """Whether every start collapses."""
        return self.p_plus is None

    def s_plus(self, alpha_p: float) -> float:
        """Eigenvalue of F at rest: p_plus^2 / alpha_p, or 0 where everything collapses."""
        check_number("alpha_p", alpha_p, 0, strict=True)
        return 0.0 if self.p_plus is None else self.p_plus**2 / alpha_p

    def describe(self) -> str:
        """What happens to p, in one sentence."""
        if self.p_minus is None or self.p_plus is None:
            return (
                f"Everything collapses: weight decay eta = {self.eta:g} is beyond tau^2 / (4 (1 + sigma2)) = "
                f"{self.eta_bound:.10g}, so that every eigenvalue goes to 0 from every start."
            )
        if self.eta == 0:
            return f"Without weight decay 0 is unstable: every start p > 0 goes to {self.p_plus:.10g}."
        if self.p_minus == self.p_plus:
            return (
                f"At the bound eta = {self.eta_bound:.10g} the two fixed points are one, p = {self.p_plus:.10g}: "
                "starts above it approach it slowly, starts below it collapse, and more weight decay collapses all."
            )
        return (
            f"Starts above p_minus = {self.p_minus:.10g} go to p_plus = {self.p_plus:.10g}, starts below it collapse; "
            f"beyond eta = {self.eta_bound:.10g} everything would."
        )


def fixed_points(*, tau: float = 1.0, eta: float, sigma2: float) -> FixedPoints:
    """The zeros of `reduced_field` other than 0.

    Definition
        p_plus, p_minus = [tau +- sqrt(tau^2 - 4 eta (1 + sigma2))] / (2 (1 + sigma2)); they exist for
        eta <= tau^2 / (4 (1 + sigma2)). For small eta p_minus is about eta / tau. Beyond the bound the record says
        that everything collapses.

    Raises
        UserError for negative tau, eta or sigma2.
    """
    _check_parameters(tau=tau, eta=eta, sigma2=sigma2)
    a = 1 + sigma2
    bound = tau**2 / (4 * a)
    square = tau**2 - 4 * eta * a
    if square < 0 or tau == 0:
        return FixedPoints(tau, eta, sigma2, bound, None, None)
    upper = tau + float(np.sqrt(square))
    # the product of the roots is eta / (1 + sigma2): no cancellation for small eta
    return FixedPoints(tau, eta, sigma2, bound, 2 * eta / upper, upper / (2 * a))


def reduced_time(start: float, end: float, *, tau: float = 1.0, eta: float, sigma2: float) -> float:
    """Time that `reduced_field` takes from `start` to `end`, by partial fractions of 1 / p'.

    Raises
        UserError where eta is 0 or not below the saddle-node, or where the flow never leads from `start` to `end`.
    """
    points = fixed_points(tau=tau, eta=eta, sigma2=sigma2)
    check_number("start", start, 0, strict=True)
    check_number("end", end, 0, strict=True)
    low, high = points.p_minus, points.p_plus
    if low is None or high is None or low == high or eta == 0:
        raise UserError(f"eta is {eta:g}; allowed: above 0 and below the saddle-node at {points.eta_bound:g}.")

    def antiderivative(p: float) -> float:
        terms = np.log(p) / (low * high), np.log(abs(p - low)) / (low * (low - high))
        return -float(sum(terms) + np.log(abs(p - high)) / (high * (high - low))) / (1 + sigma2)

    same_side = (start - low) * (end - low) > 0 and (start - high) * (end - high) > 0
    time = antiderivative(end) - antiderivative(start) if same_side else -1.0
    allowed = f"a value that the flow reaches from {start:g}: it moves away from {low:g} and towards 0 or {high:g}"
    require(time >= 0, "end", end, allowed)
    return time


def basin_edge(
    p: float,
    *,
    alpha_p: float = 1.0,
    tau: float = 1.0,
    eta: float,
    sigma2: float,
    beta: float | None = None,
) -> float:
    """Smallest eigenvalue s of F from which a mode that starts with the predictor's eigenvalue p does not collapse.

    Definition
        The edge in s of the basin of p = s = 0 in `vector_field`, at the given p: starts below it collapse. Found by
        simulating many s at once, first on a grid from 1e-12 to 1e4, then five times finer between the neighbours, to
        a relative 1e-6. At p = p_minus with tau constant it is s = p_minus^2 / alpha_p exactly. With beta the target
        starts at tau times the encoder and follows it.

    Ranges
        0 where even 1e-12 does not collapse; infinity where everything up to 1e4 does, as beyond the saddle-node.

    Raises
        UserError for eta not above 0 (without weight decay every s > 0 survives, for p < tau / (1 + sigma2)), alpha_p
        not above 0, and the other parameters as `simulate`.
    """
    _check_parameters(alpha_p=alpha_p, tau=tau, eta=eta, sigma2=sigma2, beta=beta)
    check_number("eta", eta, 0, strict=True)
    check_number("alpha_p", alpha_p, 0, strict=True)
    check_number("p", p, 0)
    if beta is not None:
        check_number("beta", beta, 0, strict=True)
    threshold = fixed_points(tau=tau if beta is None else 1.0, eta=eta, sigma2=sigma2).p_minus
    if threshold is None:
        return float("inf")
    # what p^2 / alpha_p and s differ by dies as e^(-2 eta t), and tau settles at the rate beta; then the side decides
    end = 20 / min(eta, eta if beta is None else beta)

    def survives(s: ndarray) -> ndarray:
        """Whether each start s ends above p_minus. In w = sqrt(s) and a = tau w, in which nothing is divided by s."""

        def field(_: float, y: Mapping[str, ndarray]) -> dict[str, ndarray]:
            w, p = y["w"], y["p"]
            a = y.get("a", tau * w)
            residual = a - (1 + sigma2) * p * w
            rates = {"p": alpha_p * residual * w - eta * p, "w": p * residual - eta * w, "a": (beta or 0.0) * (w - a)}
            return {name: rates[name] for name in y}

        start = {"p": np.full(len(s), p), "w": np.sqrt(s)}
        if beta is not None:
            start["a"] = tau * start["w"]
        return integrate(field, start, np.array([0.0, end]), rtol=1e-9, method="LSODA").final["p"] > threshold

    low, high = 0.0, float("inf")
    candidates = np.geomspace(1e-12, 1e4, 9)
    for _ in range(6):
        alive = survives(candidates)
        first = int(np.argmax(alive)) if alive.any() else len(alive)
        low = float(candidates[first - 1]) if first else low
        high = float(candidates[first]) if first < len(alive) else high
        if low == 0 or np.isinf(high):
            return low if low == 0 else high
        candidates = np.geomspace(low, high, 33)
    return float(np.sqrt(low * high))


def basin_elasticities(
    p: float, *, alpha_p: float = 1.0, tau: float = 1.0, eta: float, sigma2: float, beta: float | None = None
) -> dict[str, float]:
    """What each hyper-parameter does to the trivial basin: percent by which `basin_edge` moves for one percent of it.

    Above zero: raising the parameter enlarges the basin of collapse. Of alpha_p, tau, eta and beta (where there is a
    target network) themselves, and of 1 + sigma2 under the name sigma2. Central differences over 2 percent; UserError
    where an edge is 0 or infinite, and as `basin_edge`.
    """
    changed = {"alpha_p": alpha_p, "tau": tau, "eta": eta, "sigma2": sigma2} | ({} if beta is None else {"beta": beta})

    def log_edge(name: str, factor: float) -> float:
        options = dict(changed)
        options[name] = (1 + sigma2) * factor - 1 if name == "sigma2" else options[name] * factor
        edge = basin_edge(p, **options)
        require(0 < edge < np.inf, "the edge of the basin", edge, "a finite number above 0", "Change p or eta.")
        return float(np.log(edge))

    step = 0.01
    return {
        name: (log_edge(name, 1 + step) - log_edge(name, 1 / (1 + step))) / (2 * float(np.log1p(step)))
        for name in changed
    }


def _check_parameters(
    *, tau: float = 1.0, alpha_p: float = 1.0, eta: float = 0.0, sigma2: float = 0.0, beta: float | None = None
) -> None:
    for name, value in (("alpha_p", alpha_p), ("tau", tau), ("eta", eta), ("sigma2", sigma2), ("beta", beta or 0.0)):
        check_number(name, value, 0)
