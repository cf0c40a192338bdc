"""Stepwise learning: from small initial weights, Barlow Twins with a linear network learns one mode after the other.

For z = W x, C = W Gamma W^T with the cross-moment Gamma = E (x x'^T + x' x^T) / 2, and L = ||C - I||_F^2,

    W' = -dL/dW = -4 (C - I) W Gamma.

Gamma = sum_j gamma_j v_j v_j^T, gamma descending. If the rows of W are eigenvectors times amplitudes s_j(0),

    s_j' = 4 gamma_j s_j (1 - gamma_j s_j^2),    c_j = gamma_j s_j^2 = 1 / (1 + (1 / c_j(0) - 1) e^{-8 gamma_j t}):

each eigenvalue c_j of C is a logistic curve from 0 to 1, half way at t_j = log(1 / c_j(0) - 1) / (8 gamma_j).
A D-dimensional embedding learns the D largest positive gamma_j, in their order, and the loss falls by 1 at each step.

Reference: Simon, Knutins, Ziyin, Geisz, Fetterman, Albrecht 2023, arXiv 2303.15438 (the linear model).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

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
    check_values,
    integrate,
)

assumptions = (
    "A linear network (or a wide one with a fixed kernel) under gradient flow, outputs not standardised or centred "
    "by the loss, off-diagonal weight 1. "
    "The closed form is exact for initial weights aligned with the eigenvectors; for others it holds in the limit of "
    "small weights, with larger errors for neighbouring eigenvalues that are close. "
    "The published Barlow Twins standardises every feature, so that its scale has no effect and times differ."
)


class Modes(NamedTuple):
    """Eigenvalues of the cross-moment, descending, and its eigenvectors as columns."""

    values: Float[ndarray, " m"]
    vectors: Float[ndarray, "m m"]


def cross_moment(x: Float[ndarray, "N m"], x_prime: Float[ndarray, "N m"]) -> Float[ndarray, "m m"]:
    """Gamma = (1 / 2N) sum_i (x_i x_i'^T + x_i' x_i^T): symmetric; an eigenvalue is negative if the views
    are anticorrelated along its eigenvector.

    Raises
        UserError for views of different shapes.
    """
    require(x.ndim == 2 and x.shape == x_prime.shape, "the shape of x_prime", x_prime.shape, f"that of x, {x.shape}")
    half = x.T @ x_prime / len(x)
    return (half + half.T) / 2


def modes(moment: Float[ndarray, "m m"]) -> Modes:
    """Eigenvalues and eigenvectors of Gamma, largest first; UserError for an asymmetric matrix."""
    check_symmetric("the cross-moment", moment)
    values, vectors = np.linalg.eigh(moment)
    return Modes(values[::-1].copy(), vectors[:, ::-1].copy())


def cross_correlation(W: Float[ndarray, "*T D m"], moment: Float[ndarray, "m m"]) -> Float[ndarray, "*T D D"]:
    """C = W Gamma W^T of the outputs; the loss is ||C - I||_F^2."""
    return W @ moment @ np.swapaxes(W, -1, -2)


def velocity(W: Float[ndarray, "D m"], moment: Float[ndarray, "m m"]) -> Float[ndarray, "D m"]:
    """W' = -4 (W Gamma W^T - I) W Gamma, minus the gradient of ||W Gamma W^T - I||_F^2.

    A table of features F on an augmentation graph (see `augmentation_graph`) obeys the same equation with
    W = (Pi^1/2 F)^T and Gamma the symmetric Pi^1/2 T_M Pi^-1/2; its modes are the eigenfunctions of T_M.
    """
    projected = W @ moment
    return -4 * (projected @ W.T - np.eye(len(W))) @ projected


def amplitudes(
    start: Float[ndarray, " D"], gamma: Float[ndarray, " D"], times: Float[ndarray, " T"]
) -> Float[ndarray, "T D"]:
    """s_j(t) = s_j(0) e^{4 gamma_j t} / sqrt(1 + gamma_j s_j(0)^2 (e^{8 gamma_j t} - 1)), t counted from the start.

    Limits: gamma_j^-1/2 for gamma_j > 0 and s_j(0) > 0; 0 for gamma_j < 0. Constant for gamma_j = 0 or s_j(0) = 0.

    Raises
        UserError for arrays of different lengths, a negative initial amplitude or a negative time.
    """
    _check_start(start, gamma)
    check_values("times", times)
    exponent = 8 * np.multiply.outer(times, gamma)
    decay = np.exp(-np.abs(exponent))  # for either sign of gamma: no large exponential
    energy = gamma * np.square(start)
    growing = 1 / np.maximum(decay + energy * (1 - decay), np.finfo(np.float64).tiny)
    shrinking = decay / np.where(exponent < 0, 1 - energy * (1 - decay), 1.0)
    return start * np.sqrt(np.where(exponent < 0, shrinking, growing))


def correlations(
    start: Float[ndarray, " D"], gamma: Float[ndarray, " D"], times: Float[ndarray, " T"]
) -> Float[ndarray, "T D"]:
    """Eigenvalues gamma_j s_j(t)^2 of C, for each mode: logistic curves from about 0 to 1 for gamma_j > 0."""
    return gamma * np.square(amplitudes(start, gamma, times))


def loss(correlation: Float[ndarray, "*T D"]) -> Float[ndarray, "*T"]:
    """||C - I||_F^2 = sum_j (1 - c_j)^2 from the eigenvalues of C: about D initially, 1 less per learned mode."""
    return np.asarray(np.square(1 - correlation).sum(axis=-1))


def take_off_times(
    start: Float[ndarray, " D"], gamma: Float[ndarray, " D"], level: float = 0.5
) -> Float[ndarray, " D"]:
    """Time at which c_j of each mode reaches `level`: (log(1/(gamma s(0)^2) - 1) + logit level) / (8 gamma).

    The curve is steepest at level 1/2. For a small start the time is the paper's -log(gamma s(0)^2) / (8 gamma): a mode
    of half the eigenvalue takes a little more than twice as long. inf if gamma <= 0 or the start is 0; 0 if a mode
    starts at the level or above it.

    Raises
        UserError for a level outside (0, 1), arrays of different lengths or a negative start.
    """
    _check_start(start, gamma)
    require(0 < level < 1, "level", level, "above 0 and below 1")
    energy = gamma * np.square(start)
    times = np.full(gamma.shape, np.inf)
    learned = energy > 0
    e = energy[learned]
    # exp of log(1/e - 1) + log(level / (1 - level)); below 1 if the mode starts above the level, also for e > 1
    ratio = np.maximum((1 / e - 1) * level / (1 - level), 1.0)
    times[learned] = np.log(ratio) / (8 * gamma[learned])
    return times


def effective_amplitudes(W: Float[ndarray, "D m"], vectors: Float[ndarray, "m m"]) -> Float[ndarray, " D"]:
    """s_j(0) of the aligned weights that small weights W behave like: |R_jj| of W V = Q R, V the eigenvectors.

    V has the largest eigenvalue first. Mode 1 grows from its whole column of W V. By the time mode 2 grows, mode 1
    occupies a direction of the embedding, so mode 2 grows from the part of its column orthogonal to that, and so on:
    Gram-Schmidt in the order of learning. Exact as W tends to 0.

    Raises
        UserError for more outputs than inputs (there are no more modes than inputs) or eigenvectors of another width.
    """
    outputs, inputs = W.shape
    require(outputs <= inputs, "the outputs of W", outputs, f"up to its {inputs} inputs")
    require(vectors.shape == (inputs, inputs), "the shape of vectors", vectors.shape, f"({inputs}, {inputs})")
    return np.abs(np.diagonal(np.linalg.qr(W @ vectors, mode="r"))).copy()


def aligned_start(
    start: Float[ndarray, " D"], vectors: Float[ndarray, "m m"], rotation: Float[ndarray, "D D"] | None = None
) -> Float[ndarray, "D m"]:
    """W = U diag(s(0)) V_D^T: mode j has amplitude s_j(0) along column j of the orthogonal U, `rotation` (identity)."""
    check_values("start", start)
    require(len(start) <= len(vectors), "the modes of start", len(start), f"up to the {len(vectors)} inputs")
    W = start[:, None] * vectors.T[: len(start)]
    return W if rotation is None else rotation @ W


def simulate(
    W: Float[ndarray, "D m"],
    moment: Float[ndarray, "m m"],
    times: Float[ndarray, " T"],
    *,
    rtol: float = 1e-10,
    atol: float = 1e-12,
    method: Method = "DOP853",
) -> Simulation:
    """Gradient flow of ||W Gamma W^T - I||_F^2.

    Shapes
        States: `W` (T D m), and the descending eigenvalues `correlation` (T D) of C = W Gamma W^T.

    Raises
        UserError for an asymmetric Gamma, a W of another width, and a failed integration.
    """
    require(W.ndim == 2, "the shape of W", W.shape, "(outputs, inputs)")
    check_symmetric("the cross-moment", moment, W.shape[1])

    def field(_: float, state: Mapping[str, ndarray]) -> dict[str, ndarray]:
        return {"W": velocity(state["W"], moment)}

    run = integrate(field, {"W": W}, times, rtol=rtol, atol=atol, method=method)
    spectrum = np.linalg.eigvalsh(cross_correlation(run.states["W"], moment))[:, ::-1]
    return Simulation(run.times, run.states | {"correlation": spectrum})


def largest_step(gamma: Float[ndarray, " m"]) -> float:
    """Learning rate of gradient descent below which a learned mode is stable: 1 / (4 max gamma).

    Near c_j = 1 the deviation is multiplied by 1 - 8 gamma_j h at each step of size h.
    """
    largest = float(gamma.max())
    check_number("the largest eigenvalue of the cross-moment", largest, 0.0, strict=True)
    return 1 / (4 * largest)


def _check_start(start: ndarray, gamma: ndarray) -> None:
    require(
        start.ndim == 1 and start.shape == gamma.shape,
        "the shape of start",
        start.shape,
        f"that of gamma: {gamma.shape}",
    )
    check_values("start", start)
    check_finite("gamma", gamma)
