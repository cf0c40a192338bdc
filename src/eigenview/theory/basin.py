"""The basin of collapse of linear BYOL: from which initial values a mode goes to zero, and what enlarges the basin.

A mode is a pair (p, s) of eigenvalues of W_p and F that evolves by `eigenvalues.vector_field`.

Reference: Tian, Chen, Ganguli 2021, arXiv 2102.06810, section 3.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy import ndarray

from eigenview.errors import require
from eigenview.theory.eigenvalues import fixed_points
from eigenview.theory.simulation import check_nonnegative, check_number, integrate


def basin_edge(
    p: float,
    *,
    alpha_p: float = 1.0,
    tau: float = 1.0,
    eta: float,
    sigma2: float,
    beta: float | None = None,
) -> float:
    """Smallest initial eigenvalue s of F for which a mode with initial predictor eigenvalue p does not collapse.

    Definition
        The boundary in s of the basin of attraction of p = s = 0 under `eigenvalues.vector_field`, at the given p.
        Found by simulating many s at once, first on a grid from 1e-12 to 1e4, then five times on a grid between the two
        neighbours, to a relative 1e-6. At p = p_minus with constant tau it is exactly s = p_minus^2 / alpha_p. If beta
        is given, the target is initially tau times the encoder and then follows it.

    Ranges
        0 if even s = 1e-12 does not collapse; infinity if all s up to 1e4 collapse, as above the saddle-node.

    Raises
        UserError for eta not above 0 (without weight decay every s > 0 survives, for p < tau / (1 + sigma2)), alpha_p
        not above 0, and other parameters as in `eigenvalues.simulate`.
    """
    check_nonnegative(tau=tau, sigma2=sigma2, p=p)
    check_number("eta", eta, 0, strict=True)
    check_number("alpha_p", alpha_p, 0, strict=True)
    if beta is not None:
        check_number("beta", beta, 0, strict=True)
    threshold = fixed_points(tau=tau if beta is None else 1.0, eta=eta, sigma2=sigma2).p_minus
    if threshold is None:
        return float("inf")
    # s - p^2 / alpha_p decays as e^(-2 eta t) and tau - 1 at the rate beta; then p_minus decides
    end = 20 / min(eta, eta if beta is None else beta)

    def survives(s: ndarray) -> ndarray:
        """Whether p ends above p_minus, for each s. In w = sqrt(s) and a = tau w the rates do not divide by s."""

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
        first = int(np.argmax(alive)) if alive.any() else len(alive)  # the smallest that survives
        low = float(candidates[first - 1]) if first else low
        high = float(candidates[first]) if first < len(alive) else high
        if low == 0 or np.isinf(high):
            return low if low == 0 else high
        candidates = np.geomspace(low, high, 33)
    return float(np.sqrt(low * high))


def basin_elasticities(
    p: float, *, alpha_p: float = 1.0, tau: float = 1.0, eta: float, sigma2: float, beta: float | None = None
) -> dict[str, float]:
    """d log(basin_edge) / d log(parameter): by how many percent the edge moves if a parameter is raised by one percent.

    Positive: raising the parameter enlarges the basin of collapse. For alpha_p, tau, eta, beta (if there is a target
    network), and, under the name sigma2, for 1 + sigma2. Central differences over 2 percent.

    Raises
        UserError if an edge is 0 or infinite, and as `basin_edge`.
    """
    parameters = {"alpha_p": alpha_p, "tau": tau, "eta": eta, "sigma2": sigma2}
    if beta is not None:
        parameters["beta"] = beta

    def log_edge(name: str, factor: float) -> float:
        options = dict(parameters)
        options[name] = (1 + sigma2) * factor - 1 if name == "sigma2" else options[name] * factor
        edge = basin_edge(p, **options)
        require(0 < edge < np.inf, "the edge of the basin", edge, "a finite number above 0", "Change p or eta.")
        return float(np.log(edge))

    step = 0.01
    return {
        name: (log_edge(name, 1 + step) - log_edge(name, 1 / (1 + step))) / (2 * float(np.log1p(step)))
        for name in parameters
    }
