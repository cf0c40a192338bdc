"""Closed-form predictors beside learned ones, in a network that is otherwise the same

Question: is a predictor set from the second moment of the embeddings as good as one trained by gradient?
Source: Tian, Chen, Ganguli 2021 (arXiv 2102.06810) and Wang et al. 2021 (arXiv 2110.04947), ResNet-18, 100 epochs.
Theory: in the shared eigenbasis the gradient and weight decay take a linear predictor to p_j^2 = alpha_p s_j, the
root of F's eigenvalues; setting it there skips the phase in which it lags behind and modes die.
Prediction, written before any run: DirectPred beats the learned linear predictor; setting it every fifth step changes
nothing; DirectCopy is between DirectPred and the learned one.
Settings: encoder, projector, images, augmentation and epochs are the same; tiny and cpu have the optimiser of recipe
small-byol for all (a learned predictor, and a set one between two settings, at 10 times the rate); gpu is as published.
"""

from __future__ import annotations

from typing import Any

from eigenview.config import RunConfig
from eigenview.recipes import load_recipe
from experiments._grids import BLUE, ORANGE, TIAN, Claim, Results, bars, cell, check_claims, failures, order

CIFAR, LONG, STL = "CIFAR-10, 100 epochs", "CIFAR-10, 300 epochs", "STL-10, 100 epochs"
published = {
    "DirectPred": {CIFAR: 85.21, LONG: 88.88, STL: 77.86},
    "DirectPred every 5": {CIFAR: 84.93, LONG: 88.83, STL: 77.54},
    "DirectCopy": {CIFAR: 84.02, LONG: 89.17, STL: 77.83},
    "learned linear": {CIFAR: 84.49, LONG: 88.57, STL: 75.06},
}
CLAIMS: tuple[Claim, ...] = (
    ("DirectPred", ">", "learned linear"),
    ("DirectPred", "~", "DirectPred every 5"),
    ("DirectPred", ">", "DirectCopy"),
    ("learned linear", "~", "DirectCopy"),
)


def cells(scale: str, data: str) -> dict[str, RunConfig[Any]]:
    """Three closed-form predictors and two learned ones; one of each at cpu."""
    byol = load_recipe("small-byol")
    same: dict[str, Any] = {"optim": byol.optim, "network": byol.network, "augmentation": "simsiam-small"}
    same = {} if scale == "gpu" else same
    learned = {} if scale == "gpu" else {"augmentation": "simsiam-small"}
    linear = {"network": {"predictor_layers": 1, "predictor_bias": False}}
    grid = {
        "DirectPred": cell("directpred", scale, data, same, gpu=TIAN),
        "DirectPred every 5": cell("directpred", scale, data, {**same, "method": {"refresh_every": 5}}, gpu=TIAN),
        "DirectCopy": cell("directcopy", scale, data, same, gpu=TIAN),
        "learned linear": cell("byol", scale, data, {**learned, **linear}, gpu=TIAN),
        "learned two-layer": cell("byol", scale, data, learned, gpu=TIAN),
    }
    headline = ("DirectPred", "learned linear")
    return {name: grid[name] for name in headline} if scale == "cpu" else grid


def conclude(results: Results) -> str:
    """The order, and which published comparisons (CIFAR-10, 100 epochs) were seen."""
    return f"Order here: {order(results)}. {check_claims(results, CLAIMS)} {failures(results)}"


def figure(results: Results) -> Any:
    """A bar a predictor, the learned ones in another colour."""
    colours = {name: ORANGE if name.startswith("learned") else BLUE for name in results}
    return bars(results, "Predictors: closed form (blue), learned (orange)", colours)
