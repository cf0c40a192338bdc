"""DirectSet(alpha) on a linear network: a predictor W_p = F^alpha keeps invariant and drops nuisance directions.

Inputs have X = I, and view noise of variance sigma2 in a nuisance subspace B only, X' = sigma2 P_B; S is its orthogonal
complement, the invariant subspace. A mode of W with weight w has F = w^2, so that p = w^(2 alpha).

Reference: Wang, Chen, Du, Tian 2021, arXiv 2110.04947.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from eigenview.errors import require
from eigenview.theory.simulation import (
    Simulation,
    check_number,
    check_per_mode,
    check_second_moment,
    check_values,
    integrate,
)

assumptions = (
    "Linear encoder, target equal to the encoder, predictor F^alpha of the current exact second moment F, "
    "without eps, normalisation or averaging; inputs of unit second moment and view noise in some directions only. "
    "The training program divides F by its norm, which changes the effect of weight decay: eta is relative to the "
    "scale of F. Does not hold for normalised embeddings, nor for an eps so large that it keeps every direction."
)


def vector_field(
    W: Float[ndarray, "k m"], *, alpha: float, eta: float, X_prime: Float[ndarray, "m m"]
) -> Float[ndarray, "k m"]:
    """W' = W_p (-W_p W (I + X') + W) - eta W with W_p = (W W^T)^alpha held constant in the gradient.

    Minus the gradient of `linear_byol.expected_loss` for W at W_a = W and that W_p, plus weight decay eta.
    """
    s, U = np.linalg.eigh(W @ W.T)
    W_p = (U * s.clip(0) ** alpha) @ U.T
    return W_p @ (W - W_p @ (W + W @ X_prime)) - eta * W


def mode_field(w: ndarray, *, alpha: float, eta: float, sigma2: ndarray | float) -> ndarray:
    """w' = p (1 - (1 + sigma2) p) w - eta w, p = w^(2 alpha): one mode; sigma2 is its view noise, 0 on S. w >= 0."""
    p = w ** (2 * alpha)
    return p * (1 - (1 + sigma2) * p) * w - eta * w


def simulate(
    W: Float[ndarray, "k m"],
    times: Float[ndarray, " T"],
    *,
    alpha: float,
    eta: float,
    X_prime: Float[ndarray, "m m"],
) -> Simulation:
    """Integrate `vector_field` from W, for instance 0.9 I plus small noise: state W (T k m).

    If the nuisance directions vanish, the limit is W^T W = p^(1/alpha) P_S. An initial W that commutes with P_B ends at
    W = p^(1/(2 alpha)) P_S; others end at that times a rotation of the embedding, to which the loss is invariant.

    Raises
        UserError if W is not a matrix, X_prime is not a covariance of W's input width, alpha is not above 0, eta is
        negative, or the integration fails.
    """
    _check_parameters(alpha, eta)
    require(W.ndim == 2, "the shape of W", W.shape, "embedding width, input width")
    check_second_moment("X_prime", X_prime, W.shape[1])
    return integrate(lambda _, y: {"W": vector_field(y["W"], alpha=alpha, eta=eta, X_prime=X_prime)}, {"W": W}, times)


def simulate_modes(
    w: Float[ndarray, " modes"],
    times: Float[ndarray, " T"],
    *,
    alpha: float,
    eta: float,
    sigma2: Float[ndarray, " modes"],
) -> Simulation:
    """Integrate `mode_field` for modes with view noise sigma2 each (0: invariant): state w (T modes).

    Raises
        UserError if w or sigma2 is negative, their shapes differ, alpha is not above 0, eta is negative, or the
        integration fails.
    """
    _check_parameters(alpha, eta)
    check_per_mode("w", w, "sigma2", sigma2)
    check_values("w", w)
    check_values("sigma2", sigma2)
    # a trial step of the integrator may be negative, for which w^(2 alpha) is nan
    return integrate(
        lambda _, y: {"w": mode_field(y["w"].clip(0), alpha=alpha, eta=eta, sigma2=sigma2)}, {"w": w}, times
    )


def nuisance_threshold(sigma2: float) -> float:
    """Weight decay above which nuisance directions always vanish: 1 / (4 (1 + sigma2)); 1/4 for sigma2 = 0."""
    check_number("sigma2", sigma2, 0)
    return 1 / (4 * (1 + sigma2))


@dataclass(frozen=True)
class FixedPoints:
    """Fixed points of the singular values of W in the invariant and nuisance subspace. Made by `fixed_points`."""

    alpha: float
    eta: float
    sigma2: float
    threshold: float
    """Weight decay above which nuisance directions vanish: 1 / (4 (1 + sigma2)). Invariant ones vanish above 1/4."""
    invariant: float
    """Stable singular value of W on S; 0 if everything collapses."""
    invariant_edge: float
    """Initial singular values on S below it collapse; infinite if everything collapses."""
    nuisance: float
    """Stable singular value of W on B; 0 if eta is above the threshold."""
    nuisance_edge: float
    """Initial singular values on B below it vanish; infinite if eta is above the threshold."""

    @property
    def signal_to_noise(self) -> float:
        """(invariant / nuisance)^2: ratio of the variances that W gives to an invariant and to a nuisance feature.

        Infinite if nuisance directions vanish, else (p_S / p_B)^(1 / alpha), which is larger for smaller alpha.
        Raises UserError if everything collapses.
        """
        require(self.invariant > 0, "eta", self.eta, "at most 1/4", "Above it everything collapses.")
        return float("inf") if self.nuisance == 0 else (self.invariant / self.nuisance) ** 2

    def describe(self) -> str:
        """One sentence on what is kept and what is dropped."""
        if self.invariant == 0:
            return f"Everything collapses, invariant directions too: weight decay eta = {self.eta:g} is above 1/4."
        kept = (
            f"Invariant directions that start above {self.invariant_edge:.10g} end with the singular value "
            f"{self.invariant:.10g}"
        )
        if self.nuisance == 0:
            return f"{kept}; nuisance directions vanish, because eta = {self.eta:g} is above {self.threshold:.10g}."
        return (
            f"{kept}; nuisance directions that start above {self.nuisance_edge:.10g} end with {self.nuisance:.10g}, "
            f"because eta = {self.eta:g} is not above {self.threshold:.10g}. "
            f"The signal-to-noise ratio is {self.signal_to_noise:.6g}."
        )


def fixed_points(*, alpha: float, eta: float, sigma2: float) -> FixedPoints:
    """Fixed points of the singular values of W.

    Definition
        p (1 - (1 + sigma2) p) = eta, hence p = [1 +- sqrt(1 - 4 (1 + sigma2) eta)] / (2 (1 + sigma2)). The larger root
        is stable, the smaller one bounds the basin of 0; sigma2 = 0 on S. The singular value of W is p^(1/(2 alpha)).

    Raises
        UserError for alpha not above 0 and negative eta or sigma2.
    """
    _check_parameters(alpha, eta)
    threshold = nuisance_threshold(sigma2)
    signal, noise = (_weights(alpha, eta, 1 + variance) for variance in (0.0, sigma2))
    return FixedPoints(alpha, eta, sigma2, threshold, signal[0], signal[1], noise[0], noise[1])


def _weights(alpha: float, eta: float, a: float) -> tuple[float, float]:
    """(stable, edge) of w for p (1 - a p) = eta, the edge from the product of the roots, eta / a: no cancellation."""
    square = 1 - 4 * a * eta
    if square < 0:
        return 0.0, float("inf")
    upper = (1 + float(np.sqrt(square))) / (2 * a)
    return upper ** (1 / (2 * alpha)), (eta / (a * upper)) ** (1 / (2 * alpha))


def _check_parameters(alpha: float, eta: float) -> None:
    check_number("alpha", alpha, 0, strict=True)
    check_number("eta", eta, 0)
