"""Small augmentation graphs that several tests use."""

from __future__ import annotations

import numpy as np
from numpy import ndarray


def graph(points: int = 12, seed: int = 0) -> ndarray:
    """Random symmetric weights, a few of them large: a spectrum with gaps, of both signs."""
    w = np.random.default_rng(seed).uniform(size=(points, points)) ** 4
    return w + w.T


def counts(points: int = 6) -> ndarray:
    """Whole-number weights, so that a finite list of pairs has exactly this graph."""
    w = np.random.default_rng(1).integers(0, 4, size=(points, points))
    return (w + w.T).astype(float)
