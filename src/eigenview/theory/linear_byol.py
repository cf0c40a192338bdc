"""BYOL with linear encoder and predictor: gradient flow of the exact expectation.

z = W x is the embedding, W_p z the prediction, W_a x' the target. The data enter only through two matrices: X, the
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
from eigenview.theory.simulation import (
    Simulation,
    check_nonnegative,
    check_second_moment,
    check_square,
    integrate,
)

if TYPE_CHECKING:
    from torch import Tensor

Matrix = TypeVar("Matrix", ndarray, "Tensor")

assumptions = (
    "Encoder, predictor and target are linear, the loss is the squared distance without normalisation, and training is "
    "full-batch gradient flow with weight decay. "
    "Only second moments of the data matter: two data sets with the same X and X' give the same curves. "
    "Does not hold for large steps, momentum, batch normalisation, normalised embeddings and deep encoders, whose "
    "features change during training."
)


def expected_loss(W_p: Matrix, W: Matrix, W_a: Matrix, *, X: Matrix, X_prime: Matrix) -> Any:
    """J = 1/2 E |W_p W x1 - W_a x2|^2 over two independent views of an image, as a number; numpy arrays or tensors.

    Definition
        J = 1/2 [ <W_p W (X + X'), W_p W> - 2 <W_p W X, W_a> + <W_a (X + X'), W_a> ], from E[x1 x1^T] = X + X' and
        E[x2 x1^T] = X.

    Normalisation
        One direction (view 1 predicts view 2) and a factor 1/2. `eigenview.methods.byol` with the Euclidean metric sums
        both directions without the factor, so its value is 4 J.
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
        minus the gradients of `expected_loss` at constant W_a, minus weight decay. Without stop-gradient (W_a = W) the
        gradient through the target adds W_p W X - W (X + X') to W'.

    Ranges
        alpha_p: ratio of the predictor's learning rate to the encoder's. beta: rate at which the target network follows
        the encoder, (1 - tau) / step size for BYOL's momentum tau. eta: weight decay.
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
        is a separate state that follows W at that rate, initially `W_a` (default: a copy of W). `stop_gradient=False`:
        both branches are trained; requires beta None (no target network).

    Shapes
        States W (T k m), and W_p (T k k) and W_a (T k m) if they are states.

    Raises
        UserError if X or X_prime is not symmetric or has a negative variance, W_p is not square, shapes do not match, a
        rate is negative, a target network is combined with stop_gradient=False, or the integration fails.
    """
    require(W.ndim == 2, "the shape of W", W.shape, "embedding width, input width")
    k, m = W.shape
    check_second_moment("X", X, m)
    check_second_moment("X_prime", X_prime, m)
    check_nonnegative(alpha_p=alpha_p, beta=beta or 0.0, eta=eta)
    start: dict[str, ndarray] = {"W": W}
    if W_p is not None:
        check_square("W_p", W_p, k)
        start["W_p"] = W_p
    if beta is None:
        require(W_a is None, "beta", beta, "a number if W_a is given", "Leave W_a out for a target equal to W.")
    else:
        require(stop_gradient, "beta", beta, "None without stop-gradient, for which there is no target network")
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

    Every direction decays at the rate of its view noise plus eta, so the encoder collapses: for eta = 0 onto the
    directions without view noise, for eta > 0 to zero. With X' = sigma2 I: W(0) e^(-(sigma2 + eta) t).
    """
    require(W.ndim == 2, "the shape of W", W.shape, "embedding width, input width")
    check_second_moment("X_prime", X_prime, W.shape[1])
    check_nonnegative(eta=eta, t=t)
    variances, U = np.linalg.eigh(X_prime)
    return W @ (U * np.exp(-t * (variances + eta))) @ U.T


def operator_without_stop_gradient(
    W_p: Float[ndarray, "k k"], *, X: Float[ndarray, "m m"], X_prime: Float[ndarray, "m m"], eta: float = 0.0
) -> Float[ndarray, "km km"]:
    """The matrix H of vec(W)' = -H vec(W) without stop-gradient, for the current W_p; vec stacks columns.

    H = X' (x) (W_p^T W_p + I) + X (x) (W_p - I)^T (W_p - I) + eta I, (x) the Kronecker product. H is positive
    semi-definite, so |W| never grows, for any predictor; with view noise in every direction or eta > 0 it goes to zero.
    """
    check_square("W_p", W_p)
    check_second_moment("X", X)
    check_second_moment("X_prime", X_prime, len(X))
    check_nonnegative(eta=eta)
    identity = np.eye(len(W_p))
    gap = W_p - identity
    H = np.kron(X_prime, W_p.T @ W_p + identity) + np.kron(X, gap.T @ gap)
    return H + eta * np.eye(len(H))
