"""How far the theory's curves are from the measured ones: relative root mean squares, by mode and by diagnosis."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy import ndarray

THRESHOLD = 0.1
"""Relative residual above which the page says that the theory no longer describes the run."""


@dataclass(frozen=True)
class Residual:
    """Relative root mean squares of predicted minus measured, without the start, where both agree by construction."""

    of_mode: ndarray
    """(M) over diagnoses, divided by the mode's own root mean square."""
    of_diagnosis: ndarray
    """(T) over modes, each error first divided by its mode's root mean square over diagnoses; 0 at the start."""
    overall: float
    """Over all modes and diagnoses."""
    unchanged: float
    """`overall` of the prediction that no mode ever changes, for comparison."""

    def first_above(self, threshold: float) -> int | None:
        """Index of the first diagnosis whose residual is above `threshold`; None if none is."""
        above = np.flatnonzero(self.of_diagnosis > threshold)
        return int(above[0]) if above.size else None


def residual(measured: ndarray, predicted: ndarray) -> Residual:
    """The residual of curves (T M); the error of a mode that is measured as 0 throughout is not divided."""
    size = mode_sizes(measured)

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


def mode_sizes(measured: ndarray) -> ndarray:
    """(M) root mean square over diagnoses, without the start; 1 for a mode that is measured as 0 throughout."""
    size = np.sqrt(np.square(measured[1:]).mean(axis=0))
    return np.where(size > 0, size, 1.0)
