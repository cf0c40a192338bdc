"""VICReg's variance and covariance terms on BYOL and SimSiam, and what they replace

Question: does a variance term prevent the collapse of SimSiam without batch norm or predictor, and does it hurt nobody?
Source: Bardes, Ponce, LeCun 2022 (VICReg, arXiv 2105.04906), ImageNet, ResNet-50, 100 epochs, linear.
Theory: the gradient of the hinge on the standard deviation does not vanish as a dimension dies, so that it can stand in
for predictor and norm; the covariance term spreads the variance over dimensions.
Prediction, written before any run: BYOL and SimSiam gain a point at most. Without batch norm in the heads SimSiam
loses much and the variance term brings it back. Without predictor too it collapses, the variance term lifts it part of
the way, and covariance the rest.
Settings: recipes small-byol and small-simsiam; -BN: no batch norm anywhere in the heads; -PR: no predictor, the
stop-gradient stays. We do not have the site and weights of the published ablation: ours are 1 and 0.04 (as VICReg's 25
to 1), four times that for BYOL, whose loss is four times SimSiam's; projector output, not tuned. gpu is
ResNet-18 with the recipes' optimiser: the published settings are ImageNet's. SimSiam's own projector ends in a norm,
which satisfies the hinge already: there the variance term is zero and its cell is a control.
"""

from __future__ import annotations

from typing import Any

from eigenview.config import RunConfig
from experiments._grids import BLUE, GREEN, ORANGE, Claim, Results, bars, cell, check_claims, failures

VARIANCE, COVARIANCE = 1.0, 0.04
NO_NORM = {"head_norm": "none", "projector_last_norm": False}
# name -> recipe, factor of the terms, fields of the network
KINDS: dict[str, tuple[str, float, dict[str, Any]]] = {
    "BYOL": ("byol", 4.0, {}),
    "SimSiam": ("simsiam", 1.0, {}),
    "SimSiam-BN": ("simsiam", 1.0, NO_NORM),
    "SimSiam-BN-PR": ("simsiam", 1.0, {**NO_NORM, "predictor_layers": 0}),
}
TERMS = {"none": (0.0, 0.0), "var": (VARIANCE, 0.0), "var+cov": (VARIANCE, COVARIANCE)}
COLUMN = "ImageNet, 100 epochs"
published: dict[str, dict[str, float | str]] = {
    "BYOL none": {COLUMN: 69.3},
    "BYOL var": {COLUMN: 70.2},
    "BYOL var+cov": {COLUMN: 69.5},
    "SimSiam none": {COLUMN: 67.9},
    "SimSiam var": {COLUMN: 68.1},
    "SimSiam var+cov": {COLUMN: 67.6},
    "SimSiam-BN none": {COLUMN: 35.1},
    "SimSiam-BN var": {COLUMN: 67.3},
    "SimSiam-BN var+cov": {COLUMN: 67.1},
    "SimSiam-BN-PR none": {COLUMN: "collapse"},
    "SimSiam-BN-PR var": {COLUMN: 56.8},
    "SimSiam-BN-PR var+cov": {COLUMN: 66.1},
}
CLAIMS: tuple[Claim, ...] = (
    ("SimSiam none", ">", "SimSiam-BN none"),
    ("SimSiam-BN var", ">", "SimSiam-BN none"),
    ("SimSiam-BN var", "~", "SimSiam-BN var+cov"),
    ("SimSiam-BN-PR var", ">", "SimSiam-BN-PR none"),
    ("SimSiam-BN-PR var+cov", ">", "SimSiam-BN-PR var"),
    ("SimSiam-BN-PR var+cov", ">", "SimSiam-BN-PR none"),
    ("BYOL var", ">", "BYOL none"),
    ("BYOL var+cov", "~", "BYOL none"),
    ("SimSiam var", "~", "SimSiam none"),
    ("SimSiam var+cov", "~", "SimSiam none"),
)


def cells(scale: str, data: str) -> dict[str, RunConfig[Any]]:
    """Four networks with three sets of terms; at cpu SimSiam without norm and predictor, with none and all."""
    grid: dict[str, RunConfig[Any]] = {}
    for kind, (recipe, factor, network) in KINDS.items():
        for terms, (variance, covariance) in TERMS.items():
            objective = {"variance": factor * variance, "covariance": factor * covariance, "site": "projector"}
            fields = {"method": objective, "network": network}
            grid[f"{kind} {terms}"] = cell(recipe, scale, data, fields)
    headline = ("SimSiam-BN-PR none", "SimSiam-BN-PR var+cov")
    return {name: grid[name] for name in headline} if scale == "cpu" else grid


def conclude(results: Results) -> str:
    """Which published comparisons were seen, and whether the one published collapse was."""
    bare = results.get("SimSiam-BN-PR none", [])  # in a part of the grid it may not be
    lost = sum("collapse" in r["verdict"] for r in bare)
    collapse = f"Published collapse of SimSiam-BN-PR without terms: in {lost} of {len(bare)} runs."
    return f"{check_claims(results, CLAIMS)} {collapse} {failures(results)}"


def figure(results: Results) -> Any:
    """A bar a cell, coloured by its terms."""
    colours = {"none": BLUE, "var": ORANGE, "var+cov": GREEN}
    groups = {name: colours[name.rsplit(" ", 1)[1]] for name in results}
    return bars(results, "Terms: none (blue), variance (orange), variance + covariance (green)", groups)
