"""The fit of the time scale, the only free number of the linear theory, and the prediction that it gives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy import ndarray
from scipy.optimize import minimize_scalar  # pyright: ignore[reportMissingTypeStubs, reportUnknownVariableType]

from eigenview.errors import UserError
from eigenview.report.theory_curves import ModeHistory, curves
from eigenview.report.theory_residual import Residual, mode_sizes, residual

SCALES = np.geomspace(1e-5, 1e4, 19)
"""Time scales tried before the best of them is refined."""
FINE = 200  # points of a predicted curve, for drawing


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """The theory's curves for a `ModeHistory`, sorted by rank as in a diagnosis, and their residuals."""

    scale: float
    """Fitted: one step advances the theory's time by this times the learning rate."""
    steps: ndarray
    """(L) of the curves; the diagnoses are among them."""
    F: ndarray
    """(L M)"""
    W_p: ndarray
    """(L M)"""
    residuals: dict[str, Residual]
    """Of "F" and "W_p"."""
    beats_no_change: bool
    """Whether the best time scale is closer to the run than the prediction that no mode ever changes."""


def predict(history: ModeHistory) -> Prediction:
    """The curves at the time scale with the least mean absolute error of F and W_p, relative in each mode.

    Absolute, not squared: a mode that departs from the theory must not pull the fit of the others.

    Raises: UserError if the equations can be integrated at no time scale.
    """
    with np.errstate(all="ignore"):  # scales that are far off overflow, and are not chosen
        losses = [_loss(history, scale) for scale in SCALES]
        best = int(np.argmin(losses))
        if not np.isfinite(losses[best]):
            raise UserError(
                "--theory: the theory's equations cannot be integrated from this run's measured start, whatever the "
                "time scale; its F or W_p are too large. Leave --theory out."
            )
        low, high = np.log(SCALES[max(0, best - 1)]), np.log(SCALES[min(len(SCALES) - 1, best + 1)])
        found = cast(
            Any,
            minimize_scalar(
                lambda x: _loss(history, float(np.exp(x))),
                bounds=(low, high),
                method="bounded",
                options={"xatol": 1e-5},
            ),
        )
    scale = float(np.exp(found.x)) if found.fun <= losses[best] else float(SCALES[best])
    steps = np.unique(np.concatenate([history.steps, np.linspace(history.steps[0], history.steps[-1], FINE)]))
    F, W_p = curves(history, scale, steps)
    at = np.searchsorted(steps, history.steps)
    residuals = {"F": residual(history.F, F[at]), "W_p": residual(history.W_p, W_p[at])}
    no_change = _error(history, history.F[:1], history.W_p[:1])
    beats_no_change = _error(history, F[at], W_p[at]) <= 0.99 * no_change
    return Prediction(scale=scale, steps=steps, F=F, W_p=W_p, residuals=residuals, beats_no_change=beats_no_change)


def _loss(history: ModeHistory, scale: float) -> float:
    try:
        value = _error(history, *curves(history, scale, history.steps))
    except UserError:  # the integration failed
        return float("inf")
    return value if np.isfinite(value) else float("inf")


def _error(history: ModeHistory, F: ndarray, W_p: ndarray) -> float:
    """Mean absolute error over modes and diagnoses, relative to each mode's size; the sum of those of F and W_p."""
    pairs = ((history.F, F), (history.W_p, W_p))
    return sum(float(np.abs((predicted - measured) / mode_sizes(measured)).mean()) for measured, predicted in pairs)
