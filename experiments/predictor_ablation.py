"""Predictor: symmetric or free, with and without EMA, bias, one or two layers

Question: does a learned predictor of BYOL need to be free to be asymmetric, and does the answer depend on the EMA?
Source: Tian, Chen, Ganguli 2021 (arXiv 2102.06810), STL-10, ResNet-18, 100 epochs of SGD. The published rows do not
state whether their linear predictor had a bias; they are compared with ours without one.
Theory: its equations take W_p to be symmetric, so that W_p and F come to share their eigenvectors (an EMA that lags
helps: small tau). They do not claim that a network needs it; a symmetric W_p is a special case of a free one.
Prediction, written before any run: without EMA the symmetric predictor is far behind the free one, with EMA the linear
ones are equal; two layers gain with EMA when free and lose when symmetric; a bias changes nothing.
Settings: tiny and cpu are recipe small-byol with these fields; gpu is as published.
"""

from __future__ import annotations

from itertools import product
from typing import Any

from eigenview.config import RunConfig
from experiments._grids import BLUE, ORANGE, TIAN, Claim, Results, bars, cell, check_claims, failures

FORMS = ("symmetric", "free")
COLUMN = "STL-10, 100 epochs"
published = {
    "linear symmetric EMA": {COLUMN: 75.09},
    "linear free EMA": {COLUMN: 74.51},
    "linear symmetric no-EMA": {COLUMN: 36.62},
    "linear free no-EMA": {COLUMN: 72.85},
    "two-layer symmetric EMA": {COLUMN: 71.58},
    "two-layer free EMA": {COLUMN: 78.85},
    "two-layer symmetric no-EMA": {COLUMN: 35.59},
    "two-layer free no-EMA": {COLUMN: 65.98},
}
CLAIMS: tuple[Claim, ...] = (
    ("linear free no-EMA", ">", "linear symmetric no-EMA"),
    ("linear free EMA", "~", "linear symmetric EMA"),
    ("two-layer free no-EMA", ">", "two-layer symmetric no-EMA"),
    ("two-layer free EMA", ">", "two-layer symmetric EMA"),
    ("two-layer free EMA", ">", "linear free EMA"),
    ("linear free no-EMA", ">", "two-layer free no-EMA"),
)


def cells(scale: str, data: str) -> dict[str, RunConfig[Any]]:
    """12 at tiny and gpu (two layers always with BYOL's bias); the linear ones without EMA and bias at cpu."""
    grid: dict[str, RunConfig[Any]] = {}
    kinds = [("linear", False), ("linear", True), ("two-layer", True)][: 1 if scale == "cpu" else 3]
    targets = ("online",) if scale == "cpu" else ("ema", "online")
    for (layers, bias), target, form in product(kinds, targets, FORMS):
        name = f"{layers} {form} {'EMA' if target == 'ema' else 'no-EMA'}"
        network = {
            "predictor_layers": 1 if layers == "linear" else 2,
            "predictor_bias": bias,
            "predictor_symmetric": form == "symmetric",
            "target": target,
        }
        named = f"{name} bias" if layers == "linear" and bias else name
        grid[named] = cell("byol", scale, data, {"network": network}, gpu=TIAN)
    return grid


def conclude(results: Results) -> str:
    """Which published comparisons were seen, whether a bias matters, and who collapsed."""
    bias = [(f"{name} bias", "~", name) for name in results if f"{name} bias" in results]
    ours = check_claims(results, bias).replace("Published comparisons seen", "Bias without effect") if bias else ""
    return " ".join(filter(None, (check_claims(results, CLAIMS), ours, failures(results))))


def figure(results: Results) -> Any:
    """A bar a predictor, the symmetric ones in another colour."""
    colours = {name: ORANGE if " symmetric " in name else BLUE for name in results}
    return bars(results, "BYOL's predictor: symmetric (orange) or free (blue)", colours)
