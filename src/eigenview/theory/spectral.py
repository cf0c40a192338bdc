"""What joint embedding learns: the leading eigenfunctions of the augmentation operator T_M.

On a finite augmentation graph, w_ab = w_ba is the probability that points a and b are two views of one image. Then
pi_a = sum_b w_ab is the law of a view, (T_M f)(a) = sum_b w_ab f(b) / pi_a the mean of f over the other views of a's
image, and T_M is self-adjoint under <f, g> = sum_a pi_a f_a g_a, with eigenvalues 1 = lambda_1 >= ... >= -1. The
reformulated objective of k features, a table F (n k) with one value per point and feature, is

    min sum_i ||T_M f_i - f_i||^2 subject to <f_i, f_j> = delta_ij, trained as
    L = sum_i ||T_M f_i - f_i||^2 + orthogonality ||F^T Pi F - I||_F^2.

In an eigenbasis L = sum_i P_i e_i + orthogonality (e_i - 1)^2, energies e_i, penalties P_i = (1 - lambda_i)^2: the
minimisers are the k leading eigenfunctions, rotated, each with energy max(0, 1 - P_i / (2 orthogonality)). A mode with
P_i >= 2 orthogonality is lost, however wide the projector. VICReg's distance between two views, E |f(a) - f(b)|^2, is
the same with P_i = 2 (1 - lambda_i). Barlow Twins fixes the variances and has a velocity of its own.

Reference: Ghosh, Agrawal, Sodhani, Oberman, Richards 2023, arXiv 2312.10725; augmentation graph: HaoChen,
Wei, Gaidon, Ma 2021, arXiv 2106.04156; Barlow Twins: Zbontar et al. 2021, arXiv 2103.03230.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from eigenview.errors import nearest, require
from eigenview.theory.simulation import Method, Simulation, check_number, check_symmetric, check_values, integrate

assumptions = (
    "Features are free tables on a finite graph, trained by gradient flow on exact expectations: no network and no "
    "batches, so a network that cannot represent the leading eigenfunctions learns something else. "
    "VICReg is its distance between views with a full squared penalty on F^T Pi F - I in place of hinge and covariance "
    "term, uncentred, so that the constant function counts as the first mode: thresholds are those of that penalty "
    "(of VICReg as trained: theory/vicreg.py). "
    "Barlow Twins is exact up to its eps, and has no closed form here."
)

Quadratic = Literal["reformulated", "vicreg"]
"""reformulated: ||T_M f - f||^2, to the mean over all views; vicreg: E |f(a) - f(b)|^2, between two views."""

Objective = Literal["reformulated", "vicreg", "barlow_twins"]


class Eigenfunctions(NamedTuple):
    """Eigenvalues of T_M, descending, and eigenfunctions as columns, orthonormal under pi."""

    values: Float[ndarray, " k"]
    functions: Float[ndarray, "n k"]


def measure(weights: Float[ndarray, "n n"]) -> Float[ndarray, " n"]:
    """pi_a = sum_b w_ab / sum w: the probability of each point as a view. Sums to 1."""
    return weights.sum(axis=1) / weights.sum()


def operator(weights: Float[ndarray, "n n"]) -> Float[ndarray, "n n"]:
    """T_M as a matrix, w_ab / sum_b w_ab: rows sum to 1, T_M @ f is the mean of f over the other views."""
    return weights / weights.sum(axis=1, keepdims=True)


def check_graph(weights: ndarray) -> None:
    """Refuse weights that are not a symmetric matrix of probabilities (up to a factor) without isolated points."""
    check_symmetric("weights", weights)
    check_values("weights", weights)
    degrees = weights.sum(axis=1)
    require(
        bool((degrees > 0).all()), "the smallest sum of a row of weights", degrees.min(), "above 0", "Drop the point."
    )


def eigenfunctions(weights: Float[ndarray, "n n"], num: int) -> Eigenfunctions:
    """The `num` leading eigenfunctions of T_M; the first is the constant 1 if the graph is connected.

    They are the eigenvectors of the symmetric Pi^1/2 T_M Pi^-1/2 over sqrt(pi). Signs, and the basis within a repeated
    eigenvalue, are arbitrary.

    Raises
        UserError for weights that are not symmetric and non-negative, a point without weight, or more functions than
        points.
    """
    check_graph(weights)
    n = len(weights)
    require(1 <= num <= n, "the number of functions", num, f"1 to {n}, the number of points")
    root = np.sqrt(measure(weights))
    symmetric = root[:, None] * operator(weights) / root
    values, vectors = np.linalg.eigh((symmetric + symmetric.T) / 2)
    return Eigenfunctions(values[::-1][:num], vectors[:, ::-1][:, :num] / root[:, None])


def nystroem(affinity: Float[ndarray, "q n"], known: Eigenfunctions) -> Float[ndarray, "q k"]:
    """Eigenfunctions at points off the graph: f(x) = sum_b w(x, b) f(b) / (lambda sum_b w(x, b)).

    `affinity` holds w(x, b) between new points and the graph's, in any scale per row. On the graph's own points it is
    the eigenvalue equation, so it gives the eigenfunctions back.

    Raises
        UserError for an affinity that is negative or of another width, a new point without weight, or an eigenvalue of
        0, whose function is no mean of neighbours.
    """
    n = len(known.functions)
    require(
        affinity.ndim == 2 and affinity.shape[1] == n, "the shape of affinity", affinity.shape, f"(new points, {n})"
    )
    check_values("affinity", affinity)
    degrees = affinity.sum(axis=1, keepdims=True)
    require(
        bool((degrees > 0).all()), "the smallest sum of a row of affinity", degrees.min(), "above 0: a point with views"
    )
    smallest = float(np.abs(known.values).min())
    require(smallest > 1e-10, "the smallest absolute eigenvalue", smallest, "above 1e-10", "Ask for fewer functions.")
    return affinity / degrees @ known.functions / known.values


def penalties(values: Float[ndarray, " k"], objective: Quadratic = "reformulated") -> Float[ndarray, " k"]:
    """P of each eigenvalue lambda of T_M: (1 - lambda)^2 for reformulated, 2 (1 - lambda) for vicreg."""
    return np.square(1 - values) if objective == "reformulated" else 2 * (1 - values)


def needed_orthogonality(values: Float[ndarray, " k"], objective: Quadratic = "reformulated") -> Float[ndarray, " k"]:
    """P / 2 of each mode: it is learned above this orthogonality weight. For a width of k the k-th mode decides."""
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

    e' = e (r - 8 orthogonality e) with r = 8 orthogonality - 4 P, so a lost mode (r < 0) dies exponentially. From a
    small start modes appear in the order of their eigenvalues, one by one only where r differs much between them.
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
    """sum_i ||T_M f_i - f_i||^2, or E |f(a) - f(b)|^2, plus orthogonality ||F^T Pi F - I||_F^2: sums over features.

    Barlow Twins' loss is `eigenview.methods.barlow_twins` of all pairs of views.
    """
    pi = measure(weights)
    away = F - operator(weights) @ F
    agreement = np.square(away) if objective == "reformulated" else 2 * F * away
    moment = (F.T * pi) @ F
    return float(pi @ agreement.sum(axis=1) + orthogonality * np.square(moment - np.eye(F.shape[1])).sum())


def velocity(
    F: Float[ndarray, "n k"], weights: Float[ndarray, "n n"], orthogonality: float, objective: Objective
) -> Float[ndarray, "n k"]:
    """F' = -2 P(T_M) F - 4 orthogonality F (F^T Pi F - I), P(T_M) = (I - T_M)^2 or 2 (I - T_M).

    Minus the gradient under <., .>: the partial derivatives by the table's entries, each over its point's pi. For
    Barlow Twins `barlow_twins_velocity`, with orthogonality as its off-diagonal weight.
    """
    if objective == "barlow_twins":
        return barlow_twins_velocity(F, weights, orthogonality)
    T, pi = operator(weights), measure(weights)
    away = F - T @ F
    away = away - T @ away if objective == "reformulated" else 2 * away
    return -2 * away - 4 * orthogonality * F @ ((F.T * pi) @ F - np.eye(F.shape[1]))


def barlow_twins_velocity(
    F: Float[ndarray, "n k"], weights: Float[ndarray, "n n"], off_diagonal: float
) -> Float[ndarray, "n k"]:
    """Minus the gradient under <., .> of sum_i (c_ii - 1)^2 + off_diagonal sum over i != j of c_ij^2.

    c_ij = <g_i, T_M g_j> of features g standardised under pi (mean 0, variance 1, no eps). The constant never counts;
    without the off-diagonal term every feature becomes the second eigenfunction.
    """
    pi = measure(weights)
    centred = F - pi @ F
    size = np.sqrt(pi @ np.square(centred))
    g = centred / size
    blurred = operator(weights) @ g
    c = (g.T * pi) @ blurred
    slope = off_diagonal * c
    np.fill_diagonal(slope, np.diagonal(c) - 1)
    gradient = 4 * blurred @ slope  # by g; c is symmetric
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
    """The gradient flow of an objective from the table F.

    Shapes
        States: `F` (T n k), and the descending `energies` (T k), eigenvalues of F^T Pi F: 1 for orthonormal features.

    Raises
        UserError for weights that are no graph, a table of another length or with more features than points, an
        orthogonality weight not above 0, and what `integrate` refuses.
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
    """The table after `steps` steps F + rate F' of gradient descent.

    The default rate is 1 / (8 + 8 orthogonality), stable for every graph. Neighbouring modes k and k + 1 of the
    quadratic objectives separate like e^{-2 (P_{k+1} - P_k) rate steps}: a high orthogonality weight takes more steps.

    Raises
        UserError as `simulate`, and for a rate at which the features grow without bound.
    """
    _check_table(F, weights, orthogonality, objective)
    require(steps >= 0, "steps", steps, "0 or more")
    rate = 1 / (8 + 8 * orthogonality) if rate is None else rate
    check_number("rate", rate, 0.0, strict=True)
    table = F
    with np.errstate(over="ignore", invalid="ignore"):  # reported below, in words
        for _ in range(steps):
            table = table + rate * velocity(table, weights, orthogonality, objective)
    require(bool(np.isfinite(table).all()), "rate", rate, "a rate at which gradient descent is stable", "Leave it out.")
    return table


def energies(F: Float[ndarray, "*T n k"], pi: Float[ndarray, " n"]) -> Float[ndarray, "*T k"]:
    """Eigenvalues of F^T Pi F, descending: squared singular values of the features under pi, 0 for lost dimensions."""
    return np.square(np.linalg.svd(np.sqrt(pi)[:, None] * F, compute_uv=False))


def principal_angles(
    learned: Float[ndarray, "n k"], exact: Float[ndarray, "n k"], pi: Float[ndarray, " n"], floor: float = 1e-6
) -> Float[ndarray, " k"]:
    """Angles in degrees between the spans of two tables under pi, ascending: 0 to 90, 0 for equal spans.

    Directions of the learned features with energy below `floor` times that of orthonormal features are lost: what is
    left of them is rounding or the start, and each counts as 90 degrees.

    Raises
        UserError for tables of different lengths or widths, or exact functions that are linearly dependent.
    """
    require(learned.shape == exact.shape, "the shape of learned", learned.shape, f"that of exact, {exact.shape}")
    root = np.sqrt(pi)[:, None]
    basis, sizes, _ = np.linalg.svd(root * exact, full_matrices=False)
    require(bool(sizes[-1] > 1e-10 * sizes[0]), "the smallest singular value of exact", sizes[-1], "above 0")
    U, s, _ = np.linalg.svd(root * learned, full_matrices=False)
    kept = U[:, np.square(s) > floor]
    cosines = np.linalg.svd(basis.T @ kept, compute_uv=False)
    # sines keep the digits that cosines near 1 lose
    sines = np.linalg.svd(kept - basis @ (basis.T @ kept), compute_uv=False)[::-1]
    angles = np.degrees(np.arctan2(sines, np.minimum(cosines, 1.0)))
    return np.concatenate([angles, np.full(learned.shape[1] - len(angles), 90.0)])


def _check_table(F: ndarray, weights: ndarray, orthogonality: float, objective: str) -> None:
    check_graph(weights)
    n = len(weights)
    ok = F.ndim == 2 and len(F) == n and 1 <= F.shape[1] <= n
    require(ok, "the shape of F", F.shape, f"({n} points, 1 to {n} features)")
    bad = int((~np.isfinite(F)).sum())
    require(bad == 0, "the number of entries of F that are not finite", bad, "0")
    check_number("orthogonality", orthogonality, 0.0, strict=True)
    known = ("reformulated", "vicreg", "barlow_twins")
    require(objective in known, "objective", objective, ", ".join(known), nearest(objective, known))
