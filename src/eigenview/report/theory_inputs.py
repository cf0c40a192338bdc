"""From a run's files to the inputs of the linear theory, with the source of each number and the assumptions unmet."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy import ndarray

from eigenview import runfiles
from eigenview.errors import UserError
from eigenview.methods import METHODS, card
from eigenview.records import PredictorTheory
from eigenview.report.numbers import MISSING, number, short
from eigenview.report.read import RunRecord
from eigenview.report.theory_assumptions import unmet_assumptions
from eigenview.report.theory_curves import ModeHistory
from eigenview.report.theory_measured import (
    logged,
    num_modes,
    reason_for_start,
    require_dense_log,
    start_diagnosis,
    target_weight,
    views_noise,
)


@dataclass(frozen=True, kw_only=True)
class TheoryInputs:
    """What the theory needs of one run, and what the page says about it."""

    history: ModeHistory
    epochs: ndarray
    """(T) of the diagnoses."""
    trace_share: float
    """Share of the trace of F, at the start, that the followed modes hold."""
    sources: list[tuple[str, str, str]]
    """Quantity, value, source."""
    unmet: list[str]
    """Assumptions of the theory that this run does not meet, a sentence each."""
    exact_time_scale: int
    """Time scale of plain SGD on a linear network with the Euclidean loss."""


def theory_inputs(record: RunRecord) -> TheoryInputs:
    """The inputs of the theory for one run.

    Raises: UserError, which says what to do, if the run has no predictor, was trained without stop-gradient, has no
        spectra of F and W_p in two diagnoses, or too few learning rates in its log.
    """
    config = record.config
    theory = _theory_of_method(record)
    _require_recorded(record)
    epoch_of = {number(row.get("step")): number(row.get("epoch")) for row in record.diagnostics}
    rows = {number(row.get("step")): row for row in record.diagnostics}
    steps = record.spectra["step"].astype(float)
    first = start_diagnosis(record, steps, rows)
    steps = steps[first:]
    F, W_p = (record.spectra[name][first:].astype(float) for name in ("F", "W_p"))
    num = num_modes(F, W_p)
    rest = F[0, num:][np.isfinite(F[0, num:])]
    trace_share = float(F[0, :num].sum() / (F[0, :num].sum() + rest.sum()))
    sigma2, noise_source, noises = views_noise(record, first, F, num, [rows.get(s, {}) for s in steps.tolist()])
    learning_rate = logged(record, "lr") or (np.zeros(0), np.zeros(0))
    require_dense_log(record, steps, learning_rate)
    target_momentum = logged(record, "target_momentum")
    tau, tau_source = target_weight(record, first, num, target_momentum is not None)
    optim = config["optim"]
    # momentum multiplies every step, the decay's included, by 1 / (1 - momentum); the gradient's is fitted anyway
    speed = 1 / (1 - optim["momentum"]) if optim["name"] in ("sgd", "lars", "lars-clip") else 1.0
    predictor_decay = optim.get("predictor_weight_decay")
    history = ModeHistory(
        steps=steps,
        F=F[:, :num],
        W_p=W_p[:, :num],
        sigma2=sigma2,
        tau=tau,
        learning_rate=learning_rate,
        target_momentum=target_momentum,
        decay=speed * optim["weight_decay"],
        predictor_decay=speed * (optim["weight_decay"] if predictor_decay is None else predictor_decay),
        alpha_p=float(optim.get("predictor_lr_factor", 1.0)),
        predictor=_predictor(config, theory, rest),
        passes_predictor=theory.in_gradient,
    )
    epochs = np.array([epoch_of.get(step) or 0.0 for step in steps.tolist()])
    start = reason_for_start(first, rows.get(float(steps[0]), {}))
    return TheoryInputs(
        history=history,
        epochs=epochs,
        trace_share=trace_share,
        sources=[
            ("start", f"epoch {short(epochs[0])}", start),
            *_sources(config, theory, history, noise_source, tau_source),
        ],
        unmet=unmet_assumptions(record, [rows.get(s, {}) for s in steps.tolist()], noises),
        exact_time_scale=theory.time_scale,
    )


def _sources(
    config: dict[str, Any], theory: PredictorTheory, history: ModeHistory, noise_source: str, tau_source: str
) -> list[tuple[str, str, str]]:
    """Rows (quantity, value, source) of the numbers that enter the theory's equations."""
    rates, decay = history.learning_rate[1], config["optim"]["weight_decay"]
    rows = [
        ("sigma²", _span(history.sigma2), noise_source),
        ("learning rate", _span(rates[rates > 0]), "logged; the theory follows the schedule"),
        ("weight decay", short(decay), _decay_words(history)),
    ]
    if history.predictor is None:
        rows.append(("alpha_p", short(history.alpha_p), "option optim.predictor_lr_factor"))
    else:
        rows.append(("p of s", _law_words(config, theory), "the method's formula; it replaces the equation for p"))
    if history.target_momentum is not None:
        momentum = _span(history.target_momentum[1])
        rows.append(("target momentum at each step", momentum, "logged; the theory follows the schedule"))
        rows.append(("target over encoder at the start", _span(history.tau), tau_source))
    return rows


def _theory_of_method(record: RunRecord) -> PredictorTheory:
    """What the method's card says of its predictor. Raises UserError if it has none."""
    theory = card(record.config["method"]["name"]).theory
    if theory is None:
        others = ", ".join(name for name in METHODS if card(name).theory is not None)
        raise UserError(
            f"--theory: {record.name} is a run of {record.method}, which has no predictor: the theory is about W_p and "
            f"F, so it predicts nothing here. Leave --theory out, or give a run of {others}."
        )
    return theory


def _require_recorded(record: RunRecord) -> None:
    """Raises UserError if the target was not held constant, or the spectra were not recorded."""
    if record.config["method"].get("stop_gradient") is False and logged(record, "target_momentum") is None:
        raise UserError(
            f"--theory: {record.name} was trained without stop-gradient, and the theory holds the target constant. "
            "Leave --theory out; without stop-gradient every mode decays (theory/linear_byol.py)."
        )
    if not {"F", "W_p"} <= record.spectra.keys():
        raise UserError(
            f"--theory: {record.path / runfiles.SPECTRA} has no spectra of F and W_p, which are written from the first "
            "diagnosis on. Leave --theory out, or train again with this version."
        )


def _predictor(config: dict[str, Any], theory: PredictorTheory, rest: ndarray) -> Callable[[ndarray], ndarray] | None:
    """The function from eigenvalues of F to those of W_p, if W_p is computed; None if it is learned.

    `rest` are the eigenvalues of F that are not followed; they count in a norm over all modes.
    """
    if not theory.computed:
        return np.ones_like if config["network"].get("predictor_layers") == 0 else None
    o = _formula(config, theory)
    alpha, eps, floor, norm = float(o["alpha"]), float(o["eps"]), float(o["floor"]), o["normalise_by"]

    def size(values: ndarray, others: ndarray) -> float:
        """The norm of a matrix with these eigenvalues and, in the Frobenius norm, the constant others."""
        if norm == "none":
            return 1.0
        return float(values.max() if norm == "spectral" else np.sqrt(np.square(values).sum() + np.square(others).sum()))

    def law(F: ndarray) -> ndarray:
        F = F.clip(1e-300)
        if o["eps_inside"]:
            return np.maximum(F / size(F, rest) + eps, floor) ** alpha
        return np.maximum(F**alpha / size(F**alpha, rest**alpha) + eps, floor)

    return law


def _formula(config: dict[str, Any], theory: PredictorTheory) -> dict[str, Any]:
    """Options of a computed predictor; runs of earlier versions recorded some that are the method's own today."""
    return {"eps_inside": theory.eps_inside, "floor": theory.floor, "normalise_by": "spectral"} | config["method"]


def _law_words(config: dict[str, Any], theory: PredictorTheory) -> str:
    if not theory.computed:
        return "1: no predictor"
    o = _formula(config, theory)
    norm = "" if o["normalise_by"] == "none" else f" over its {o['normalise_by']} norm"
    if o["eps_inside"]:
        return f"(F{norm} + {o['eps']:g})^{o['alpha']:g}"
    return f"F^{o['alpha']:g}{norm} + {o['eps']:g}"


def _decay_words(history: ModeHistory) -> str:
    words = "option optim.weight_decay; eta = decay / time scale"
    faster = history.alpha_p * history.predictor_decay
    if history.predictor is None and faster != history.decay:
        words += f"; the predictor's weights decay {short(faster / history.decay) if history.decay else 'alone'}"
        words += " times as fast" if history.decay else ""
    return words


def _span(values: ndarray) -> str:
    if not values.size:
        return MISSING
    low, high = (short(float(f"{v:.4g}")) for v in (values.min(), values.max()))
    return low if low == high else f"{low} to {high}"
