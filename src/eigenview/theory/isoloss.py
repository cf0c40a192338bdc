"""Closed-form predictors: how fast each mode is learned under BYOL's gradient and under IsoLoss.

In the eigenbasis of F mode m has the eigenvalue s = E[z_m^2], and the predictor multiplies it by lam = s^alpha. BYOL's
gradient is multiplied by lam, because it is backpropagated through W_p, and is therefore small for modes of small lam.
IsoLoss removes that factor.

Reference: Halvagal, Laborieux, Zenke 2023, arXiv 2212.04858.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product
from typing import Literal

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from eigenview.errors import require
from eigenview.theory.simulation import Simulation, check_number, check_values, integrate

Method = Literal["byol", "isoloss"]
Metric = Literal["euclidean", "cosine"]

assumptions = (
    "Each embedding is a free variable (neural tangent kernel = identity), W_p = F^alpha is computed from the current "
    "embeddings, and the target is the embedding of the other view by the same network. "
    "Then the Euclidean equations are exact. Those of the cosine are a mean-field approximation (averages of ratios "
    "are replaced by ratios of averages): exact if all embeddings have the same length, reliable for signs, and for "
    "the order of rates if many modes contribute to the length. "
    "A real network couples modes through its kernel, and its running average of F lags behind."
)
# eta is a learning rate for J = 1/2 |p - t|^2 and J = -cos(p, t). The methods of eigenview.methods have no factor 1/2,
# and 2 - 2 cos, so with them the same learning rate gives twice the speed.


def embedding_field(
    z: Float[ndarray, "N D"],
    lam: Float[ndarray, " D"],
    *,
    metric: Metric,
    method: Method,
    eta: float = 1.0,
) -> Float[ndarray, "N D"]:
    """z' of every sample for fixed eigenvalues lam of W_p = diag(lam), with the target t = z.

    Definition
        euclidean: z_m' = eta lam_m (1 - lam_m) z_m;
        cosine:    z_m' = eta lam_m z_m / (|p|^3 |z|) sum_k lam_k (lam_k - lam_m) z_k^2,  p = W_p z;
        minus eta times the gradients of 1/2 |p - sg t|^2 and -cos(p, sg t). IsoLoss: without the leading lam_m.
        With the cosine |z| is conserved under BYOL; under IsoLoss z^T W_p z is, and |z| never shrinks.
    """
    factor = lam if method == "byol" else np.ones_like(lam)
    if metric == "euclidean":
        return eta * factor * (1 - lam) * z
    p = lam * z
    pull = np.sum(p**2, axis=-1, keepdims=True) - lam * np.sum(p * z, axis=-1, keepdims=True)
    norms = np.linalg.norm(p, axis=-1, keepdims=True) ** 3 * np.linalg.norm(z, axis=-1, keepdims=True)
    return eta * factor * z * pull / norms


def simulate_embeddings(
    z: Float[ndarray, "N D"],
    times: Float[ndarray, " T"],
    *,
    metric: Metric,
    method: Method,
    alpha: float = 0.5,
    eta: float = 1.0,
) -> Simulation:
    """Integrate `embedding_field` of all samples with lam_m = (mean of z_m^2)^alpha of the current z: state z (T N D).

    The coordinates must be the eigenbasis of F at all times. That is the case for samples under all sign
    patterns (`sign_symmetric`), for which F stays diagonal.

    Raises
        UserError if z is not of shape (N D), its second moment is not diagonal (up to 1e-8 of its largest entry), a
        sample has length zero under the cosine, alpha or eta is not above 0, or the integration fails.
    """
    _check_choice(metric, method)
    require(z.ndim == 2, "the shape of z", z.shape, "samples, width")
    F = z.T @ z / len(z)
    off = float(np.abs(F - np.diag(F.diagonal())).max())
    require(
        off <= 1e-8 * float(np.abs(F).max()),
        "the largest off-diagonal entry of F",
        off,
        "0: the coordinates must be the eigenbasis of F",
        "Rotate z into it and use sign_symmetric.",
    )
    require(
        metric == "euclidean" or bool((z != 0).any(axis=1).all()), "a sample", 0.0, "of non-zero length with the cosine"
    )
    _check_rates(alpha, eta)

    def field(_: float, y: Mapping[str, ndarray]) -> dict[str, ndarray]:
        lam = np.mean(y["z"] ** 2, axis=0) ** alpha
        return {"z": embedding_field(y["z"], lam, metric=metric, method=method, eta=eta)}

    return integrate(field, {"z": z}, times)


def sign_symmetric(z: Float[ndarray, "N D"]) -> Float[ndarray, "M D"]:
    """Every sample under all 2^D sign patterns of its coordinates, D at most 12: F then stays diagonal."""
    require(z.ndim == 2 and z.shape[1] <= 12, "the shape of z", z.shape, "samples, width at most 12")
    width = z.shape[1]
    signs = np.array(list(product((1.0, -1.0), repeat=width)))
    return (z[:, None] * signs).reshape(-1, width)


def vector_field(
    lam: Float[ndarray, " D"],
    *,
    metric: Metric,
    method: Method,
    alpha: float = 0.5,
    eta: float = 1.0,
    r: float = 1.0,
) -> Float[ndarray, " D"]:
    """lam' of every mode.

    Definition
        euclidean: lam' = 2 alpha eta lam^2 (r - lam), IsoLoss: 2 alpha eta lam (r - lam);
        cosine (mean field): lam_m' = 2 alpha eta lam_m^2 / (A^(3/2) B^(1/2)) sum_k lam_k^(1 + 1/alpha) (lam_k - lam_m),
        A = sum_k lam_k^(2 + 1/alpha), B = sum_k lam_k^(1/alpha), IsoLoss: lam_m for lam_m^2.
        r = E[z z'] / E[z^2] is the correlation of the views, constant (as it is for a linear encoder) and for the
        Euclidean metric only; the equation for the cosine has r = 1.
        Euclidean: modes are independent, lam = 0 is unstable and lam = r stable. Cosine: modes converge to a common
        value.
    """
    power = lam**2 if method == "byol" else lam
    if metric == "euclidean":
        return 2 * alpha * eta * power * (r - lam)
    s = lam ** (1 / alpha)
    pull = np.sum(lam**2 * s) - lam * np.sum(lam * s)
    return 2 * alpha * eta * power * pull / (np.sum(lam**2 * s) ** 1.5 * np.sum(s) ** 0.5)


def simulate(
    lam: Float[ndarray, " D"],
    times: Float[ndarray, " T"],
    *,
    metric: Metric,
    method: Method,
    alpha: float = 0.5,
    eta: float = 1.0,
    r: float = 1.0,
) -> Simulation:
    """Integrate `vector_field`: state lam (T D).

    Raises
        UserError for negative lam (or all of them 0, with the cosine), alpha or eta not above 0, r outside (0, 1] or
        other than 1 with the cosine, an unknown metric or method, and a failed integration.
    """
    _check_choice(metric, method)
    require(lam.ndim == 1, "the shape of lam", lam.shape, "one number per mode")
    check_values("lam", lam)
    _check_rates(alpha, eta, r)
    if metric == "cosine":
        require(r == 1, "r", r, "1 with the cosine, whose equation has no view noise")
        require(bool(lam.any()), "lam", lam, "at least one entry above 0")

    def field(_: float, y: Mapping[str, ndarray]) -> dict[str, ndarray]:
        # a trial step of the integrator may be negative, for which a power of lam is nan
        return {"lam": vector_field(y["lam"].clip(0), metric=metric, method=method, alpha=alpha, eta=eta, r=r)}

    return integrate(field, {"lam": lam}, times)


def euclidean_solution(
    lam: ndarray, t: ndarray | float, *, method: Method, alpha: float = 0.5, eta: float = 1.0, r: float = 1.0
) -> ndarray:
    """lam(t) with the Euclidean metric from lam(0) = lam, which broadcasts with t; lam in (0, r).

    Definition
        IsoLoss: lam(t) = r / (1 + (r / lam - 1) e^(-2 alpha eta r t)), a logistic curve.
        BYOL: G(lam(t)) - G(lam(0)) = 2 alpha eta r^2 t, with x = lam / r and G(x) = ln(x / (1 - x)) - 1/x; u = 1/x - 1
        solves u + ln u = -1 - G, which is Wright's omega function.

    Raises
        UserError for lam outside (0, r), alpha or eta not above 0, r outside (0, 1], negative t.
    """
    # imported late: `simulate NAME --help` must not wait for scipy
    from scipy.special import wrightomega  # pyright: ignore[reportMissingTypeStubs, reportUnknownVariableType]

    _check_choice("euclidean", method)
    _check_rates(alpha, eta, r)
    _check_inside("lam", lam, r)
    check_values("t", np.asarray(t))
    x = lam / r
    if method == "isoloss":
        return r / (1 + (1 / x - 1) * np.exp(-2 * alpha * eta * r * np.asarray(t)))
    u: ndarray = np.asarray(wrightomega(-1 - _progress(x) - 2 * alpha * eta * r**2 * np.asarray(t)))
    return r / (1 + u)


def euclidean_time(
    start: ndarray | float,
    end: ndarray | float,
    *,
    method: Method,
    alpha: float = 0.5,
    eta: float = 1.0,
    r: float = 1.0,
) -> ndarray:
    """Time of each mode from lam = start to lam = end, 0 < start <= end < r: the inverse of `euclidean_solution`.

    For a small start about ln(1 / start) for IsoLoss and 1 / start for BYOL.

    Raises
        UserError as `euclidean_solution`, and for an end below its start.
    """
    _check_choice("euclidean", method)
    _check_rates(alpha, eta, r)
    first, last = np.asarray(start, dtype=np.float64), np.asarray(end, dtype=np.float64)
    _check_inside("start", first, r)
    _check_inside("end", last, r)
    require(bool((first <= last).all()), "end", end, "not below start: eigenvalues below r only grow")
    x, y = first / r, last / r
    if method == "byol":
        return (_progress(y) - _progress(x)) / (2 * alpha * eta * r**2)
    return (np.log(y / (1 - y)) - np.log(x / (1 - x))) / (2 * alpha * eta * r)


def settling_times(simulation: Simulation, tolerance: float = 0.1) -> Float[ndarray, " D"]:
    """For each mode the first of the simulated times after which lam stays close to its last value.

    Close means within `tolerance`, relative. The last value is the limit only if the simulation is long enough.
    """
    check_number("tolerance", tolerance, 0, strict=True)
    lam = simulation.states["lam"]
    outside = np.abs(lam - lam[-1]) > tolerance * np.abs(lam[-1])
    # argmax of the reversed array counts the times after the last one outside
    steps_back = np.argmax(outside[::-1], axis=0)
    first_inside = np.where(outside.any(axis=0), len(lam) - steps_back, 0)
    return simulation.times[first_inside]


def _progress(x: ndarray) -> ndarray:
    """G(x) = ln(x / (1 - x)) - 1/x, the antiderivative of 1 / (x^2 (1 - x))."""
    return np.log(x / (1 - x)) - 1 / x


def _check_choice(metric: str, method: str) -> None:
    require(metric in ("euclidean", "cosine"), "metric", metric, "euclidean, cosine")
    require(method in ("byol", "isoloss"), "method", method, "byol, isoloss")


def _check_rates(alpha: float, eta: float, r: float = 1.0) -> None:
    check_number("alpha", alpha, 0, strict=True)
    check_number("eta", eta, 0, strict=True)
    check_number("r", r, 0, 1, strict=True)


def _check_inside(name: str, values: ndarray, r: float) -> None:
    """Raise UserError unless all values are in (0, r)."""
    bad = values[~((values > 0) & (values < r))]
    require(bad.size == 0, f"an entry of {name}", bad[0] if bad.size else None, f"above 0 and below r = {r:g}")
