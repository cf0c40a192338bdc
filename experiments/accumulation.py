"""Four micro-batches of 32 against one batch of 128, for VICReg and the unbiased form

Question: does accumulating gradients over micro-batches train the same network?
Source: none. Pilot: ../shared/unbiased-pilot.md (k-NN 48.5 -> 46.1 for the plug-in, 48.1 -> 48.4 unbiased).
Theory: the plug-in covariance of 32 images is too large by PR/31 instead of PR/127, a penalty on the embedding's size;
the U-statistic's mean does not change. Batch norm sees 32 images at a time and couples them. With norms of one image
(group norm in the encoder, layer norm in the projector) the unbiased form's mean gradient is exactly that of 128.
Prediction, written before any run: VICReg loses 2 points, the unbiased form nothing measurable; with batch norm it
loses up to a point.
Settings: both with covariance weight 4 (the pilot's, so that only the estimator differs); plug-in hinge for VICReg, and
dual for the unbiased form. VICReg's parts need --accumulate-coupled: without it the command refuses. The form with the
plug-in hinge was added after the first eight cells, in which dual lost more than VICReg did, to tell hinge from noise.
"""

from __future__ import annotations

from typing import Any

from experiments._grids import BLUE, ORANGE, Results, bars, cell, difference, failures, is_same, numbers, within

from eigenview.config import RunConfig

FORMS: dict[str, tuple[str, dict[str, Any]]] = {
    "VICReg": ("vicreg", {"covariance": 4.0}),
    "unbiased": ("unbiased-vicreg", {"covariance": 4.0, "hinge": "dual"}),
    "unbiased plug-in hinge": ("unbiased-vicreg", {"covariance": 4.0, "hinge": "plugin"}),
}
NORMS: dict[str, dict[str, Any]] = {
    "row norms": {"encoder_norm": "group", "head_norm": "layer"},
    "batch norm": {},
}
BATCHES = {"1 x 128": 1, "4 x 32": 4}
published: dict[str, dict[str, float]] = {}


def cells(scale: str, data: str) -> dict[str, RunConfig[Any]]:
    """Three forms, two kinds of norm, one batch and four parts; at cpu the unbiased form without batch norm."""
    grid = {
        f"{form} {norm} {batch}": cell(
            recipe,
            scale,
            data,
            {
                "objective": objective,
                "network": network,
                "batch_size": 128,
                "accumulate": parts,
                "accumulate_coupled": parts > 1 and objective.get("hinge") != "dual",
            },
        )
        for norm, network in NORMS.items()
        for form, (recipe, objective) in FORMS.items()
        for batch, parts in BATCHES.items()
    }
    headline = [f"unbiased row norms {batch}" for batch in BATCHES]
    return {name: grid[name] for name in headline} if scale == "cpu" else grid


def conclude(results: Results) -> str:
    """What four parts change, by form and norm, in k-NN and linear accuracy."""
    said: list[str] = []
    for norm in NORMS:
        for form in FORMS:
            whole, parts = (results.get(f"{form} {norm} {batch}", []) for batch in BATCHES)
            if not numbers(whole) or not numbers(parts):
                continue
            changes = {c: difference(parts, whole, c) for c in ("knn", "linear")}
            words = ", ".join(
                f"{name} {within(*changes[c])}{' (nothing)' if is_same(*changes[c]) else ''}"
                for c, name in (("knn", "k-NN"), ("linear", "linear"))
            )
            said.append(f"{form}, {norm}: {words}")
    found = "; ".join(said) if said else "no pair of cells finished"
    return f"4 x 32 against 1 x 128: {found}. {failures(results)}"


def figure(results: Results) -> Any:
    """A bar a cell; the unbiased form in orange."""
    colours = {name: ORANGE if name.startswith("unbiased") else BLUE for name in results}
    return bars(results, "One batch of 128, or four parts of 32: VICReg (blue), unbiased (orange)", colours)
