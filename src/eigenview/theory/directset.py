"""DirectSet(alpha) on a linear network: W_p = F^alpha keeps what views share and drops what they change.

Inputs have X = I and view noise of variance sigma2 in a nuisance subspace B only, X' = sigma2 P_B; S is the invariant
rest. A mode of W with weight w has F = w^2, so that p = w^(2 alpha).

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
    check_second_moment,
    check_values,
    integrate,
)

assumptions = (
    "Linear encoder, target equal to the encoder, predictor F^alpha of the exact second moment F at every moment, "
    "without eps, normalisation or averaging; inputs of unit second moment and view noise in some directions only. "
    "The program divides F by its norm, which changes what weight decay does: read eta against the scale of F. "
    "Fails for normalised embeddings, and where eps keeps every direction alive."
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

    It ends at W^T W = p^(1/alpha) P_S (nuisance vanished): from a W that commutes with P_B, W = p^(1/(2 alpha)) P_S;
    from others with a rotation of the embedding in front, which no loss of this kind sees.

    Raises
        UserError for a W that is no matrix, an X_prime that is not a covariance of W's input width, alpha not above 0,
        negative eta, and a failed integration.
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
        UserError for negative w or sigma2, shapes that differ, alpha not above 0, negative eta, a failed integration.
    """
    _check_parameters(alpha, eta)
    require(
        w.ndim == 1 and w.shape == sigma2.shape, "the shapes of w and sigma2", (w.shape, sigma2.shape), "equal, (modes)"
    )
    check_values("w", w)
    check_values("sigma2", sigma2)
    # a trial step may end below zero, where a power of w is no number
    return integrate(
        lambda _, y: {"w": mode_field(y["w"].clip(0), alpha=alpha, eta=eta, sigma2=sigma2)}, {"w": w}, times
    )


def nuisance_threshold(sigma2: float) -> float:
    """Weight decay above which nuisance directions vanish from every start: 1 / (4 (1 + sigma2)). At 0: 1/4."""
    check_number("sigma2", sigma2, 0)
    return 1 / (4 * (1 + sigma2))


@dataclass(frozen=True)
class FixedPoints:
    """Singular values of W at rest on the invariant and the nuisance subspace. Made by `fixed_points`."""

    alpha: float
    eta: float
    sigma2: float
    threshold: float
    """Weight decay above which the nuisance directions vanish: 1 / (4 (1 + sigma2)). Invariant ones do above 1/4."""
    invariant: float
    """Stable singular value of W on S; 0 where everything collapses."""
    invariant_edge: float
    """Starts on S below it collapse; infinite where everything does."""
    nuisance: float
    """Stable singular value of W on B; 0 above the threshold."""
    nuisance_edge: float
    """Starts on B below it vanish; infinite above the threshold."""

    @property
    def signal_to_noise(self) -> float:
        """(invariant / nuisance)^2: by how much W favours the variance of an invariant feature over a nuisance one.

        Infinite where the nuisance vanishes; below the threshold (p_S / p_B)^(1 / alpha), larger for smaller alpha.
        UserError where everything collapses.
        """
        require(self.invariant > 0, "eta", self.eta, "at most 1/4", "Beyond it everything collapses.")
        return float("inf") if self.nuisance == 0 else (self.invariant / self.nuisance) ** 2

    def describe(self) -> str:
        """What is kept and what is dropped, in one sentence."""
        if self.invariant == 0:
            return (
                f"Everything collapses: weight decay eta = {self.eta:g} is beyond 1/4, invariant directions included."
            )
        kept = (
            f"Invariant directions that start above {self.invariant_edge:.10g} keep the singular value "
            f"{self.invariant:.10g}"
        )
        if self.nuisance == 0:
            return f"{kept}; nuisance directions vanish, because eta = {self.eta:g} is above {self.threshold:.10g}."
        return (
            f"{kept}; nuisance directions above {self.nuisance_edge:.10g} keep {self.nuisance:.10g}, because eta = "
            f"{self.eta:g} is not above {self.threshold:.10g}: a signal-to-noise ratio of {self.signal_to_noise:.6g}."
        )


def fixed_points(*, alpha: float, eta: float, sigma2: float) -> FixedPoints:
    """Where the singular values of W come to rest.

    Definition
        p (1 - (1 + sigma2) p) = eta, hence p = [1 +- sqrt(1 - 4 (1 + sigma2) eta)] / (2 (1 + sigma2)), the larger
        stable and the smaller the edge of the basin of 0; sigma2 = 0 on S. The singular value of W is p^(1/(2 alpha)).

    Raises
        UserError for alpha not above 0 and negative eta or sigma2.
    """
    _check_parameters(alpha, eta)
    threshold = nuisance_threshold(sigma2)
    signal, noise = (_weights(alpha, eta, 1 + variance) for variance in (0.0, sigma2))
    return FixedPoints(alpha, eta, sigma2, threshold, signal[0], signal[1], noise[0], noise[1])


def _weights(alpha: float, eta: float, a: float) -> tuple[float, float]:
    """(stable, edge) of w for p (1 - a p) = eta; the product of the roots in p is eta / a."""
    square = 1 - 4 * a * eta
    if square < 0:
        return 0.0, float("inf")
    upper = (1 + float(np.sqrt(square))) / (2 * a)
    return upper ** (1 / (2 * alpha)), (eta / (a * upper)) ** (1 / (2 * alpha))


def _check_parameters(alpha: float, eta: float) -> None:
    check_number("alpha", alpha, 0, strict=True)
    check_number("eta", eta, 0)
