"""Does the unbiased form need the wide expander?

Question: accuracy over the projector's width, VICReg as published against the unbiased form.
Source: Bardes, Ponce, LeCun 2022 (VICReg, arXiv 2105.04906), where ImageNet accuracy grows with the expander's width
at a covariance weight of 1: 59.2, 65.1 and 68.6 at 512, 2048 and 8192.
Theory: the width enters the plug-in's bias only through the participation ratio of the embedding.
Prediction, written before any run: both gain from 128 to 512 and little after; at 2048 the plug-in loses to the
unbiased form, whose k-NN does not fall: its embedding has more directions than a batch of 128 can judge by the plug-in.
Settings: recipes small-vicreg (covariance 1, as published, and 4) and small-unbiased-vicreg (4); hidden width as the
output's.
"""

from __future__ import annotations

from typing import Any

from eigenview.config import RunConfig
from experiments._grids import Results, cell, failures, lines, order

FORMS: dict[str, tuple[str, dict[str, Any]]] = {
    "VICReg nu 1": ("vicreg", {"covariance": 1.0}),
    "VICReg nu 4": ("vicreg", {"covariance": 4.0}),
    "unbiased nu 4": ("unbiased-vicreg", {"covariance": 4.0}),
}
WIDTHS = {"tiny": (128, 512, 2048), "cpu": (128, 2048), "gpu": (128, 512, 2048)}
COLUMN = "ImageNet linear"
published: dict[str, dict[str, float]] = {
    "VICReg nu 1 D 512": {COLUMN: 59.2},
    "VICReg nu 1 D 2048": {COLUMN: 65.1},
}


def cells(scale: str, data: str) -> dict[str, RunConfig[Any]]:
    """Three forms at each width; the unbiased one at cpu."""
    return {
        f"{form} D {width}": cell(
            recipe,
            scale,
            data,
            {"method": objective, "network": {"projector_hidden": width, "projector_width": width}},
        )
        for form, (recipe, objective) in FORMS.items()
        for width in WIDTHS[scale]
        if scale != "cpu" or recipe == "unbiased-vicreg"
    }


def of_form(results: Results, form: str) -> Results:
    """A form's runs by width."""
    return {name.rsplit(" ", 1)[1]: runs for name, runs in results.items() if name.startswith(form)}


def conclude(results: Results) -> str:
    """The order of the widths for each form."""
    found = {form: of_form(results, form) for form in FORMS}
    sentences = [f"{form}, by width: {order(runs, 'knn')}" for form, runs in found.items() if runs]
    return f"k-NN. {'; '.join(sentences)}. {failures(results)}"


def figure(results: Results) -> Any:
    """k-NN over the width, a line a form."""
    return lines({form: of_form(results, form) for form in FORMS}, "Projector width", "width D", "knn")
