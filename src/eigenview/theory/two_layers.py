"""Two linear layers: the growth rate of a mode increases with its singular value, so large modes outgrow small ones.

For z = W2 W1 x and any loss of z with -dL/d(W2 W1) = W2 W1 D, D symmetric (InfoNCE: D = Sigma_0 - Sigma_aug),

    W1' = W2^T W2 W1 D,    W2' = W2 W1 D W1^T,    W1 W1^T - W2^T W2 constant.

If the right singular vectors of W2 equal the left ones of W1 (aligned layers), the modes are independent: their
singular values obey sigma1' = sigma1 sigma2^2 g and sigma2' = sigma2 sigma1^2 g with g = v^T D v.

Reference: Jing, Vincent, LeCun, Tian 2022, arXiv 2110.09348, section 5; D is called X there.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from eigenview.errors import require
from eigenview.theory.simulation import (
    Method,
    Simulation,
    check_finite,
    check_number,
    check_symmetric,
    integrate,
)

assumptions = (
    "Two linear layers without bias or normalisation, gradient flow, and a symmetric D that represents the data. "
    "The closed form for singular values holds for aligned layers and a constant v^T D v. In training D falls as the "
    "embedding grows, so the predicted divergence does not occur; the order remains: from small initial weights, "
    "with depth strong directions outgrow weak ones."
)

Difference = Callable[[Float[ndarray, "k m"]], Float[ndarray, "m m"]]
"""D as a function of the product W2 W1, for example `infonce.difference` on given data."""


def velocities(
    W1: Float[ndarray, "h m"], W2: Float[ndarray, "k h"], D: Float[ndarray, "m m"]
) -> tuple[Float[ndarray, "h m"], Float[ndarray, "k h"]]:
    """(W1', W2') = (W2^T W2 W1 D, W2 W1 D W1^T): the chain rule for a product W2 W1 whose own velocity is W2 W1 D."""
    product_velocity = W2 @ W1 @ D
    return W2.T @ product_velocity, product_velocity @ W1.T


def conserved(W1: Float[ndarray, "h m"], W2: Float[ndarray, "k h"]) -> Float[ndarray, "h h"]:
    """W1 W1^T - W2^T W2: constant in time for any D; zero for balanced layers."""
    return W1 @ W1.T - W2.T @ W2


def alignment(W1: Float[ndarray, "h m"], W2: Float[ndarray, "k h"]) -> Float[ndarray, "a b"]:
    """|V2^T U1| of W2 = U2 S2 V2^T and W1 = U1 S1 V1^T, singular values descending: entries from 0 to 1.

    The identity for aligned layers with distinct singular values. The absolute value is taken because the signs of
    singular vectors are arbitrary. Vectors of a zero or repeated singular value are arbitrary too.
    """
    _check_layers(W1, W2)
    U1 = np.linalg.svd(W1, full_matrices=False).U
    V2 = np.linalg.svd(W2, full_matrices=False).Vh
    return np.abs(V2 @ U1)


def singular_value_velocities(
    sigma1: Float[ndarray, " r"], sigma2: Float[ndarray, " r"], growth: Float[ndarray, " r"]
) -> tuple[Float[ndarray, " r"], Float[ndarray, " r"]]:
    """(sigma1', sigma2') = (sigma1 sigma2^2 g, sigma2 sigma1^2 g) of aligned layers, for each mode."""
    return sigma1 * np.square(sigma2) * growth, sigma2 * np.square(sigma1) * growth


def singular_values(sigma1: float, sigma2: float, growth: float, t: float) -> tuple[float, float]:
    """(sigma1(t), sigma2(t)) of one aligned mode with constant g = v^T D v; both initial values above 0, t >= 0.

    c = sigma1^2 - sigma2^2 is constant, so a = sigma1^2 obeys a' = 2 g a (a - c) and
    a(t) = c / (1 - (sigma2(0) / sigma1(0))^2 e^{2 g c t}). Balanced, c -> 0: sigma(0) / sqrt(1 - 2 sigma(0)^2 g t).

    Raises
        UserError for an initial value not above 0, a negative time, or a time not below `blow_up_time`.
    """
    end = blow_up_time(sigma1, sigma2, growth)
    check_number("t", t, 0.0)
    require(t < end, "t", t, f"below the blow-up time {end:.10g}")
    c = (sigma1 - sigma2) * (sigma1 + sigma2)
    u = 2 * growth * c * t
    if u > 0:  # exchange the layers, whose equations are symmetric: no large exponential
        second, first = singular_values(sigma2, sigma1, growth, t)
        return first, second
    # sigma1(t)^2 = sigma1^2 / remaining, remaining = 1 - 2 g sigma2^2 t (e^u - 1)/u: no 0/0 at c = 0
    remaining = 1 - 2 * growth * t * sigma2**2 * _relative_expm1(u)
    return sigma1 / math.sqrt(remaining), sigma2 * math.sqrt(math.exp(u) / remaining)


def blow_up_time(sigma1: float, sigma2: float, growth: float) -> float:
    """The time at which both singular values of an aligned mode diverge, for constant g; inf for g <= 0.

    log(sigma1^2 / sigma2^2) / (2 g (sigma1^2 - sigma2^2)); for balanced layers 1 / (2 sigma^2 g).
    """
    check_number("sigma1", sigma1, 0.0, strict=True)
    check_number("sigma2", sigma2, 0.0, strict=True)
    require(math.isfinite(growth), "growth", growth, "a finite number")
    if growth <= 0:
        return math.inf
    small, large = sorted((sigma1**2, sigma2**2))
    # log(1 + y) / y tends to 1 for balanced layers
    y = (large - small) / small
    return (math.log1p(y) / y if y > 0 else 1.0) / (2 * growth * small)


def one_layer_singular_value(sigma: float, growth: float, t: float) -> float:
    """sigma e^{g t}: the mode with one layer. The ratio of two modes changes as e^{(g_i - g_j) t}, for any sizes."""
    return sigma * math.exp(growth * t)


def simulate(
    W1: Float[ndarray, "h m"],
    W2: Float[ndarray, "k h"],
    difference: Difference,
    times: Float[ndarray, " T"],
    *,
    rtol: float = 1e-8,
    atol: float = 1e-10,
    method: Method = "DOP853",
) -> Simulation:
    """Gradient flow of both layers; `difference` gives D for the current W2 W1 (for a constant D: `lambda W: D`).

    Shapes
        States: `W1` (T h m), `W2` (T k h), and the descending `singular_values` (T min(k, m)) of W2 W1.

    Raises
        UserError if the layers' shapes do not match, D is not (m, m) and symmetric at the start, or the integration
        fails: with a constant D of positive eigenvalue the solution diverges at a finite time.
    """
    _check_layers(W1, W2)
    check_symmetric("difference", difference(W2 @ W1), W1.shape[1])

    def field(_: float, state: Mapping[str, ndarray]) -> dict[str, ndarray]:
        first, second = state["W1"], state["W2"]
        return dict(zip(("W1", "W2"), velocities(first, second, difference(second @ first)), strict=True))

    run = integrate(field, {"W1": W1, "W2": W2}, times, rtol=rtol, atol=atol, method=method)
    product = run.states["W2"] @ run.states["W1"]
    return Simulation(run.times, run.states | {"singular_values": np.linalg.svd(product, compute_uv=False)})


def decaying_layers(width: int, decay: float, seed: int) -> tuple[ndarray, ndarray]:
    """Two random (width, width) layers with singular values e^{-decay k}, k = 0, 1, ..., and random singular vectors.

    Jing et al. use width 16 and decay 0.35. Singular vectors are uniform over rotations.

    Raises
        UserError for a width below 1 or a negative decay.
    """
    require(width >= 1, "width", width, "1 or more")
    check_number("decay", decay, 0.0)
    generator = np.random.default_rng(seed)
    values = np.exp(-decay * np.arange(width))
    U1, V1, U2, V2 = (_rotation(width, generator) for _ in range(4))
    return (U1 * values) @ V1.T, (U2 * values) @ V2.T


def _relative_expm1(u: float) -> float:
    """(e^u - 1) / u, 1 at u = 0."""
    return math.expm1(u) / u if u else 1.0


def _rotation(width: int, generator: np.random.Generator) -> ndarray:
    """An orthogonal matrix, uniformly distributed: Q of a Gaussian matrix, times the signs of R's diagonal."""
    Q, R = np.linalg.qr(generator.standard_normal((width, width)))
    return Q * np.sign(np.diagonal(R))


def _check_layers(W1: ndarray, W2: ndarray) -> None:
    require(W1.ndim == 2, "the shape of W1", W1.shape, "(hidden, inputs)")
    fits = W2.ndim == 2 and W2.shape[1] == W1.shape[0]
    require(fits, "the shape of W2", W2.shape, f"(outputs, {W1.shape[0]}): the hidden width is that of W1")
    check_finite("W1", W1)
    check_finite("W2", W2)
