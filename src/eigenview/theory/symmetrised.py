"""Linear BYOL with a symmetric predictor: when the eigenvectors of W_p and F become the same (alignment).

F = W X W^T is the embeddings' second moment. With X = I, X' = sigma2 I and W_a = tau W the rates of W_p and F
depend on W_p and F only, and the commutator [F, W_p] = F W_p - W_p F obeys [F, W_p]' = -{K, [F, W_p]}: it decays if K
(`alignment_matrix`) is positive definite.

Reference: Tian, Chen, Ganguli 2021, arXiv 2102.06810, section 3.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from eigenview.theory.simulation import (
    Simulation,
    check_nonnegative,
    check_number,
    check_per_mode,
    check_second_moment,
    check_symmetric,
    check_values,
    integrate,
)

assumptions = (
    "Linear BYOL with inputs of unit second moment, isotropic view noise sigma2, a target tau times the encoder, and a "
    "predictor that stays symmetric. "
    "The symmetric predictor is a simplification for the analysis: trained ones are only nearly symmetric, and forcing "
    "symmetry without a target network costs accuracy (36.6 instead of 72.9 percent on STL-10). "
    "F is that of the mean views; measured over augmented views it is 1 + sigma2 times as large."
)


def anticommutator(A: Float[ndarray, "k k"], B: Float[ndarray, "k k"]) -> Float[ndarray, "k k"]:
    """{A, B} = A B + B A."""
    return A @ B + B @ A


def vector_field(
    W_p: Float[ndarray, "k k"],
    F: Float[ndarray, "k k"],
    *,
    alpha_p: float,
    tau: float,
    eta: float,
    sigma2: float,
    symmetrise: bool = True,
) -> dict[str, ndarray]:
    """Rates of W_p and F.

    Definition
        W_p' = -(alpha_p / 2) (1 + sigma2) {W_p, F} + alpha_p tau F - eta W_p,
        F'   = -(1 + sigma2) {W_p^2, F} + tau {W_p, F} - 2 eta F.
        `symmetrise=False`: gradient flow without symmetrising W_p: W_p F replaces {W_p, F} / 2 in W_p', and in F'
        W_p^T W_p replaces W_p^2 and W_p^T F + F W_p replaces {W_p, F}. W_p then does not stay symmetric.

    Ranges
        alpha_p: ratio of the predictor's learning rate to the encoder's; tau: weight of the target relative to the
        encoder's; eta: weight decay; sigma2: variance of the view noise.
    """
    a = 1 + sigma2
    if symmetrise:
        product = anticommutator(W_p, F)
        W_p_rate = -(alpha_p / 2) * a * product + alpha_p * tau * F - eta * W_p
        F_rate = -a * anticommutator(W_p @ W_p, F) + tau * product - 2 * eta * F
    else:
        W_p_rate = -alpha_p * a * W_p @ F + alpha_p * tau * F - eta * W_p
        F_rate = -a * anticommutator(W_p.T @ W_p, F) + tau * (W_p.T @ F + F @ W_p) - 2 * eta * F
    return {"W_p": W_p_rate, "F": F_rate}


def simulate(
    W_p: Float[ndarray, "k k"],
    F: Float[ndarray, "k k"],
    times: Float[ndarray, " T"],
    *,
    alpha_p: float = 1.0,
    tau: float = 1.0,
    eta: float = 0.0,
    sigma2: float = 0.0,
    symmetrise: bool = True,
) -> Simulation:
    """Integrate `vector_field`: states W_p (T k k) and F (T k k).

    Raises
        UserError if W_p or F is not square and symmetric, F has a negative eigenvalue, alpha_p, tau, eta or sigma2 is
        negative, or the integration fails.
    """
    check_nonnegative(alpha_p=alpha_p, tau=tau, eta=eta, sigma2=sigma2)
    check_symmetric("W_p", W_p)
    check_second_moment("F", F, len(W_p))
    return integrate(
        lambda _, y: vector_field(
            y["W_p"], y["F"], alpha_p=alpha_p, tau=tau, eta=eta, sigma2=sigma2, symmetrise=symmetrise
        ),
        {"W_p": W_p, "F": F},
        times,
    )


def perturbed_start(
    p: Float[ndarray, " k"], s: Float[ndarray, " k"], size: float, seed: int = 0
) -> tuple[Float[ndarray, "k k"], Float[ndarray, "k k"]]:
    """Initial (W_p, F): diag(p) plus a symmetric Gaussian matrix, and diag(s).

    The Gaussian matrix is size (G + G^T) / 2 with independent standard normal entries of G: its standard deviation is
    size on the diagonal and size / sqrt(2) off it.

    Raises
        UserError for p and s of different shapes, a negative s, or a negative size.
    """
    check_per_mode("p", p, "s", s)
    check_values("s", s)
    check_number("size", size, 0)
    noise = np.random.default_rng(seed).standard_normal((len(p), len(p)))
    return np.diag(p) + size * (noise + noise.T) / 2, np.diag(s)


def relative_commutator(W_p: Float[ndarray, "*T k k"], F: Float[ndarray, "*T k k"]) -> Float[ndarray, "*T"]:
    """|F W_p - W_p F| / (|F| |W_p|), Frobenius norms: between 0 (same eigenvectors) and sqrt(2).

    0 if one of the matrices is 0.
    """
    gap = np.linalg.norm(F @ W_p - W_p @ F, axis=(-2, -1))
    size = np.linalg.norm(F, axis=(-2, -1)) * np.linalg.norm(W_p, axis=(-2, -1))
    return np.divide(gap, size, out=np.zeros_like(gap), where=size > 0)


def time_to_align(simulation: Simulation, threshold: float = 1e-4) -> float:
    """First of the simulated times after which the relative commutator stays below `threshold`; infinity if none."""
    check_number("threshold", threshold, 0, strict=True)
    above = relative_commutator(simulation.states["W_p"], simulation.states["F"]) >= threshold
    if above[-1]:
        return float("inf")
    return float(simulation.times[0 if not above.any() else np.flatnonzero(above)[-1] + 1])


def alignment_matrix(
    W_p: Float[ndarray, "k k"], F: Float[ndarray, "k k"], *, alpha_p: float, tau: float, eta: float, sigma2: float
) -> Float[ndarray, "k k"]:
    """K of [F, W_p]' = -{K, [F, W_p]}: the commutator decays if K is positive definite.

    K = (1 + sigma2) W_p^2 - tau W_p + (alpha_p / 2) (1 + sigma2) F + (3 / 2) eta I, from `vector_field` by the product
    rule. Its smallest eigenvalue bounds the decay: |[F, W_p]|' <= -2 lambda_min(K) |[F, W_p]|.
    """
    check_nonnegative(alpha_p=alpha_p, tau=tau, eta=eta, sigma2=sigma2)
    check_symmetric("W_p", W_p)
    check_symmetric("F", F, len(W_p))
    a = 1 + sigma2
    return a * (W_p @ W_p) - tau * W_p + alpha_p / 2 * a * F + 1.5 * eta * np.eye(len(W_p))


def alignment_margin(p: ndarray, s: ndarray, *, alpha_p: float, tau: float, eta: float, sigma2: float) -> ndarray:
    """Per mode 1/2 [alpha_p (1 + sigma2) s + 3 eta] - p [tau - (1 + sigma2) p]: W_p and F align if all are positive.

    These are the eigenvalues of `alignment_matrix` if W_p and F have the same eigenvectors. More weight decay, a faster
    predictor (alpha_p) and a smaller target (tau) raise them. Sufficient, not necessary.
    """
    check_nonnegative(alpha_p=alpha_p, tau=tau, eta=eta, sigma2=sigma2)
    check_values("s", s)
    a = 1 + sigma2
    return (alpha_p * a * s + 3 * eta) / 2 - p * (tau - a * p)
