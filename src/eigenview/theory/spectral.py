"""Joint embedding with free features on an augmentation graph learns the leading eigenfunctions of its operator T_M.

`augmentation_graph` defines the graph, pi, T_M and <., .>. The reformulated objective of k features, a table F (n k)
with one value per point and feature, is

    min sum_i ||T_M f_i - f_i||^2 subject to <f_i, f_j> = delta_ij, trained as
    L = sum_i ||T_M f_i - f_i||^2 + orthogonality ||F^T Pi F - I||_F^2.

In an eigenbasis L = sum_i P_i e_i + orthogonality (e_i - 1)^2 with energies e_i and penalties P_i = (1 - lambda_i)^2.
The minimisers are the k leading eigenfunctions, rotated, each with energy max(0, 1 - P_i / (2 orthogonality)). A mode
with P_i >= 2 orthogonality is lost, for any width of the projector. VICReg's distance between two views,
E |f(a) - f(b)|^2, gives the same with P_i = 2 (1 - lambda_i). Barlow Twins standardises the features; its gradient is
`barlow_twins_velocity`.

Reference: Ghosh, Agrawal, Sodhani, Oberman, Richards 2023, arXiv 2312.10725; Barlow Twins: Zbontar et al. 2021,
arXiv 2103.03230.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from eigenview.errors import nearest, require
from eigenview.theory.augmentation_graph import check_graph, energies, measure, operator
from eigenview.theory.simulation import Method, Simulation, check_finite, check_number, check_values, integrate

assumptions = (
    "Features are free tables on a finite graph, trained by gradient flow on exact expectations: no network and no "
    "batches, so a network that cannot represent the leading eigenfunctions learns something else. "
    "VICReg here means its distance between views plus a squared penalty on F^T Pi F - I, instead of hinge and "
    "covariance term, without centring: the constant function counts as the first mode, and thresholds are those of "
    "that penalty (for VICReg as it is trained see theory/vicreg.py). "
    "Barlow Twins is exact up to its eps, and has no closed form here."
)

Quadratic = Literal["reformulated", "vicreg"]
"""reformulated: ||T_M f - f||^2, distance to the mean over all views; vicreg: E |f(a) - f(b)|^2, between two views."""

Objective = Literal["reformulated", "vicreg", "barlow_twins"]


def penalties(values: Float[ndarray, " k"], objective: Quadratic = "reformulated") -> Float[ndarray, " k"]:
    """P of each eigenvalue lambda of T_M: (1 - lambda)^2 for reformulated, 2 (1 - lambda) for vicreg."""
    return np.square(1 - values) if objective == "reformulated" else 2 * (1 - values)


def needed_orthogonality(values: Float[ndarray, " k"], objective: Quadratic = "reformulated") -> Float[ndarray, " k"]:
    """P / 2 of each mode: the orthogonality weight above which it is learned. The last one suffices for all k."""
    return penalties(values, objective) / 2


def learned_energies(
    values: Float[ndarray, " k"], orthogonality: float, objective: Quadratic = "reformulated"
) -> Float[ndarray, " k"]:
    """max(0, 1 - P / (2 orthogonality)): eigenvalues of F^T Pi F at the minimum, between 0 and 1."""
    check_number("orthogonality", orthogonality, 0.0, strict=True)
    return np.maximum(0.0, 1 - penalties(values, objective) / (2 * orthogonality))


def energies_in_time(
    start: float, penalty: float, orthogonality: float, times: Float[ndarray, " T"]
) -> Float[ndarray, " T"]:
    """Energy e(t) of one mode in features aligned with the eigenbasis, from e(0) > 0: a logistic curve.

    e' = e (r - 8 orthogonality e) with r = 8 orthogonality - 4 P, so a lost mode (r < 0) decays exponentially. From
    small initial features modes grow in the order of their eigenvalues, one after the other only if their r differ
    much.
    """
    check_number("start", start, 0.0, strict=True)
    check_number("orthogonality", orthogonality, 0.0, strict=True)
    check_number("penalty", penalty, 0.0)
    check_values("times", times)
    r = 8 * orthogonality - 4 * penalty
    decay = np.exp(-abs(r) * times)
    grown = 8 * orthogonality * start * (-np.expm1(-abs(r) * times) / abs(r) if r else times)
    return start / (decay + grown) if r > 0 else start * decay / (1 + grown)


def loss(F: Float[ndarray, "n k"], weights: Float[ndarray, "n n"], orthogonality: float, objective: Quadratic) -> float:
    """sum_i ||T_M f_i - f_i||^2, or E |f(a) - f(b)|^2, plus orthogonality ||F^T Pi F - I||_F^2, summed over features.

    The loss of Barlow Twins is `eigenview.methods.barlow_twins` on all pairs of views.
    """
    pi = measure(weights)
    residual = F - operator(weights) @ F
    distance = np.square(residual) if objective == "reformulated" else 2 * F * residual
    moment = (F.T * pi) @ F
    return float(pi @ distance.sum(axis=1) + orthogonality * np.square(moment - np.eye(F.shape[1])).sum())


def velocity(
    F: Float[ndarray, "n k"], weights: Float[ndarray, "n n"], orthogonality: float, objective: Objective
) -> Float[ndarray, "n k"]:
    """F' = -2 P(T_M) F - 4 orthogonality F (F^T Pi F - I), P(T_M) = (I - T_M)^2 or 2 (I - T_M).

    Minus the gradient under <., .>: the partial derivatives with respect to the entries of F, divided by pi of their
    point. For Barlow Twins `barlow_twins_velocity`, with orthogonality as its off-diagonal weight.
    """
    if objective == "barlow_twins":
        return barlow_twins_velocity(F, weights, orthogonality)
    T, pi = operator(weights), measure(weights)
    residual = F - T @ F
    slope = residual - T @ residual if objective == "reformulated" else 2 * residual
    return -2 * slope - 4 * orthogonality * F @ ((F.T * pi) @ F - np.eye(F.shape[1]))


def barlow_twins_velocity(
    F: Float[ndarray, "n k"], weights: Float[ndarray, "n n"], off_diagonal: float
) -> Float[ndarray, "n k"]:
    """Minus the gradient under <., .> of sum_i (c_ii - 1)^2 + off_diagonal sum over i != j of c_ij^2.

    c_ij = <g_i, T_M g_j> of features g standardised under pi (mean 0, variance 1, no eps). Centring removes the
    constant function; without the off-diagonal term every feature converges to the second eigenfunction.
    """
    pi = measure(weights)
    centred = F - pi @ F
    size = np.sqrt(pi @ np.square(centred))
    g = centred / size
    smoothed = operator(weights) @ g
    c = (g.T * pi) @ smoothed
    slope = off_diagonal * c
    np.fill_diagonal(slope, np.diagonal(c) - 1)
    gradient = 4 * smoothed @ slope  # with respect to g; c is symmetric
    return -(gradient - g * (pi @ (g * gradient))) / size


def simulate(
    F: Float[ndarray, "n k"],
    weights: Float[ndarray, "n n"],
    times: Float[ndarray, " T"],
    *,
    orthogonality: float,
    objective: Objective = "reformulated",
    rtol: float = 1e-8,
    atol: float = 1e-10,
    method: Method = "DOP853",
) -> Simulation:
    """Gradient flow of an objective, from the table F.

    Shapes
        States: `F` (T n k), and the descending `energies` (T k), eigenvalues of F^T Pi F: 1 for orthonormal features.

    Raises
        UserError if `weights` is not a graph (`check_graph`), F has another number of points or more features than
        points, the orthogonality weight is not above 0, or the integration fails.
    """
    _check_table(F, weights, orthogonality, objective)

    def field(_: float, state: Mapping[str, ndarray]) -> dict[str, ndarray]:
        return {"F": velocity(state["F"], weights, orthogonality, objective)}

    run = integrate(field, {"F": F}, times, rtol=rtol, atol=atol, method=method)
    return Simulation(run.times, run.states | {"energies": energies(run.states["F"], measure(weights))})


def descend(
    F: Float[ndarray, "n k"],
    weights: Float[ndarray, "n n"],
    *,
    orthogonality: float,
    steps: int,
    objective: Objective = "reformulated",
    rate: float | None = None,
) -> Float[ndarray, "n k"]:
    """The table after `steps` steps F <- F + rate F' of gradient descent.

    The default rate 1 / (8 + 8 orthogonality) is stable for every graph. With the quadratic objectives mode k + 1
    falls relative to mode k as e^{-2 (P_{k+1} - P_k) rate steps}, so a high orthogonality weight needs more steps.

    Raises
        UserError as `simulate`, and if the features grow without bound at this rate.
    """
    _check_table(F, weights, orthogonality, objective)
    require(steps >= 0, "steps", steps, "0 or more")
    rate = 1 / (8 + 8 * orthogonality) if rate is None else rate
    check_number("rate", rate, 0.0, strict=True)
    table = F
    with np.errstate(over="ignore", invalid="ignore"):  # reported below
        for _ in range(steps):
            table = table + rate * velocity(table, weights, orthogonality, objective)
    allowed = "a rate at which gradient descent is stable"
    require(bool(np.isfinite(table).all()), "rate", rate, allowed, "Leave it out for the default.")
    return table


def _check_table(F: ndarray, weights: ndarray, orthogonality: float, objective: str) -> None:
    check_graph(weights)
    n = len(weights)
    ok = F.ndim == 2 and len(F) == n and 1 <= F.shape[1] <= n
    require(ok, "the shape of F", F.shape, f"({n} points, 1 to {n} features)")
    check_finite("F", F)
    check_number("orthogonality", orthogonality, 0.0, strict=True)
    known = ("reformulated", "vicreg", "barlow_twins")
    require(objective in known, "objective", objective, ", ".join(known), nearest(objective, known))
