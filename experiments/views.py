"""Two, four and eight views: at equal steps, and at equal passes through the encoder

Question: what do more views buy, and what do they cost?
Source: Ghosh et al. 2023, CIFAR-10 and STL-10: more views reach a lower error in the same number of epochs, and up to
twice less time for equal error. The accuracies are in a figure only. In the table are the weights they found best for
each number of views (ResNet-50, width 256, 100 epochs), and solo-learn's accuracies (ResNet-18, 1000 epochs of two
views), which say how far these short runs are from long ones.
Theory: the mean of V - 1 views is nearer to the expectation over augmentations that the invariance asks for.
Prediction, written before any run: at equal steps each doubling of the views gains a point or two; at equal passes
four views are no different from two, and eight lose.
Settings: recipes small-vicreg and small-barlow-twins in our form (all pairs, statistics per view). At tiny eight epochs
of two views are the measure of equal passes.
"""

from __future__ import annotations

from typing import Any

from eigenview.config import RunConfig
from experiments._grids import BLUE, ORANGE, Claim, Results, bars, cell, check_claims, failures

METHODS = {"VICReg": "vicreg", "Barlow Twins": "barlow-twins"}
EPOCHS = {"tiny": 8, "cpu": 8, "gpu": 100}
VIEWS = (2, 4, 8)
LONG = "solo-learn linear"
OFF_DIAGONAL = "off-diagonal weight published as best"  # ours: 0.01
INVARIANCE = "invariance weight published as best"  # and that of variance, with covariance 1, as ours: 25
published: dict[str, dict[str, float]] = {
    "VICReg 2 views": {INVARIANCE: 25, LONG: 92.07},
    "VICReg 4 views": {INVARIANCE: 25},
    "Barlow Twins 2 views": {OFF_DIAGONAL: 0.02, LONG: 92.10},
    "Barlow Twins 4 views": {OFF_DIAGONAL: 0.01},
    "Barlow Twins 8 views": {OFF_DIAGONAL: 0.01},
}
CLAIMS: tuple[Claim, ...] = tuple(
    claim
    for method in METHODS
    for claim in (
        (f"{method} 4 views", ">", f"{method} 2 views"),
        (f"{method} 8 views", ">", f"{method} 4 views"),
        (f"{method} 4 views equal passes", ">", f"{method} 2 views"),
    )
)


def cells(scale: str, data: str) -> dict[str, RunConfig[Any]]:
    """Two methods; 2, 4 and 8 views at equal steps, 4 and 8 at equal passes; two cells at cpu."""
    grid: dict[str, RunConfig[Any]] = {}
    for method, recipe in METHODS.items():
        for views in VIEWS:
            epochs = {"": EPOCHS[scale], " equal passes": EPOCHS[scale] * 2 // views}
            for name, count in epochs.items():
                if views > 2 or not name:
                    grid[f"{method} {views} views{name}"] = cell(recipe, scale, data, {"views": views, "epochs": count})
    headline = [f"VICReg {n}" for n in ("2 views", "4 views equal passes")]
    return {name: grid[name] for name in headline} if scale == "cpu" else grid


def conclude(results: Results) -> str:
    """Which comparisons were seen."""
    return f"{check_claims(results, CLAIMS)} {failures(results)}"


def figure(results: Results) -> Any:
    """A bar a cell; equal passes in orange."""
    colours = {name: ORANGE if name.endswith("passes") else BLUE for name in results}
    return bars(results, "Views at equal steps (blue) and at equal passes through the encoder (orange)", colours)
