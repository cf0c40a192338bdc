"""Estimators of VICReg's regularisers beside the truth of a finite population: bias and noise of value and gradient.

The population is a set of images as a trained network sees them: activations a (M H) before the projector's last layer
W (D H), embeddings z = a W^T. Batches are drawn from it with replacement, so that the truth is known exactly. The
gradient is the one that reaches W.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from eigenview.functional.moments import (
    centred,
    covariance_sq_norm,
    half_batch_sq_norm,
    off_diagonal_sq_norm,
    unbiased_off_diagonal_sq_norm,
    unbiased_squared_variances,
    variances,
)
from eigenview.methods.unbiased_vicreg import hinge_tangent, hinge_value

GAMMA, EPS = 1.0, 1e-4
WARM_UP, RHO = 50, 0.9  # batches behind the running variance of `dual`, and the weight of its past
Estimate = Callable[[Tensor, Tensor], Tensor]
"""(embeddings of a batch (n D), running variance (D)) -> scalar."""


def half_off_diagonal(z: Tensor) -> Tensor:
    """Products of the two halves' covariances over i != j."""
    a, b = z.chunk(2)
    return half_batch_sq_norm(z) - (variances(a) * variances(b)).sum()


def corrected_off_diagonal(z: Tensor) -> Tensor:
    """The plug-in less (tr S)^2 / (n - 1): the leading part of its bias for Gaussian embeddings."""
    return off_diagonal_sq_norm(z) - variances(z).sum().square() / (len(z) - 1)


def hinge(v: Tensor) -> Tensor:
    return hinge_value(v, GAMMA, EPS)


def half_hinge(z: Tensor) -> Tensor:
    """Each half's variance on the tangent at the other half's, averaged."""
    a, b = (variances(part) for part in z.chunk(2))
    return (hinge_tangent(a, b, GAMMA, EPS) + hinge_tangent(b, a, GAMMA, EPS)).mean() / 2


def jackknife_hinge(z: Tensor) -> Tensor:
    """n h(S) - (n - 1) mean over k of h(S without row k); the variance without a row has a closed form."""
    n = len(z)
    y = centred(z)
    without = (y.square().sum(dim=0) - y.square() * (n / (n - 1))) / (n - 2)
    return (n * hinge(variances(z)) - (n - 1) * hinge(without.clamp_min(0.0)).mean(dim=0)).mean()


def c4_hinge(z: Tensor) -> Tensor:
    """The hinge of the standard deviation over c4(n), which is unbiased for Gaussian rows (before the kink)."""
    half = torch.tensor((len(z) - 1) / 2, dtype=torch.float64)
    c4 = (torch.lgamma(half + 0.5) - torch.lgamma(half)).exp() / half.sqrt()
    return (GAMMA - (variances(z) + EPS).sqrt() / c4.item()).clamp_min(0.0).mean()


def square(z: Tensor) -> Tensor:
    return (unbiased_squared_variances(z) - 2 * GAMMA**2 * variances(z) + GAMMA**4).mean()


COVARIANCE: dict[str, Estimate] = {
    "plug-in": lambda z, _: off_diagonal_sq_norm(z) / z.shape[1],
    "U-statistic": lambda z, _: unbiased_off_diagonal_sq_norm(z) / z.shape[1],
    "half batches": lambda z, _: half_off_diagonal(z) / z.shape[1],
    "minus (tr C)^2/(n-1)": lambda z, _: corrected_off_diagonal(z) / z.shape[1],
}
HINGE: dict[str, Estimate] = {
    "plug-in": lambda z, _: hinge(variances(z)).mean(),
    "dual": lambda z, at: hinge_tangent(variances(z), at, GAMMA, EPS).mean(),
    "half batches": lambda z, _: half_hinge(z),
    "jackknife": lambda z, _: jackknife_hinge(z),
    "c4": lambda z, _: c4_hinge(z),
}
SQUARE: dict[str, Estimate] = {
    "plug-in": lambda z, _: (variances(z) - GAMMA**2).square().mean(),
    "U-statistic": lambda z, _: square(z),
}
FAMILIES: dict[str, dict[str, Estimate]] = {"covariance": COVARIANCE, "hinge": HINGE, "square": SQUARE}


def population_variances(z: Tensor) -> Tensor:
    """Variances of the law that gives each row the same probability."""
    return variances(z) * (len(z) - 1) / len(z)


def truths(z: Tensor) -> dict[str, Tensor]:
    """What the estimators of each family estimate, of the whole population."""
    v = population_variances(z)
    scale = ((len(z) - 1) / len(z)) ** 2
    off = covariance_sq_norm(z) * scale - v.square().sum()
    return {"covariance": off / z.shape[1], "hinge": hinge(v).mean(), "square": (v - GAMMA**2).square().mean()}


class Moments:
    """Running sums of a value and of a gradient over repeats, and what they say beside the truth."""

    def __init__(self, value: Tensor, gradient: Tensor) -> None:
        self.value, self.gradient = value, gradient
        self.values: list[float] = []
        self.sum, self.squares = torch.zeros_like(gradient), 0.0

    def add(self, value: Tensor, gradient: Tensor) -> None:
        self.values.append(value.item())
        self.sum += gradient
        self.squares += gradient.square().sum().item()

    def summary(self) -> dict[str, float]:
        """Relative to the truth: bias of value and gradient, each with the size that chance alone would give it
        (`*_resolution`, one standard error), noise of a single batch, and the mean gradient's cosine to the truth."""
        count, mean = len(self.values), self.sum / len(self.values)
        values = torch.tensor(self.values, dtype=torch.float64)
        length = self.gradient.norm().item()
        spread = max(self.squares / count - mean.square().sum().item(), 0.0) * count / (count - 1)
        off = (mean - self.gradient).square().sum().item()
        cosine = (mean * self.gradient).sum().item() / (mean.norm().item() * length)
        return {
            "value_bias": (values.mean().item() - self.value.item()) / abs(self.value.item()),
            "value_noise": values.std().item() / abs(self.value.item()),
            "value_resolution": values.std().item() / count**0.5 / abs(self.value.item()),
            "gradient_bias": max(off - spread / count, 0.0) ** 0.5 / length,
            "gradient_noise": spread**0.5 / length,
            "gradient_resolution": (spread / count) ** 0.5 / length,
            "cosine": cosine,
        }


def study(
    activations: Tensor, weight: Tensor, weights: Mapping[str, float], sizes: tuple[int, ...], repeats: int, seed: int
) -> dict[str, Any]:
    """Bias and noise of every estimator at every batch size.

    Small batches, whose estimates are noisy and cheap, are drawn more often: up to 16 times `repeats`.

    `weights` are those of hinge and covariance in the sum "total": the plug-in of both against the U-statistic with the
    plug-in hinge and with dual.
    """
    draw = torch.Generator().manual_seed(seed)
    w = weight.clone().requires_grad_()
    z = activations @ w.T
    exact = truths(z)
    gradients = {name: torch.autograd.grad(v, w, retain_graph=True)[0] for name, v in exact.items()}
    for known in (exact, gradients):
        known["total"] = torch.stack([weights[name] * known[name] for name in weights]).sum(dim=0)
    z = z.detach()
    v = population_variances(z)
    ratio = (v.sum().square() / covariance_sq_norm(z)).item()
    found: dict[str, dict[str, dict[str, Any]]] = {name: {} for name in (*FAMILIES, "total")}
    for n in sizes:
        often = repeats * min(16, max(1, 256 // n))
        for family, rows in _at_size(activations, weight, z, weights, n, often, exact, gradients, draw).items():
            for name, row in rows.items():
                found[family].setdefault(name, {})[str(n)] = row
    std = v.sqrt()
    embedding = {"participation_ratio": ratio, "std": std.mean().item(), "std_spread": std.std().item()}
    embedding["hinge_active"] = (std < GAMMA).double().mean().item()
    return {"images": len(z), "repeats": repeats, **embedding, "families": found}


TOTALS = {
    "plug-in": ("plug-in", "plug-in"),
    "U-statistic, plug-in hinge": ("plug-in", "U-statistic"),
    "U-statistic, dual": ("dual", "U-statistic"),
}


def _at_size(
    activations: Tensor,
    weight: Tensor,
    population: Tensor,
    weights: Mapping[str, float],
    n: int,
    repeats: int,
    exact: Mapping[str, Tensor],
    gradients: Mapping[str, Tensor],
    draw: torch.Generator,
) -> dict[str, dict[str, dict[str, float]]]:
    moments = {f: {name: Moments(exact[f], gradients[f]) for name in rows} for f, rows in FAMILIES.items()}
    totals = {name: Moments(exact["total"], gradients["total"]) for name in TOTALS}
    for _ in range(repeats):
        at = running_variance(population, n, draw)
        rows = torch.randint(len(activations), (n,), generator=draw)
        a = activations[rows]
        z = (a @ weight.T).requires_grad_()
        parts: dict[tuple[str, str], tuple[Tensor, Tensor]] = {}
        for family, estimators in FAMILIES.items():
            for name, estimate in estimators.items():
                value = estimate(z, at)
                parts[family, name] = value.detach(), torch.autograd.grad(value, z)[0].T @ a
                moments[family][name].add(*parts[family, name])
        for name, (of_hinge, of_covariance) in TOTALS.items():
            pair = (parts["hinge", of_hinge], parts["covariance", of_covariance])
            scale = (weights["hinge"], weights["covariance"])
            value, gradient = (scale[0] * pair[0][k] + scale[1] * pair[1][k] for k in (0, 1))
            totals[name].add(value, gradient)
    every = {**moments, "total": totals}
    return {family: {name: m.summary() for name, m in rows.items()} for family, rows in every.items()}


def running_variance(population: Tensor, n: int, draw: torch.Generator) -> Tensor:
    """A moving average over earlier batches of the same size, as `dual` keeps it: from at most 4,096 rows' worth of
    batches drawn anew, weighted RHO^age."""
    batches = max(2, min(WARM_UP, 4096 // n))
    rows = torch.randint(len(population), (batches, n), generator=draw)
    age = RHO ** torch.arange(batches, dtype=population.dtype)
    return (variances(population[rows]) * (age / age.sum())[:, None]).sum(dim=0)
