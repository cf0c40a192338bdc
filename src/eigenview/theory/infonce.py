"""InfoNCE with a linear network: negatives make the weights grow, augmentation makes them shrink.

For z = W x the summed loss of `eigenview.methods.infonce` (temperature 1) has, for every eps,

    W' = -dL/dW = W (Sigma_0 - Sigma_aug),
    Sigma_0 = sum over i, j of alpha_ij (x_i - x_j)(x_i - x_j)^T,
    Sigma_aug = sum over i of (sum over j of alpha_ij) (x_i - x_i')(x_i - x_i')^T.

This is an identity, not an approximation: alpha depends on the current W. With the mean over the N samples instead of
the sum the velocity is divided by N: a time t of the mean loss is a time t / N here.

Reference: Jing, Vincent, LeCun, Tian 2022, arXiv 2110.09348, lemma 2 and theorem 1; alpha and eps: Tian 2022,
arXiv 2201.12680.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from eigenview.errors import UserError, require
from eigenview.theory.simulation import (
    Method,
    Simulation,
    check_finite,
    check_nonnegative,
    check_symmetric,
    check_values,
    integrate,
)

assumptions = (
    "A linear network z = W x without normalisation, squared distances halved, temperature 1, one fixed batch and "
    "gradient flow; for such a network the velocity is exact. "
    "The closed form assumes a constant Sigma_0 - Sigma_aug, which is accurate only while W changes little: as the "
    "embedding grows, the weights alpha concentrate on near neighbours and Sigma_0 falls. "
    "Does not cover cosine losses, biases, nonlinear networks, momentum and changing batches."
)

LARGEST_EXPONENT = 300.0
"""exp of twice as much is a float64, and lengths are sums of squares."""


class Covariances(NamedTuple):
    """The two weighted scatter matrices of the inputs, both symmetric and positive semi-definite."""

    negatives: Float[ndarray, "m m"]
    """Sigma_0, from pairs of different samples."""
    augmentation: Float[ndarray, "m m"]
    """Sigma_aug, from the two views of each sample."""

    @property
    def difference(self) -> Float[ndarray, "m m"]:
        """Sigma_0 - Sigma_aug: W shrinks along its eigenvectors of negative eigenvalue."""
        return self.negatives - self.augmentation


def pair_weights(z: Float[ndarray, "N D"], z_prime: Float[ndarray, "N D"], eps: float) -> Float[ndarray, "N N"]:
    """alpha_ij = e^{-d_ij^2} / (eps e^{-d_i^2} + sum over k != i of e^{-d_ik^2}), 0 on the diagonal.

    d_ij^2 = |z_i - z_j|^2 / 2, d_i^2 = |z_i - z_i'|^2 / 2. Row i sums to 1 less the positive's share: to 1 for eps = 0.
    """
    # imported late: `simulate NAME --help` must not wait for scipy
    from scipy.special import softmax  # pyright: ignore[reportMissingTypeStubs, reportUnknownVariableType]

    y = z - z.mean(axis=0)  # leaves distances unchanged, and avoids cancellation in the dot products
    half = np.square(y).sum(axis=1) / 2
    logits = y @ y.T - half - half[:, None]
    np.fill_diagonal(logits, (math.log(eps) if eps > 0 else -math.inf) - np.square(z - z_prime).sum(axis=1) / 2)
    alpha: ndarray = softmax(logits, axis=1)
    np.fill_diagonal(alpha, 0.0)
    return alpha


def covariances(x: Float[ndarray, "N m"], x_prime: Float[ndarray, "N m"], alpha: Float[ndarray, "N N"]) -> Covariances:
    """Sigma_0 and Sigma_aug of the inputs for the weights alpha, in O(N^2 m).

    With row sums r and column sums c, Sigma_0 = x^T (diag(r + c) - alpha - alpha^T) x. The matrix in the middle is a
    graph Laplacian, whose result depends on differences only, so x is centred first to avoid cancellation.
    """
    y = x - x.mean(axis=0)
    rows, columns = alpha.sum(axis=1), alpha.sum(axis=0)
    cross = y.T @ alpha @ y
    negatives = (y.T * (rows + columns)) @ y - cross - cross.T
    shift = x - x_prime
    return Covariances((negatives + negatives.T) / 2, (shift.T * rows) @ shift)


def difference(
    W: Float[ndarray, "D m"], x: Float[ndarray, "N m"], x_prime: Float[ndarray, "N m"], eps: float
) -> Float[ndarray, "m m"]:
    """Sigma_0 - Sigma_aug with the pair weights of z = W x.

    At W = 0 all weights are 1 / (N - 1 + eps), and the difference is N (N - 1) / (N - 1 + eps) times
    2 Cov(x) - mean of (x_i - x_i')(x_i - x_i')^T, Cov with N - 1. So a network of small weights loses exactly the
    directions in which the views' mean squared difference is more than twice the variance of the data.
    """
    return covariances(x, x_prime, pair_weights(x @ W.T, x_prime @ W.T, eps)).difference


def velocity(
    W: Float[ndarray, "D m"], x: Float[ndarray, "N m"], x_prime: Float[ndarray, "N m"], eps: float
) -> Float[ndarray, "D m"]:
    """W' = W (Sigma_0 - Sigma_aug), minus the gradient of the sum of `info_nce_terms`."""
    return W @ difference(W, x, x_prime, eps)


def num_lost(constant: Float[ndarray, "m m"]) -> int:
    """Number of input directions along which W goes to 0 for a constant Sigma_0 - Sigma_aug: its negative eigenvalues.

    Eigenvalues above -1e-12 of the largest in absolute value count as 0. The limit of W has rank m minus this number,
    or W's initial rank if that is smaller.
    """
    check_symmetric("difference", constant)
    values = np.linalg.eigvalsh(constant)
    return int((values < -1e-12 * np.abs(values).max()).sum())


def solution(
    start: Float[ndarray, "D m"], constant: Float[ndarray, "m m"], times: Float[ndarray, " T"]
) -> Float[ndarray, "T D m"]:
    """W(t) = W(0) exp(t (Sigma_0 - Sigma_aug)) for a constant difference; t is counted from the start.

    Along an eigenvector v of eigenvalue mu, |W(t) v| = |W(0) v| e^{mu t}.

    Raises
        UserError if the difference is not symmetric or does not match the width of W, or a time is negative, or if W
        grows beyond what a float64 holds.
    """
    check_symmetric("difference", constant, start.shape[-1])
    check_values("times", times)
    values, vectors = np.linalg.eigh(constant)
    last, growth = float(np.max(times, initial=0.0)), float(np.max(values, initial=0.0))
    if last * growth > LARGEST_EXPONENT:
        raise UserError(
            f"W grows as exp({growth:.3g} t) and is no number any more at t = {last:g}; allowed here: up to "
            f"{LARGEST_EXPONENT / growth:.3g}. Give an earlier end."
        )
    return (start @ vectors * np.exp(np.multiply.outer(times, values))[:, None]) @ vectors.T


def simulate(
    W: Float[ndarray, "D m"],
    x: Float[ndarray, "N m"],
    x_prime: Float[ndarray, "N m"],
    times: Float[ndarray, " T"],
    *,
    eps: float = 1.0,
    rtol: float = 1e-8,
    atol: float = 1e-10,
    method: Method = "DOP853",
) -> Simulation:
    """Gradient flow of the summed loss on one batch, with alpha evaluated for the current W.

    Shapes
        x and x_prime (N m): one pair of views per row. States: `W` (T D m), its `singular_values` (T min(D, m)) and the
        `eigenvalues` (T m) of Sigma_0 - Sigma_aug, both descending.

    Raises
        UserError for inputs of different shapes or widths, fewer than 2 samples, entries that are not finite, a
        negative eps, and a failed integration. With eps = 0 the embedding grows without bound.
    """
    check_pairs(W, x, x_prime, eps)

    def field(_: float, state: Mapping[str, ndarray]) -> dict[str, ndarray]:
        return {"W": velocity(state["W"], x, x_prime, eps)}

    run = integrate(field, {"W": W}, times, rtol=rtol, atol=atol, method=method)
    weights = run.states["W"]
    spectra = [np.linalg.eigvalsh(difference(w, x, x_prime, eps))[::-1] for w in weights]
    derived = {"singular_values": np.linalg.svd(weights, compute_uv=False), "eigenvalues": np.stack(spectra)}
    return Simulation(run.times, run.states | derived)


def gaussian_pairs(samples: int, noise: Float[ndarray, " m"], seed: int) -> tuple[ndarray, ndarray]:
    """(x, x') with x standard normal and x' = x + noise of the given standard deviation in each coordinate.

    All coordinates have equal variance, so the noise alone decides which are kept. The example of Jing et al. has 16
    coordinates and noise on the last 8. Both arrays are (samples, m).

    Raises
        UserError for fewer than 2 samples or a negative standard deviation.
    """
    require(samples >= 2, "samples", samples, "2 or more: every sample needs a negative")
    noise = np.asarray(noise, dtype=np.float64)
    require(noise.ndim == 1, "the shape of noise", noise.shape, "one standard deviation per coordinate")
    check_values("noise", noise)
    generator = np.random.default_rng(seed)
    x = generator.standard_normal((samples, len(noise)))
    return x, x + noise * generator.standard_normal(x.shape)


def check_pairs(W: ndarray, x: ndarray, x_prime: ndarray, eps: float) -> None:
    """Raise UserError unless x, x_prime are finite (N m) arrays, N >= 2, m the columns of W, and eps is 0 or more."""
    shape = x.shape
    require(x.ndim == 2 and shape[0] >= 2, "the shape of x", shape, "(samples, inputs) with 2 samples or more")
    require(x_prime.shape == shape, "the shape of x_prime", x_prime.shape, f"that of x, {shape}")
    require(W.ndim == 2 and W.shape[1] == shape[1], "the shape of W", W.shape, f"(outputs, {shape[1]}), the width of x")
    check_finite("x and x_prime", x, x_prime)
    check_nonnegative(eps=eps)
