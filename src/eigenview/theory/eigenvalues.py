"""Linear BYOL one mode at a time, for W_p and F with common eigenvectors: their eigenvalues p and s.

Modes are independent. The state of a mode is p (predictor), s (second moment of the embeddings) and tau (target
network: W_a = tau W in that mode). On the curve s = p^2 / alpha_p, to which all modes converge, a single equation for p
is left.

Reference: Tian, Chen, Ganguli 2021, arXiv 2102.06810, section 3.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from eigenview.errors import UserError, require
from eigenview.theory.simulation import (
    Simulation,
    check_nonnegative,
    check_number,
    check_per_mode,
    check_values,
    integrate,
)

assumptions = (
    "Linear BYOL with inputs of unit second moment (X = I), view noise of the same variance sigma2 in every direction, "
    "and W_p and F with the same eigenvectors, so that modes are independent. "
    "Does not hold before the eigenvectors have aligned (see theory/symmetrised.py), for inputs of unequal variances, "
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
        alpha_p: ratio of the predictor's learning rate to the encoder's; eta: weight decay; sigma2: variance of the
        view noise; beta: rate at which the target network follows the encoder. tau is the weight of the target relative
        to the encoder's, below 1 while a mode grows and above 1 while it shrinks; it is not BYOL's momentum tau.
    """
    drive = tau - (1 + sigma2) * p
    growth = p * drive - eta  # w'/w of the encoder's weight w in this mode; s = w^2
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
        beta None: tau is constant (1: no target network). A number: tau is a state of every mode, initially `tau`. If a
        mode collapses and beta < eta, its tau grows as e^((eta - beta) t), because its weights vanish faster than the
        target follows.

    Shapes
        States p (T modes), s (T modes) and, with a target network, tau (T modes).

    Raises
        UserError for p and s of different shapes, a negative s, tau, alpha_p, eta, sigma2 or beta, and a failed
        integration.
    """
    check_nonnegative(alpha_p=alpha_p, tau=tau, eta=eta, sigma2=sigma2, beta=beta or 0.0)
    check_per_mode("p", p, "s", s)
    check_values("s", s)
    start = {"p": p, "s": s} if beta is None else {"p": p, "s": s, "tau": np.full(len(p), tau)}

    def field(_: float, y: Mapping[str, ndarray]) -> dict[str, ndarray]:
        rates = vector_field(
            y["p"], y["s"], y.get("tau", tau), alpha_p=alpha_p, eta=eta, sigma2=sigma2, beta=beta or 0.0
        )
        return {name: rates[name] for name in y}

    return integrate(field, start, times, rtol=rtol, atol=rtol / 100)


def invariant(p: ndarray, s: ndarray, *, alpha_p: float) -> ndarray:
    """c = s - p^2 / alpha_p. It obeys c(t) = e^(-2 eta t) c(0) for any tau(t): weight decay drives c to 0."""
    check_number("alpha_p", alpha_p, 0, strict=True)
    return s - p**2 / alpha_p


def invariance_residual(simulation: Simulation, *, alpha_p: float, eta: float) -> float:
    """Largest |c(t) - e^(-2 eta (t - t0)) c(t0)| over times and modes: the integration error of `invariant`."""
    c = invariant(simulation.states["p"], simulation.states["s"], alpha_p=alpha_p)
    decay = np.exp(-2 * eta * (simulation.times - simulation.times[0]))
    return float(np.abs(c - decay[:, None] * c[0]).max())


def reduced_field(p: ndarray, *, tau: float, eta: float, sigma2: float) -> ndarray:
    """p' = p^2 [tau - (1 + sigma2) p] - eta p: `vector_field` on the curve s = p^2 / alpha_p, for any alpha_p."""
    return p**2 * (tau - (1 + sigma2) * p) - eta * p


def reduced_slope(p: ndarray, *, tau: float, eta: float, sigma2: float) -> ndarray:
    """d p' / d p of `reduced_field`: negative at a stable fixed point, positive at an unstable one."""
    return 2 * tau * p - 3 * (1 + sigma2) * p**2 - eta


def simulate_reduced(
    p: Float[ndarray, " starts"],
    times: Float[ndarray, " T"],
    *,
    tau: float = 1.0,
    eta: float = 0.0,
    sigma2: float = 0.0,
) -> Simulation:
    """Integrate `reduced_field` from any number of initial values p: state p (T starts). Raises as `simulate`."""
    check_nonnegative(tau=tau, eta=eta, sigma2=sigma2)
    return integrate(lambda _, y: {"p": reduced_field(y["p"], tau=tau, eta=eta, sigma2=sigma2)}, {"p": p}, times)


@dataclass(frozen=True)
class FixedPoints:
    """Fixed points of an eigenvalue of W_p other than p = 0. Made by `fixed_points`."""

    tau: float
    eta: float
    sigma2: float
    eta_bound: float
    """Largest weight decay with a fixed point other than 0: tau^2 / (4 (1 + sigma2)), the saddle-node bifurcation."""
    p_minus: float | None
    """Unstable: p goes to 0 from below it and to p_plus from above it. None if eta is above `eta_bound`."""
    p_plus: float | None
    """Stable. None if eta is above `eta_bound`."""

    @property
    def is_collapse(self) -> bool:
        """Whether p goes to 0 from every initial value."""
        return self.p_plus is None

    def s_plus(self, alpha_p: float) -> float:
        """Eigenvalue of F at the stable fixed point: p_plus^2 / alpha_p, or 0 if everything collapses."""
        check_number("alpha_p", alpha_p, 0, strict=True)
        return 0.0 if self.p_plus is None else self.p_plus**2 / alpha_p

    def describe(self) -> str:
        """One sentence on the limits of p."""
        if self.p_minus is None or self.p_plus is None:
            return (
                f"Everything collapses: weight decay eta = {self.eta:g} is above tau^2 / (4 (1 + sigma2)) = "
                f"{self.eta_bound:.10g}, so every eigenvalue goes to 0."
            )
        if self.eta == 0:
            return f"Without weight decay, p = 0 is unstable: every initial p > 0 goes to {self.p_plus:.10g}."
        if self.p_minus == self.p_plus:
            return (
                f"At the bound eta = {self.eta_bound:.10g} the two fixed points coincide, p = {self.p_plus:.10g}: "
                "modes above it approach it slowly, modes below it collapse. With more weight decay all collapse."
            )
        return (
            f"Modes above p_minus = {self.p_minus:.10g} go to p_plus = {self.p_plus:.10g}, modes below it collapse; "
            f"above eta = {self.eta_bound:.10g} all would collapse."
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
    check_nonnegative(tau=tau, eta=eta, sigma2=sigma2)
    a = 1 + sigma2
    bound = tau**2 / (4 * a)
    square = tau**2 - 4 * eta * a
    if square < 0 or tau == 0:
        return FixedPoints(tau, eta, sigma2, bound, None, None)
    upper = tau + float(np.sqrt(square))
    # p_minus from the product of the roots, eta / (1 + sigma2): no cancellation for small eta
    return FixedPoints(tau, eta, sigma2, bound, 2 * eta / upper, upper / (2 * a))


def reduced_time(start: float, end: float, *, tau: float = 1.0, eta: float, sigma2: float) -> float:
    """Time from `start` to `end` under `reduced_field`, by partial fractions of 1 / p'.

    Raises
        UserError if eta is 0 or not below the saddle-node, or if `end` is never reached from `start`.
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
    allowed = f"a value reached from {start:g}; p moves away from {low:g} and towards 0 or {high:g}"
    require(time >= 0, "end", end, allowed)
    return time
