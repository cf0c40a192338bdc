"""Which assumptions of the linear theory a run does not meet, in sentences for the page."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from eigenview.report.numbers import number, percent, short
from eigenview.report.read import RunRecord

NOT_SHARED = 0.05  # commutator, and asymmetry of W_p, above which they are named
NOT_CONSTANT = 1.25  # ratio of the largest to the smallest noise above which it is named


def unmet_assumptions(record: RunRecord, rows: list[dict[str, Any]], noises: list[float]) -> list[str]:
    """A sentence for each assumption that this run does not meet: the measured ones first, then those of its options.

    `rows` are the diagnoses from the start on, `noises` the sigma2 of all modes together at each of them.
    """
    config, optim, o = record.config, record.config["optim"], record.config["method"]
    measures = [row.get("predictor") or {} for row in rows]

    def worst(key: str, of: Callable[[list[float]], float]) -> float | None:
        values = [x for row in measures if (x := number(row.get(key))) is not None]
        return of(values) if values else None

    found: list[str] = []
    commutator, least = worst("commutator", max), worst("alignment_min", min)
    if commutator is not None and commutator > NOT_SHARED:
        found.append(
            f"F and W_p do not share their eigenvectors: their commutator is up to {short(commutator)}, the least "
            f"aligned mode has a cosine of {short(least)}. Each mode then also depends on the others."
        )
    asymmetry = worst("asymmetry", max)
    if asymmetry is not None and asymmetry > NOT_SHARED:
        found.append(f"W_p is not symmetric: |W_p - W_p^T| is up to {short(asymmetry)} of |W_p|.")
    linear = worst("linear_share", min)
    if linear is not None and linear < 0.995:
        found.append(f"The predictor is not linear: a matrix explains {percent(100 * linear)} % of its output.")
    if noises and max(noises) > NOT_CONSTANT * min(noises):
        found.append(
            f"The views' noise is not constant: sigma² of all modes together goes from {short(noises[0])} to "
            f"{short(noises[-1])} during training."
        )
    network = Path(str(config.get("encoder"))).name
    found.append(f"The encoder, {network}, is not linear: what a step does to F depends on all of its weights.")
    cosine = o.get("normalise", o.get("metric", "cosine") == "cosine")
    if cosine:
        found.append(
            "The loss compares directions (cosine), so that it ignores the size of F and W_p and couples the modes."
        )
    if optim["name"] != "sgd":
        found.append(
            f"{optim['name']} rescales each weight's gradient; in the theory steps are proportional to the gradient."
        )
    if any(number(o.get(name)) for name in ("variance", "covariance")):
        found.append("Variance or covariance terms are part of the loss; the theory does not have them.")
    if o.get("centre"):
        found.append("W_p is computed from F of centred embeddings; the spectra are of F without centring.")
    if (number(o.get("refresh_every")) or 1) > 1:
        found.append(f"W_p is computed every {short(o['refresh_every'])} steps only, and is trained in between.")
    rho = number(o.get("rho")) or 0.0
    if rho >= 0.9:
        found.append(f"W_p is computed from a running mean of F over about {short(round(1 / (1 - rho)))} steps.")
    return found
