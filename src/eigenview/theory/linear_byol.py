"""BYOL with linear encoder and predictor: gradient flow of the exact expectation.

z = W x is the embedding, W_p z the prediction, W_a x' the target. The data enter through two matrices alone: X, the
second moment of the mean view of an image, and X_prime (the paper's X'), the mean covariance of its views.

Reference: Tian, Chen, Ganguli 2021, arXiv 2102.06810, Lemma 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from eigenview.errors import require
from eigenview.theory.simulation import Simulation, check_number, check_second_moment, check_square, integrate

if TYPE_CHECKING:
    from torch import Tensor

Matrix = TypeVar("Matrix", ndarray, "Tensor")

assumptions = (
    "Encoder, predictor and target are linear, the loss is the squared distance without normalisation, and training is "
    "full-batch gradient flow with weight decay. "
    "Only second moments of the data matter: two data sets with the same X and X' give the same curves. "
    "Fails with large steps, momentum, batch normalisation, normalised embeddings and deep encoders, whose features "
    "change while they are learned."
)


def expected_loss(W_p: Matrix, W: Matrix, W_a: Matrix, *, X: Matrix, X_prime: Matrix) -> Any:
    """J = 1/2 E |W_p W x1 - W_a x2|^2 over two independent views of an image, as a number; numpy arrays or tensors.

    Definition
        J = 1/2 [ <W_p W (X + X'), W_p W> - 2 <W_p W X, W_a> + <W_a (X + X'), W_a> ], from E[x1 x1^T] = X + X' and
        E[x2 x1^T] = X.

    Normalisation
        One direction and a factor 1/2: a quarter of `objectives.byol` with the Euclidean metric, which sums both
        directions without it.
    """
    P = W_p @ W
    S = X + X_prime
    return ((P @ S * P).sum() - 2 * (P @ X * W_a).sum() + (W_a @ S * W_a).sum()) / 2


def vector_field(
    W_p: Float[ndarray, "k k"],
    W: Float[ndarray, "k m"],
    W_a: Float[ndarray, "k m"],
    *,
    X: Float[ndarray, "m m"],
    X_prime: Float[ndarray, "m m"],
    alpha_p: float = 1.0,
    beta: float = 0.0,
    eta: float = 0.0,
    stop_gradient: bool = True,
) -> dict[str, ndarray]:
    """Rates of W_p, W and W_a.

    Definition
        W_p' = alpha_p R W^T - eta W_p,   R = -W_p W (X + X') + W_a X,
        W'   = W_p^T R - eta W,
        W_a' = beta (W - W_a),
        minus the gradients of `expected_loss` plus weight decay, W_a held constant. Without stop-gradient (W_a = W) the
        target's branch adds W_p W X - W (X + X') to W'.

    Ranges
        alpha_p: learning rate of the predictor over the encoder's. beta: rate at which the target catches up, the
        opposite of BYOL's retention tau (beta = (1 - tau) / step size). eta: weight decay.
    """
    S = X + X_prime
    R = -W_p @ W @ S + W_a @ X
    W_rate = W_p.T @ R - eta * W
    if not stop_gradient:
        W_rate += W_p @ W @ X - W @ S
    return {"W_p": alpha_p * R @ W.T - eta * W_p, "W": W_rate, "W_a": beta * (W - W_a)}


def simulate(
    W: Float[ndarray, "k m"],
    times: Float[ndarray, " T"],
    *,
    W_p: Float[ndarray, "k k"] | None,
    W_a: Float[ndarray, "k m"] | None = None,
    X: Float[ndarray, "m m"],
    X_prime: Float[ndarray, "m m"],
    alpha_p: float = 1.0,
    beta: float | None = None,
    eta: float = 0.0,
    stop_gradient: bool = True,
) -> Simulation:
    """Integrate `vector_field` from the given matrices.

    Definition
        W_p None: no predictor (W_p = I throughout). beta None: the target is the online encoder, W_a = W; a number: W_a
        is a state of its own that follows W at that rate, from `W_a` (default: a copy of W). `stop_gradient=False`:
        both branches are trained, for which there is no target network (beta None).

    Shapes
        States W (T k m), and W_p (T k k), W_a (T k m) where they move.

    Raises
        UserError for X or X_prime that is not symmetric or has a negative variance, a W_p that is not square, shapes
        that do not fit, negative rates, a target network without stop-gradient, and a failed integration.
    """
    require(W.ndim == 2, "the shape of W", W.shape, "embedding width, input width")
    k, m = W.shape
    check_second_moment("X", X, m)
    check_second_moment("X_prime", X_prime, m)
    for name, value in (("alpha_p", alpha_p), ("beta", beta or 0.0), ("eta", eta)):
        check_number(name, value, 0)
    start: dict[str, ndarray] = {"W": W}
    if W_p is not None:
        check_square("W_p", W_p, k)
        start["W_p"] = W_p
    if beta is None:
        require(W_a is None, "beta", beta, "a rate, where W_a is given", "Leave W_a out for a target equal to W.")
    else:
        require(stop_gradient, "beta", beta, "None without stop-gradient: there is no target network then")
        target = W if W_a is None else W_a
        require(target.shape == W.shape, "the shape of W_a", target.shape, f"that of W, {W.shape}")
        start["W_a"] = target
    identity = np.eye(k)

    def field(_: float, state: Mapping[str, ndarray]) -> dict[str, ndarray]:
        rates = vector_field(
            state.get("W_p", identity),
            state["W"],
            state.get("W_a", state["W"]),
            X=X,
            X_prime=X_prime,
            alpha_p=alpha_p,
            beta=beta or 0.0,
            eta=eta,
            stop_gradient=stop_gradient,
        )
        return {name: rates[name] for name in state}

    return integrate(field, start, times)


def without_predictor(
    W: Float[ndarray, "k m"], t: float, *, X_prime: Float[ndarray, "m m"], eta: float = 0.0
) -> Float[ndarray, "k m"]:
    """W(t) = W(0) expm(-t (X' + eta I)): without a predictor, and with W_a = W, W' = -W (X' + eta I).

    Every direction that views change decays at the rate of its variance, so that the encoder collapses (onto the
    directions without view noise at eta = 0, onto nothing for eta > 0). With X' = sigma2 I: W(0) e^(-(sigma2 + eta) t).
    """
    require(W.ndim == 2, "the shape of W", W.shape, "embedding width, input width")
    check_second_moment("X_prime", X_prime, W.shape[1])
    check_number("eta", eta, 0)
    check_number("t", t, 0)
    variances, U = np.linalg.eigh(X_prime)
    return W @ (U * np.exp(-t * (variances + eta))) @ U.T


def operator_without_stop_gradient(
    W_p: Float[ndarray, "k k"], *, X: Float[ndarray, "m m"], X_prime: Float[ndarray, "m m"], eta: float = 0.0
) -> Float[ndarray, "km km"]:
    """H of vec(W)' = -H vec(W) without stop-gradient, for the current W_p; vec stacks columns.

    H = X' (x) (W_p^T W_p + I) + X (x) (W_p - I)^T (W_p - I) + eta I, (x) the Kronecker product. Positive semi-definite:
    |W| never grows, whatever the predictor does, and with view noise in every direction or eta > 0 it goes to zero.
    """
    check_square("W_p", W_p)
    check_second_moment("X", X)
    check_second_moment("X_prime", X_prime, len(X))
    check_number("eta", eta, 0)
    identity = np.eye(len(W_p))
    gap = W_p - identity
    H = np.kron(X_prime, W_p.T @ W_p + identity) + np.kron(X, gap.T @ gap)
    return H + eta * np.eye(len(H))
