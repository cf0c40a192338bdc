"""The curves that the linear theory predicts for a run: from its measured modes to eigenvalues of F and W_p over time.

Mode by mode, p of W_p and s of F (of mean views) obey `theory.eigenvalues`. A run gives every number in those equations
except one. Its learning rate, weight decay, alpha_p and target momentum are options or in its log; the views' noise
along each mode and the start of every mode are measured. How far a unit of learning rate moves the modes, the time
scale, is known only for plain SGD on a linear network; theory_fit.py fits it, one number for all modes and epochs.

Reference: Tian, Chen, Ganguli 2021, arXiv 2102.06810, section 3.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy import ndarray

from eigenview.theory import eigenvalues
from eigenview.theory.simulation import integrate


@dataclass(frozen=True, kw_only=True)
class ModeHistory:
    """What a run recorded of its leading modes, from the diagnosis at which the theory starts."""

    steps: ndarray
    """(T) of the diagnoses."""
    F: ndarray
    """(T M) eigenvalues of the second moment of z over augmented views, largest first."""
    W_p: ndarray
    """(T M) of the predictor along the same modes."""
    sigma2: ndarray
    """(M) variance of the views of an image over that of the mean view."""
    tau: ndarray
    """(M) the target's weight over the encoder's at the start."""
    learning_rate: tuple[ndarray, ndarray]
    """Steps and the learning rate there."""
    target_momentum: tuple[ndarray, ndarray] | None
    """Steps and the share of the target network that is kept there; None without a target network."""
    decay: float
    """Weight decay of the encoder, per unit of learning rate."""
    predictor_decay: float
    """Weight decay of the predictor, per unit of the predictor's learning rate (alpha_p times the encoder's)."""
    alpha_p: float
    """Learning rate of the predictor over that of the encoder."""
    predictor: Callable[[ndarray], ndarray] | None
    """Eigenvalues of F (M) -> eigenvalues of W_p (M), if the predictor is computed; None if it is learned."""
    passes_predictor: bool = True
    """Whether the gradient reaches z through W_p; in IsoLoss it does not."""


def curves(history: ModeHistory, scale: float, steps: ndarray) -> tuple[ndarray, ndarray]:
    """(F, W_p), each (steps M), that the theory predicts at a time scale, each row sorted by F.

    One step at learning rate r advances time by dt = scale * r; the weights decay by decay * r = eta dt, and the target
    moves by 1 - target momentum. F over augmented views is (1 + sigma2) s.

    Raises: UserError if the integration fails.
    """
    a = 1 + history.sigma2

    def field(step: float, y: Mapping[str, ndarray]) -> dict[str, ndarray]:
        rate = float(np.interp(step, *history.learning_rate))
        s, tau = y["s"], y.get("tau", history.tau)
        p = y["p"] if history.predictor is None else history.predictor(a * s)
        rates = eigenvalues.vector_field(
            p,
            s,
            tau,
            alpha_p=history.alpha_p,
            eta=history.decay / scale,
            sigma2=cast(Any, history.sigma2),  # one for each mode
        )
        growth = p * (tau - a * p)
        if not history.passes_predictor:  # w' = (tau - a p) w, without the factor W_p
            difference = (tau - a * p) - growth
            rates["s"] += 2 * s * difference
            rates["tau"] -= tau * difference
        # the theory has one eta; an optimiser decays the predictor alpha_p predictor_decay / decay times as fast
        extra_decay = history.decay - history.alpha_p * history.predictor_decay
        moved = {name: rate * scale * rates[name] for name in y}
        if "p" in y:
            moved["p"] += rate * extra_decay * p
        if history.target_momentum is not None:
            moved["tau"] += (1 - np.interp(step, *history.target_momentum)) * (1 - tau)
        return moved

    start = {"s": history.F[0] / a}
    if history.predictor is None:
        start["p"] = history.W_p[0]
    if history.target_momentum is not None:
        start["tau"] = history.tau
    states = integrate(field, start, steps, rtol=1e-7, atol=1e-10, method="LSODA").states
    F = a * states["s"]
    W_p = states["p"] if history.predictor is None else np.stack([history.predictor(row) for row in F])
    order = np.argsort(-F, axis=1, kind="stable")
    return np.take_along_axis(F, order, 1), np.take_along_axis(W_p, order, 1)
