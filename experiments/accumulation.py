"""Four micro-batches of 32, or eight of 16, against one batch of 128, for VICReg and the unbiased form

Question: does accumulating gradients over micro-batches train the same network?
Source: none. A pilot on twice the images had k-NN 48.5 -> 46.1 for the plug-in, 48.1 -> 48.4 unbiased.
Theory: the plug-in covariance of 32 images is too large by PR/31 instead of PR/127, a penalty on the embedding's size;
the U-statistic's mean does not change. Batch norm sees 32 images at a time and couples them. With norms of one image
(group norm in the encoder, layer norm in the projector) the unbiased form's mean gradient is exactly that of 128.
Prediction, written before any run: VICReg loses 2 points, the unbiased form nothing measurable; with batch norm it
loses up to a point.
Settings: both with covariance weight 4 (the pilot's, so that only the estimator differs); plug-in hinge for VICReg, and
dual for the unbiased form. VICReg's parts need --grad-accum-coupled: without it the command refuses. The form with the
plug-in hinge was added after the first eight cells, in which dual lost more than VICReg did, to tell hinge from noise.
Parts of 16 were added after those of 32, where an embedding of so few directions leaves the plug-in little bias, with a
prediction of their own: VICReg loses 3 points at tiny and 4 at cpu, the unbiased forms under 1.5.
"""

from __future__ import annotations

from typing import Any

from eigenview.config import RunConfig
from experiments._grids import BLUE, ORANGE, Results, bars, cell, difference, failures, is_same, numbers, within

FORMS: dict[str, tuple[str, dict[str, Any]]] = {
    "VICReg": ("vicreg", {"covariance": 4.0}),
    "unbiased": ("unbiased-vicreg", {"covariance": 4.0, "hinge": "dual"}),
    "unbiased plug-in hinge": ("unbiased-vicreg", {"covariance": 4.0, "hinge": "plugin"}),
}
NORMS: dict[str, dict[str, Any]] = {
    "row norms": {"encoder_norm": "group", "head_norm": "layer"},
    "batch norm": {},
}
BATCHES = {"1 x 128": 1, "4 x 32": 4, "8 x 16": 8}
WHOLE = "1 x 128"
published: dict[str, dict[str, float]] = {}


def cells(scale: str, data: str) -> dict[str, RunConfig[Any]]:
    """Three forms, two kinds of norm, one batch and its parts; parts of 16, and all at cpu, without batch norm."""
    grid = {
        f"{form} {norm} {batch}": cell(
            recipe,
            scale,
            data,
            {
                "method": objective,
                "network": network,
                "batch_size": 128,
                "grad_accum_steps": parts,
                "grad_accum_coupled": parts > 1 and objective.get("hinge") != "dual",
            },
        )
        for norm, network in NORMS.items()
        for form, (recipe, objective) in FORMS.items()
        for batch, parts in BATCHES.items()
        if norm == "row norms" or parts < 8
    }
    headline = [f"{form} row norms {batch}" for form in ("VICReg", "unbiased") for batch in (WHOLE, "8 x 16")]
    return {name: grid[name] for name in headline} if scale == "cpu" else grid


def conclude(results: Results) -> str:
    """What parts change, by their number, form and norm, in k-NN and linear accuracy."""
    sentences: list[str] = []
    for batch in BATCHES:
        found = [
            f"{form}, {norm}: {words}"
            for norm in NORMS
            for form in FORMS
            if batch != WHOLE and (words := changes(results, f"{form} {norm}", batch))
        ]
        sentences += [f"{batch} against {WHOLE}: {'; '.join(found)}."] if found else []
    return " ".join((*(sentences or ["No pair of cells finished."]), failures(results)))


def changes(results: Results, form: str, batch: str) -> str:
    """The change from one batch to its parts in words, or nothing where a cell has no finished run."""
    whole, parts = (results.get(f"{form} {name}", []) for name in (WHOLE, batch))
    if not numbers(whole) or not numbers(parts):
        return ""
    by_column = {name: difference(parts, whole, c) for name, c in (("k-NN", "knn"), ("linear", "linear"))}
    return ", ".join(f"{name} {within(*d)}{' (nothing)' if is_same(*d) else ''}" for name, d in by_column.items())


def figure(results: Results) -> Any:
    """A bar a cell; the unbiased form in orange."""
    colours = {name: ORANGE if name.startswith("unbiased") else BLUE for name in results}
    return bars(results, "One batch of 128, or parts of it: VICReg (blue), unbiased (orange)", colours)
