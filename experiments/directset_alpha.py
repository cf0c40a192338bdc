"""DirectSet(alpha): which power of the second moment makes the best predictor

Question: does the power alpha of W_p = F^alpha / ||F^alpha|| + eps I matter?
Source: Wang, Chen, Du, Tian 2021 (arXiv 2110.04947), ResNet-18, 100 and 300 epochs of SGD. (Its STL-10 rows for 1/2 and
1/4 print the same numbers at 100 and 300 epochs, probably a typing error, and are left out.)
Theory: the directions that survive do not depend on alpha, only their final size p^(1 / (2 alpha)) does; on the way a
small alpha lifts the weak directions of W_p.
Prediction, written before any run: no power collapses, and after a short training 1/2 ~ 1/4 > 1 > 2, within few points.
Settings: one eps and rho for all, those of recipe small-directset; gpu is as published.
"""

from __future__ import annotations

from typing import Any

from eigenview.config import RunConfig
from experiments._grids import TIAN, Claim, Results, cell, check_claims, failures, lines, order

CIFAR, LONG = "CIFAR-10, 100 epochs", "CIFAR-10, 300 epochs"
published = {
    "alpha 2": {CIFAR: 82.96, LONG: 88.60},
    "alpha 1": {CIFAR: 84.02, LONG: 89.17},
    "alpha 0.5": {CIFAR: 84.88, LONG: 88.32},
    "alpha 0.25": {CIFAR: 84.78, LONG: 87.82},
}
CLAIMS: tuple[Claim, ...] = (
    ("alpha 0.5", "~", "alpha 0.25"),
    ("alpha 0.5", ">", "alpha 1"),
    ("alpha 1", ">", "alpha 2"),
    ("alpha 0.5", ">", "alpha 2"),
)


def cells(scale: str, data: str) -> dict[str, RunConfig[Any]]:
    """One run a power; at cpu 1/2 and 2, the published best and worst."""
    powers = (2.0, 0.5) if scale == "cpu" else (2.0, 1.0, 0.5, 0.25)
    return {f"alpha {a:g}": cell("directset", scale, data, {"method": {"alpha": a}}, gpu=TIAN) for a in powers}


def conclude(results: Results) -> str:
    """The order of the powers, and which published comparisons (100 epochs) were seen."""
    return f"Order here: {order(results)}. {check_claims(results, CLAIMS)} {failures(results)}"


def figure(results: Results) -> Any:
    """Accuracy over the power."""
    series = {"DirectSet": {name.removeprefix("alpha "): runs for name, runs in results.items()}}
    return lines(series, "DirectSet: power of the second moment", "alpha")
