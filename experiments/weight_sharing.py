"""Two branches: one network, two of the same kind, two of different kinds

Question: which methods live without weights shared between the two branches?
Source: Bardes, Ponce, LeCun 2022 (VICReg, arXiv 2105.04906), ImageNet, ResNet-50 beside ResNet-50 or ResNet-101.
Theory: VICReg regularises each branch on its own, so that nothing asks for equal branches; Barlow Twins and SimCLR
compare across branches, and BYOL's target is an average of its own weights.
Prediction, written before any run: all three methods work in all three forms, sharing is best, and VICReg loses least.
BYOL fails there: eigenview refuses --network.no-shared-weights for it with the reason, so it has the shared cell alone.
Settings: the recipes, their optimisers at gpu too (the published settings are ImageNet's); the second encoder is
conv-medium at tiny and cpu, ResNet-34 beside ResNet-18 at gpu. The numbers are of the first branch.
"""

from __future__ import annotations

from typing import Any

from eigenview.config import RunConfig
from experiments._grids import (
    BLUE,
    GREEN,
    ORANGE,
    Claim,
    Results,
    bars,
    cell,
    check_claims,
    difference,
    failures,
    numbers,
    within,
)

METHODS = {"VICReg": "vicreg", "Barlow Twins": "barlow-twins", "SimCLR": "simclr"}
COLUMN = "ImageNet"
published = {
    "VICReg shared": {COLUMN: 68.6},
    "VICReg separate": {COLUMN: 66.5},
    "VICReg different": {COLUMN: 68.1},
    "Barlow Twins shared": {COLUMN: 68.7},
    "Barlow Twins separate": {COLUMN: 64.2},
    "Barlow Twins different": {COLUMN: 65.3},
    "SimCLR shared": {COLUMN: 64.4},
    "SimCLR separate": {COLUMN: 63.1},
    "SimCLR different": {COLUMN: 63.9},
    "BYOL shared": {COLUMN: 69.3},
}
CLAIMS: tuple[Claim, ...] = tuple(
    (f"{method} {better}", ">", f"{method} {worse}")
    for method in METHODS
    for better, worse in (("shared", "separate"), ("different", "separate"))
)


def cells(scale: str, data: str) -> dict[str, RunConfig[Any]]:
    """Three methods in three forms and BYOL in one; VICReg, shared and separate, at cpu."""
    second = "torchvision:resnet34" if scale == "gpu" else "conv-medium"
    forms: dict[str, dict[str, Any]] = {
        "shared": {},
        "separate": {"network": {"shared_weights": False}},
        "different": {"network": {"shared_weights": False}, "second_encoder": second},
    }
    grid = {
        f"{method} {form}": cell(recipe, scale, data, fields)
        for method, recipe in METHODS.items()
        for form, fields in forms.items()
    }
    grid["BYOL shared"] = cell("byol", scale, data)
    headline = ("VICReg shared", "VICReg separate")
    return {name: grid[name] for name in headline} if scale == "cpu" else grid


def losses(results: Results) -> str:
    """How many points each method loses with separate weights, beside the published loss."""
    sentences: list[str] = []
    for method in METHODS:
        shared, separate = (f"{method} {form}" for form in ("shared", "separate"))
        if all(numbers(results.get(name, [])) for name in (shared, separate)):
            gap, spread = difference(results[separate], results[shared])
            theirs = published[separate][COLUMN] - published[shared][COLUMN]
            sentences.append(f"{method} {within(gap, spread)[:-1]}; published {theirs:+.1f})")
    return f"Separate weights change: {', '.join(sentences)}."


def conclude(results: Results) -> str:
    """Which published comparisons were seen, and what separate weights cost each method."""
    return f"{check_claims(results, CLAIMS)} {losses(results)} {failures(results)}"


def figure(results: Results) -> Any:
    """A bar a cell, coloured by its form."""
    colours = {"shared": BLUE, "separate": ORANGE, "different": GREEN}
    groups = {name: colours[name.rsplit(" ", 1)[1]] for name in results}
    return bars(results, "Branches: shared (blue), separate (orange), different encoders (green)", groups)
