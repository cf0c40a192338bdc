"""The minimum of VICReg as it is trained: leading eigenfunctions of T_M, with energies by water-filling.

`spectral` replaces hinge and covariance term by one penalty; here they are VICReg's. On an augmentation graph (see
`augmentation_graph`), for D centred features F with covariance C = F^T Pi F,

    D L = 2 lambda sum_j <f_j, (I - T_M) f_j> + mu sum_j max(0, gamma - sqrt(C_jj + eps))
          + 2 nu sum over i != j of C_ij^2.

Centring removes the constant function, so of the eigenvalues 1 = lambda_0 >= lambda_1 >= ... of T_M the D after the
first matter.

For a given C, with eigenvalues c_1 >= ... >= c_D, the first term is smallest if the k-th principal direction of F is
the k-th of these eigenfunctions (von Neumann's trace inequality): for any weights the features span leading
eigenfunctions, and the weights determine how many. If every C_jj = v, which can always be reached by a rotation of the
features (Schur and Horn), the remaining problem is

    D L = sum_k 2 lambda (1 - lambda_k) c_k + 2 nu (sum_k c_k^2 - D v^2) subject to sum_k c_k = D v,
    c_k = max(0, level - (lambda / (2 nu)) (1 - lambda_k)),

with the level that satisfies the constraint. The hinge keeps v = gamma^2 - eps, where it becomes zero, as long as its
slope mu / (2 gamma) exceeds the cost of a unit of variance in the other terms, at most 2 lambda (1 - lambda_D). Hence
the condition mu >= 4 gamma lambda (1 - lambda_D); below it features of unequal variance can be better, and there is no
closed form. That equal variances are optimal under this condition is not proved; it was found by gradient descent from
many starts (tests/theory/test_vicreg.py).

Reference: the objective: Bardes, Ponce, LeCun 2022, arXiv 2105.04906, in the code's convention; T_M: Ghosh, Agrawal,
Sodhani, Oberman, Richards 2023, arXiv 2312.10725. The minimum is derived here.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from eigenview.errors import require
from eigenview.theory.augmentation_graph import measure, operator
from eigenview.theory.simulation import check_number

assumptions = (
    "Features are free functions on a finite graph or in the continuum, at the minimum of the expected loss: they are "
    "not limited by a network, covariances and standard deviations are exact and not batch estimates, no weight decay."
)


def energies(
    values: Float[ndarray, " D"],
    *,
    invariance: float = 25.0,
    variance: float = 25.0,
    covariance: float = 1.0,
    gamma: float = 1.0,
    eps: float = 1e-4,
) -> Float[ndarray, " D"]:
    """Eigenvalues c_k of the covariance of D features at the minimum, descending; 0 for a lost dimension.

    `values` are the D leading eigenvalues of T_M after the constant's, descending; D is the width of the embedding. The
    weights are those of `VICRegConfig`. The c_k sum to D (gamma^2 - eps); as `covariance` tends to 0, c_1 is all of it.

    Raises
        UserError if the eigenvalues are not descending or above 1, a weight is not above 0, eps is not below gamma^2,
        or the variance weight is too small to keep every standard deviation at gamma.
    """
    v = _variance(values, invariance, gamma, eps)
    check_number("covariance", covariance, 0.0, strict=True)
    enough = 4 * gamma * invariance * float(1 - values[-1])
    require(variance >= enough, "variance", variance, f"{enough:.4g} or more, 4 gamma invariance (1 - the last value)")
    cost = invariance / (2 * covariance) * (1 - values)
    active = int((needed_covariance(values, invariance=invariance, gamma=gamma, eps=eps) < covariance).sum())
    level = (len(values) * v + cost[:active].sum()) / active
    return np.maximum(0.0, level - cost)


def needed_covariance(
    values: Float[ndarray, " D"], *, invariance: float = 25.0, gamma: float = 1.0, eps: float = 1e-4
) -> Float[ndarray, " D"]:
    """lambda sum over i < k of (lambda_i - lambda_k) / (2 D v): the covariance weight above which mode k is learned.

    v = gamma^2 - eps. Ascending from 0. For eigenvalues of T_M that fall fast it is proportional to lambda / D.

    Raises
        UserError as `energies`, for the arguments that it has.
    """
    v = _variance(values, invariance, gamma, eps)
    above = np.cumsum(values) - np.arange(1, len(values) + 1) * values
    return invariance * np.maximum(above, 0.0) / (2 * len(values) * v)


def loss(
    F: Float[ndarray, "n D"],
    weights: Float[ndarray, "n n"],
    *,
    invariance: float = 25.0,
    variance: float = 25.0,
    covariance: float = 1.0,
    gamma: float = 1.0,
    eps: float = 1e-4,
) -> float:
    """The expected loss L of a table of features, for pairs of views drawn with the graph's weights and N to infinity.

    Normalised as `eigenview.methods.vicreg`: this is L, not D L.
    """
    pi, width = measure(weights), F.shape[1]
    f = F - pi @ F
    C = (f.T * pi) @ f
    v = np.diagonal(C)
    invariance_term = 2 * float(pi @ (f * (f - operator(weights) @ f)).sum(axis=1))
    variance_term = float(np.maximum(0.0, gamma - np.sqrt(v + eps)).sum())
    covariance_term = float(np.square(C).sum() - np.square(v).sum())
    return (invariance * invariance_term + variance * variance_term + 2 * covariance * covariance_term) / width


def _variance(values: ndarray, invariance: float, gamma: float, eps: float) -> float:
    """v = gamma^2 - eps, after checking all arguments."""
    check_number("invariance", invariance, 0.0, strict=True)
    check_number("gamma", gamma, 0.0, strict=True)
    check_number("eps", eps, 0.0)
    require(eps < gamma**2, "eps", eps, f"below gamma^2 = {gamma**2:g}")
    ok = len(values) > 0 and bool(np.isfinite(values).all() and (np.diff(values) <= 0).all() and values[0] <= 1)
    require(ok, "values", values, "one or more eigenvalues of T_M, descending, none above 1")
    return gamma**2 - eps
