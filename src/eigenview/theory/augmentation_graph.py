"""The augmentation graph, its operator T_M, the eigenfunctions of T_M, and measures of features under its measure pi.

On a finite augmentation graph, w_ab = w_ba is the probability that points a and b are two views of one image. Then
pi_a = sum_b w_ab is the probability of a as a view, (T_M f)(a) = sum_b w_ab f(b) / pi_a is the mean of f over the other
views of a's image, and T_M is self-adjoint under <f, g> = sum_a pi_a f_a g_a, with eigenvalues
1 = lambda_1 >= ... >= -1. Features are a table F (n k): one value per point and feature; Pi = diag(pi).

Reference: HaoChen, Wei, Gaidon, Ma 2021, arXiv 2106.04156.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from eigenview.errors import require
from eigenview.theory.simulation import check_symmetric, check_values


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
    """Raise UserError unless `weights` is symmetric and non-negative, and every point has a positive weight."""
    check_symmetric("weights", weights)
    check_values("weights", weights)
    degrees = weights.sum(axis=1)
    require(
        bool((degrees > 0).all()), "the smallest sum of a row of weights", degrees.min(), "above 0", "Drop the point."
    )


def eigenfunctions(weights: Float[ndarray, "n n"], num: int) -> Eigenfunctions:
    """The `num` leading eigenfunctions of T_M; the first is the constant 1 if the graph is connected.

    They are the eigenvectors of the symmetric Pi^1/2 T_M Pi^-1/2, divided by sqrt(pi). Signs are arbitrary, and
    so is the basis for a repeated eigenvalue.

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
    """Eigenfunctions at points outside the graph: f(x) = sum_b w(x, b) f(b) / (lambda sum_b w(x, b)).

    `affinity` holds w(x, b) between new points and points of the graph; each row may have its own scale. For points of
    the graph the formula is the eigenvalue equation, so it returns the eigenfunctions.

    Raises
        UserError if an affinity is negative, its width is not the number of points, a new point has no weight, or an
        eigenvalue is 0 (the formula divides by it).
    """
    n = len(known.functions)
    require(
        affinity.ndim == 2 and affinity.shape[1] == n, "the shape of affinity", affinity.shape, f"(new points, {n})"
    )
    check_values("affinity", affinity)
    degrees = affinity.sum(axis=1, keepdims=True)
    require(bool((degrees > 0).all()), "the smallest sum of a row of affinity", degrees.min(), "above 0")
    smallest = float(np.abs(known.values).min())
    require(smallest > 1e-10, "the smallest absolute eigenvalue", smallest, "above 1e-10", "Ask for fewer functions.")
    return affinity / degrees @ known.functions / known.values


def energies(F: Float[ndarray, "*T n k"], pi: Float[ndarray, " n"]) -> Float[ndarray, "*T k"]:
    """Eigenvalues of F^T Pi F, descending: squared singular values of the features under pi; 0 for a lost dimension."""
    return np.square(np.linalg.svd(np.sqrt(pi)[:, None] * F, compute_uv=False))


def linear_readout(
    F: Float[ndarray, "n k"], targets: Float[ndarray, "n c"], pi: Float[ndarray, " n"], ridge: float = 1e-3
) -> Float[ndarray, "n c"]:
    """F (F^T Pi F + ridge I)^-1 F^T Pi targets: the ridge regression of `targets` on the features, under pi.

    The ridge keeps the readout from amplifying directions of vanishing energy.
    """
    moment = (F.T * pi) @ F
    return F @ np.linalg.solve(moment + ridge * np.eye(len(moment)), (F.T * pi) @ targets)


def principal_angles(
    learned: Float[ndarray, "n k"], exact: Float[ndarray, "n k"], pi: Float[ndarray, " n"], floor: float = 1e-6
) -> Float[ndarray, " k"]:
    """Principal angles in degrees between the spans of two tables under pi, ascending: 0 to 90, 0 for equal spans.

    A direction of the learned features with energy below `floor` (orthonormal features have energy 1) counts as lost,
    with an angle of 90 degrees: it holds only rounding errors or a remainder of the initial values.

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
    # small angles are computed from sines: arccos loses digits near 1
    sines = np.linalg.svd(kept - basis @ (basis.T @ kept), compute_uv=False)[::-1]
    angles = np.degrees(np.arctan2(sines, np.minimum(cosines, 1.0)))
    return np.concatenate([angles, np.full(learned.shape[1] - len(angles), 90.0)])
