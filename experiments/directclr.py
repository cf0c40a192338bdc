"""DirectCLR: a slice of the representation in place of a projector

Question: does contrasting the first d0 coordinates of the representation do what a projector does?
Source: Jing, Vincent, LeCun, Tian 2022 (arXiv 2110.09348), ImageNet, ResNet-50, 100 epochs, d0 = 360 of 2048.
Theory: with the loss on the whole representation strong augmentation and implicit regularisation make it collapse in
many dimensions; a projector takes the collapse upon itself. A slice does the same, as the rest learns through the
residual connection of the last block.
Prediction, written before any run: a slice beats no projector and a linear one, and a two-layer projector beats it;
accuracy over d0 is a hump, low where the slice is a few coordinates and where it is nearly all.
Settings: one loss for all (DirectCLR's, temperature of recipe small-directclr). conv-medium at tiny and cpu: the last
block of conv-small is not residual, and what the slice leaves out would stay untrained. Projectors: 128 wide, none,
Linear, or Linear-BN-ReLU-Linear-BN as the authors' baseline. gpu is ResNet-18 with the recipe's optimiser, as the
published settings are ImageNet's.
"""

from __future__ import annotations

from typing import Any

from eigenview.config import RunConfig
from experiments._grids import BLUE, ORANGE, Claim, Results, bars, cell, check_claims, failures, numbers, order

SIXTEENTHS = {"d0 6%": 1, "d0 19%": 3, "d0 38%": 6, "d0 75%": 12}
WIDTH = {"conv-medium": 256, "torchvision:resnet18": 512}
PROJECTORS: dict[str, dict[str, Any]] = {
    "no projector": {"projector_layers": 0},
    "linear projector": {"projector_layers": 1, "projector_width": 128, "projector_last_norm": False},
    "two-layer projector": {"projector_layers": 2, "projector_width": 128, "projector_last_norm": True},
}
COLUMN = "ImageNet, 100 epochs"
published = {
    "d0 19%": {COLUMN: 62.7},  # d0 = 17.6 %
    "no projector": {COLUMN: 51.5},
    "linear projector": {COLUMN: 61.1},
    "two-layer projector": {COLUMN: 66.5},
}
CLAIMS: tuple[Claim, ...] = (
    ("d0 19%", ">", "no projector"),
    ("d0 19%", ">", "linear projector"),
    ("two-layer projector", ">", "d0 19%"),
    ("linear projector", ">", "no projector"),
)


def cells(scale: str, data: str) -> dict[str, RunConfig[Any]]:
    """Four slices and three projectors; at cpu the published slice and none."""
    encoder = "torchvision:resnet18" if scale == "gpu" else "conv-medium"
    grid: dict[str, RunConfig[Any]] = {}
    for name, sixteenths in SIXTEENTHS.items():
        objective = {"site": "representation", "d0": sixteenths * WIDTH[encoder] // 16}
        network = {"projector_layers": 0}
        fields = {"encoder": encoder, "method": objective, "network": network}
        grid[name] = cell("directclr", scale, data, fields)
    for name, network in PROJECTORS.items():
        fields = {"encoder": encoder, "method": {"site": "embedding"}, "network": network}
        grid[name] = cell("directclr", scale, data, fields)
    headline = ("d0 19%", "no projector")
    return {name: grid[name] for name in headline} if scale == "cpu" else grid


def conclude(results: Results) -> str:
    """Which published comparisons were seen, and the order of the slices."""
    slices = {name: runs for name, runs in results.items() if name.startswith("d0") and numbers(runs)}
    swept = f" Slices: {order(slices)}." if len(slices) > 1 else ""
    return f"{check_claims(results, CLAIMS)}{swept} {failures(results)}"


def figure(results: Results) -> Any:
    """A bar a slice and a projector."""
    colours = {name: BLUE if name.startswith("d0") else ORANGE for name in results}
    return bars(results, "A slice of the representation (blue), or a projector (orange)", colours)
