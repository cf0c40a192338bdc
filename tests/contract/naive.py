"""Two-view losses as the papers' sums, in Python loops over float64 numbers: slow, obvious, with default options."""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable
from functools import partial
from itertools import permutations
from statistics import fmean, pvariance, variance

import numpy as np

from eigenview.views import Views

Rows = list[list[float]]


def dot(a: list[float], b: list[float]) -> float:
    return math.fsum(x * y for x, y in zip(a, b, strict=True))


def cos(a: list[float], b: list[float]) -> float:
    return dot(a, b) / math.sqrt(dot(a, a) * dot(b, b))


def columns(z: Rows) -> Rows:
    return [list(column) for column in zip(*z, strict=True)]


def covariance(a: list[float], b: list[float], divisor: int) -> float:
    return math.fsum((x - fmean(a)) * (y - fmean(b)) for x, y in zip(a, b, strict=True)) / divisor


def simclr(z1: Rows, z2: Rows) -> float:
    rows, n, losses = z1 + z2, len(z1), []
    for i in range(2 * n):
        others = [math.exp(cos(rows[i], rows[k]) / 0.5) for k in range(2 * n) if k != i]
        losses.append(-math.log(math.exp(cos(rows[i], rows[(i + n) % (2 * n)]) / 0.5) / sum(others)))
    return fmean(losses)


def directclr(h1: Rows, h2: Rows, d0: int = 3) -> float:
    losses = []
    for a, b in ((h1, h2), (h2, h1)):
        for i, row in enumerate(a):
            scores = [math.exp(cos(row[:d0], other[:d0]) / 0.1) for other in b]
            losses.append(-math.log(scores[i] / sum(scores)))
    return fmean(losses)


def half_square(a: list[float], b: list[float]) -> float:
    return math.fsum((x - y) ** 2 for x, y in zip(a, b, strict=True)) / 2


def infonce(z1: Rows, z2: Rows, eps: float = 1.0) -> float:
    losses = []
    for z, other in ((z1, z2), (z2, z1)):
        for i, row in enumerate(z):
            positive = math.exp(-half_square(row, other[i]))
            negatives = math.fsum(math.exp(-half_square(row, z[j])) for j in range(len(z)) if j != i)
            losses.append(-math.log(positive / (eps * positive + negatives)))
    return fmean(losses)


def vicreg(z1: Rows, z2: Rows) -> float:
    n, d = len(z1), len(z1[0])
    invariance = sum((z1[i][j] - z2[i][j]) ** 2 for i in range(n) for j in range(d)) / (n * d)
    hinges, energies = [], []
    for c in (columns(z1), columns(z2)):
        hinges.append(fmean(max(0.0, 1 - math.sqrt(variance(f) + 1e-4)) for f in c))
        energies.append(sum(covariance(c[i], c[j], n - 1) ** 2 for i in range(d) for j in range(d) if i != j) / d)
    return 25 * invariance + 25 * fmean(hinges) + sum(energies)


def unbiased_vicreg(z1: Rows, z2: Rows) -> float:
    """C_ij^2 as the mean over ordered 4-tuples of different rows of the product of two half squared differences."""
    n, d = len(z1), len(z1[0])
    invariance = sum((z1[i][j] - z2[i][j]) ** 2 for i in range(n) for j in range(d)) / (n * d)
    hinges, energies = [], []
    for z in (z1, z2):
        hinges.append(fmean(max(0.0, 1 - math.sqrt(variance(f) + 1e-4)) for f in columns(z)))
        rows, tuples = np.array(z), list(permutations(range(n), 4))
        products = 0.0
        for a, b, c, e in tuples:
            x, y = rows[a] - rows[b], rows[c] - rows[e]
            both = np.outer(x, x) * np.outer(y, y) / 4
            products += (both.sum() - both.trace()) / len(tuples)
        energies.append(products / d)
    return 25 * invariance + 25 * fmean(hinges) + 4 * sum(energies)


def barlow_twins(z1: Rows, z2: Rows) -> float:
    c1, c2, loss = columns(z1), columns(z2), 0.0
    for i, a in enumerate(c1):
        for j, b in enumerate(c2):
            c = covariance(a, b, len(a)) / math.sqrt((pvariance(a) + 1e-5) * (pvariance(b) + 1e-5))
            loss += (c - 1) ** 2 if i == j else 0.0051 * c**2
    return loss


def byol(p1: Rows, p2: Rows, t1: Rows, t2: Rows) -> float:
    return fmean(2 - 2 * cos(a, y) + 2 - 2 * cos(b, x) for a, b, x, y in zip(p1, p2, t1, t2, strict=True))


def simsiam(p1: Rows, p2: Rows, z1: Rows, z2: Rows) -> float:
    return -fmean((cos(a, y) + cos(b, x)) / 2 for a, b, x, y in zip(p1, p2, z1, z2, strict=True))


def direct(z1: Rows, z2: Rows, t1: Rows, t2: Rows, *, alpha: float, eps: float) -> float:
    """BYOL with W_p from the root or copy of this batch's F over its spectral norm."""
    rows, d = z1 + z2, len(z1[0])
    F = [[math.fsum(z[i] * z[j] for z in rows) / len(rows) for j in range(d)] for i in range(d)]
    s, U = np.linalg.eigh(np.array(F))
    p = (s.clip(0) / s.max()) ** alpha + eps
    W = [[math.fsum(U[i, k] * p[k] * U[j, k] for k in range(d)) for j in range(d)] for i in range(d)]
    return byol(*([[dot(row, z) for row in W] for z in view] for view in (z1, z2)), t1, t2)


NAIVE: dict[str, Callable[..., float]] = {
    "unbiased-vicreg": unbiased_vicreg,
    "directcopy": partial(direct, alpha=1.0, eps=0.3),
    "directset": partial(direct, alpha=1.0, eps=0.3),
    "directpred": partial(direct, alpha=0.5, eps=0.01),
    "isoloss": partial(direct, alpha=0.5, eps=0.0),
}
NAIVE |= {"simclr": simclr, "vicreg": vicreg, "barlow-twins": barlow_twins, "byol": byol, "simsiam": simsiam}

NAIVE |= {"directclr": directclr, "infonce": infonce}


def naive_loss(method: str, views: Views) -> float:
    """The method's loss of the two views. A method without an entry here has `naive` in its own test."""
    rows = {
        **{name: [views.z, views.z_target] for name in ("directcopy", "directset", "directpred", "isoloss")},
        "directclr": [views.h],
        "byol": [views.p, views.z_target],
        "simsiam": [views.p, views.z],
    }.get(method, [views.z])
    formula = NAIVE.get(method)
    if formula is None:
        formula = importlib.import_module(f"tests.methods.test_{method.replace('-', '_')}").naive
    return formula(*(view for field in rows if field is not None for view in field.tolist()))
