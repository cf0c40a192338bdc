"""Estimates the time of the probes that follow a training, from small products of the kinds that they consist of."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from eigenview.engine.plan import Plan
from eigenview.probes.features import RAW_SIDE

LEAST_PRODUCTS = 1e10
"""Multiplications of one k-NN reading below which the probes are over in seconds and not timed in advance."""
BANK, QUERIES, TRIED_IMAGES = 4096, 512, 32


def probe_seconds(plan: Plan, width: int, encode: Callable[[Tensor], Tensor]) -> float | None:
    """Seconds of features, k-NN and linear fits, at most; None without probes and for small ones.

    Three sets of features are probed: of the encoder, of the untrained one (both of this `width`), and pixels. Each
    linear fit is taken to need all of its iterations. Time to read and decode images is not included.
    """
    if plan.probes is None:
        return None
    train, test = (len(each) for each in plan.probes)
    if train * test * width < LEAST_PRODUCTS:
        return None
    classes = len(plan.probes[0].class_names)
    pixels = plan.train.reading.channels * min(RAW_SIDE, plan.train.source_size) ** 2
    of_each = [
        _knn_seconds(train, test, each, plan.device) + _linear_seconds(train, each, classes)
        for each in (width, width, pixels)
    ]
    return sum(of_each) + 2 * (train + test) * _seconds_per_image(plan.train.shape, encode)


def _knn_seconds(train: int, test: int, width: int, device: torch.device) -> float:
    from eigenview.probes.knn import nearest_rows

    rng = np.random.default_rng(0)
    bank, queries = (rng.standard_normal((n, width), dtype=np.float32) for n in (BANK, QUERIES))
    return _seconds(lambda: nearest_rows(bank, queries, 20, device)) * train * test / (BANK * QUERIES)


def _linear_seconds(train: int, width: int, classes: int) -> float:
    """An iteration multiplies the features by the weights, and their transpose by the residuals."""
    from eigenview.probes.linear import MAX_ITERATIONS, SEARCH_ROWS, STRENGTHS  # imports sklearn, which takes a second

    rng = np.random.default_rng(0)
    x, weights = (rng.standard_normal(shape, dtype=np.float32) for shape in ((BANK, width), (width, classes)))
    rows = train + len(STRENGTHS) * min(SEARCH_ROWS, 2 * train // 3)
    return _seconds(lambda: x.T @ (x @ weights)) * MAX_ITERATIONS * rows / BANK


def _seconds_per_image(shape: tuple[int, int, int], encode: Callable[[Tensor], Tensor]) -> float:
    images = torch.zeros(TRIED_IMAGES, *shape, dtype=torch.uint8)
    return _seconds(lambda: encode(images)) / TRIED_IMAGES


def _seconds(work: Callable[[], object]) -> float:
    """Of the faster of two tries: buffers and kernels are prepared in the first."""
    found = []
    for _ in range(2):
        start = time.perf_counter()
        work()
        found.append(time.perf_counter() - start)
    return min(found)
