"""The linear theory laid over a run: from measured spectra of F and W_p to the curves that it predicts for them.

Mode by mode, p of W_p and s of F (of mean views) obey `theory.eigenvalues`. A run gives everything in those equations
but one number. Its learning rate, weight decay, alpha_p and target momentum are options or in its log; the views' noise
along each mode is measured; where every mode begins is measured. How much a unit of learning rate moves the modes is
known only for plain SGD on a linear network and is fitted here: one number for all modes and epochs.

Reference: Tian, Chen, Ganguli 2021, arXiv 2102.06810, section 3.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy import ndarray
from scipy.optimize import minimize_scalar  # pyright: ignore[reportMissingTypeStubs, reportUnknownVariableType]

from eigenview.errors import UserError
from eigenview.theory import eigenvalues
from eigenview.theory.simulation import integrate

THRESHOLD = 0.1
"""Relative residual above which the theory is said not to hold."""
SCALES = np.geomspace(1e-5, 1e4, 19)
"""Time scales tried before the best of them is refined."""
FINE = 200  # points of a predicted curve, for drawing


@dataclass(frozen=True, kw_only=True)
class Course:
    """What a run recorded of its leading modes, from the diagnosis at which the theory is started."""

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
    kept: tuple[ndarray, ndarray] | None
    """Steps and the fraction of the target network kept there; None without one."""
    decay: float
    """Weight decay of the encoder, per unit of learning rate."""
    predictor_decay: float
    """The same of the predictor, in whose own (alpha_p times larger) learning rate it acts."""
    alpha_p: float
    predictor: Callable[[ndarray], ndarray] | None
    """W_p's eigenvalues from those of F (M) -> (M), where the predictor is computed; None where it is learned."""
    passes_predictor: bool = True
    """Whether the gradient reaches z through W_p; IsoLoss's does not."""


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """The theory's curves for a `Course`, by rank as a diagnosis sorts them, and what they leave."""

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

    is_still: bool
    """Whether no time scale is nearer to the run than one at which nothing moves: the theory says nothing of it."""


@dataclass(frozen=True)
class Residual:
    """Root mean squares of predicted minus measured, relative; without the start, where they agree by construction."""

    of_mode: ndarray
    """(M) over diagnoses, over the mode's own root mean square."""
    of_diagnosis: ndarray
    """(T) over modes, each error first divided by its mode's root mean square over diagnoses; 0 at the start."""
    overall: float
    """Over modes and diagnoses alike."""
    unchanged: float
    """What is left overall by predicting that every mode stays where it starts: a yardstick."""

    def first_above(self, threshold: float) -> int | None:
        """Number of the first diagnosis whose residual is above `threshold`; None if none is."""
        above = np.flatnonzero(self.of_diagnosis > threshold)
        return int(above[0]) if above.size else None


def residual(measured: ndarray, predicted: ndarray) -> Residual:
    """The residual of curves (T M); a mode that is measured as 0 throughout counts its error as it is."""
    size = _size(measured)

    def square(values: ndarray) -> ndarray:
        return np.square((values - measured) / size)

    each = square(predicted)
    still = square(np.broadcast_to(measured[0], measured.shape))
    of_diagnosis = np.sqrt(each.mean(axis=1))
    of_diagnosis[0] = 0.0
    return Residual(
        np.sqrt(each[1:].mean(axis=0)),
        of_diagnosis,
        float(np.sqrt(each[1:].mean())),
        float(np.sqrt(still[1:].mean())),
    )


def _size(measured: ndarray) -> ndarray:
    """(M) root mean square over diagnoses, without the start; 1 for a mode that is measured as 0 throughout."""
    size = np.sqrt(np.square(measured[1:]).mean(axis=0))
    return np.where(size > 0, size, 1.0)


def predict(course: Course) -> Prediction:
    """The curves at the time scale with the least mean absolute error of F and W_p, relative in each mode.

    Absolute, not squared: a mode that leaves the theory must not draw the others away from it.

    Raises UserError where no time scale can be integrated.
    """
    with np.errstate(all="ignore"):  # scales that are far off overflow; they lose
        losses = [_loss(course, scale) for scale in SCALES]
        best = int(np.argmin(losses))
        if not np.isfinite(losses[best]):
            raise UserError(
                "--theory: the theory's equations cannot be integrated from this run's measured start, whatever the "
                "time scale; its F or W_p are too far from any that the theory knows. Leave --theory out."
            )
        low, high = np.log(SCALES[max(0, best - 1)]), np.log(SCALES[min(len(SCALES) - 1, best + 1)])
        found = cast(
            Any,
            minimize_scalar(
                lambda x: _loss(course, float(np.exp(x))),
                bounds=(low, high),
                method="bounded",
                options={"xatol": 1e-5},
            ),
        )
    scale = float(np.exp(found.x)) if found.fun <= losses[best] else float(SCALES[best])
    steps = np.unique(np.concatenate([course.steps, np.linspace(course.steps[0], course.steps[-1], FINE)]))
    F, W_p = curves(course, scale, steps)
    at = np.searchsorted(steps, course.steps)
    residuals = {"F": residual(course.F, F[at]), "W_p": residual(course.W_p, W_p[at])}
    still = _error(course, course.F[:1], course.W_p[:1])
    is_still = _error(course, F[at], W_p[at]) > 0.99 * still
    return Prediction(scale=scale, steps=steps, F=F, W_p=W_p, residuals=residuals, is_still=is_still)


def _loss(course: Course, scale: float) -> float:
    try:
        value = _error(course, *curves(course, scale, course.steps))
    except UserError:  # the integration failed
        return float("inf")
    return value if np.isfinite(value) else float("inf")


def _error(course: Course, F: ndarray, W_p: ndarray) -> float:
    """Mean absolute error over modes and diagnoses, over the mode's size; of F and of W_p, added."""
    pairs = ((course.F, F), (course.W_p, W_p))
    return sum(float(np.abs((ours - measured) / _size(measured)).mean()) for measured, ours in pairs)


def curves(course: Course, scale: float, steps: ndarray) -> tuple[ndarray, ndarray]:
    """(F, W_p), each (steps M), that the theory predicts at a time scale, each row sorted by F.

    One step at learning rate r is the time dt = scale * r, in which the weights decay by decay * r = eta dt; the target
    moves by 1 - kept. F over augmented views is (1 + sigma2) s.
    """
    a = 1 + course.sigma2

    def field(step: float, y: Mapping[str, ndarray]) -> dict[str, ndarray]:
        rate = float(np.interp(step, *course.learning_rate))
        s, tau = y["s"], y.get("tau", course.tau)
        p = y["p"] if course.predictor is None else course.predictor(a * s)
        rates = eigenvalues.vector_field(
            p,
            s,
            tau,
            alpha_p=course.alpha_p,
            eta=course.decay / scale,
            sigma2=cast(Any, course.sigma2),  # one for each mode
        )
        growth = p * (tau - a * p)
        if not course.passes_predictor:  # w' = (tau - a p) w, without the factor W_p
            extra = (tau - a * p) - growth
            rates["s"] += 2 * s * extra
            rates["tau"] -= tau * extra
        # the theory has one eta; an optimiser decays the predictor alpha_p predictor_decay / decay times as fast
        more = course.decay - course.alpha_p * course.predictor_decay
        moved = {name: rate * scale * rates[name] for name in y}
        if "p" in y:
            moved["p"] += rate * more * p
        if course.kept is not None:
            moved["tau"] += (1 - np.interp(step, *course.kept)) * (1 - tau)
        return moved

    start = {"s": course.F[0] / a}
    if course.predictor is None:
        start["p"] = course.W_p[0]
    if course.kept is not None:
        start["tau"] = course.tau
    states = integrate(field, start, steps, rtol=1e-7, atol=1e-10, method="LSODA").states
    F = a * states["s"]
    W_p = states["p"] if course.predictor is None else np.stack([course.predictor(row) for row in F])
    order = np.argsort(-F, axis=1, kind="stable")
    return np.take_along_axis(F, order, 1), np.take_along_axis(W_p, order, 1)
