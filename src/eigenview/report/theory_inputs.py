"""From a run's files to what the linear theory needs of it, where each number is from, and which assumptions fail."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy import ndarray

from eigenview import runfiles
from eigenview.errors import UserError
from eigenview.report.numbers import MISSING, count, number, percent, short
from eigenview.report.read import RunRecord
from eigenview.report.theory_fit import Course

LEARNED = ("byol", "simsiam")
COMPUTED = ("directset", "directpred", "directcopy", "isoloss")
ALIGNED = 0.7
"""Mean cosine of v and W_p v from which modes are taken to evolve each on its own."""
MOST_OF_F = 0.95  # of its trace at the start: the modes that are followed, within these numbers of them
LEAST_MODES, MOST_MODES = 8, 32
LEAST_SIGNAL = 0.01  # of F, which is signal and noise: less is not told from 0 by a few hundred images
NOT_SHARED = 0.05  # commutator and asymmetry from which they are named
NOT_CONSTANT = 1.25  # ratio of the largest to the smallest noise at which it is named


@dataclass(frozen=True, kw_only=True)
class Given:
    """A run as the theory sees it."""

    course: Course
    epochs: ndarray
    """(T) of the diagnoses."""
    held: float
    """Share of the trace of F, at the start, of the modes that are followed."""
    sources: list[tuple[str, str, str]]
    """Quantity, value, where it is from."""
    broken: list[str]
    """Assumptions of the theory that this run does not meet, a sentence each."""


def given(record: RunRecord) -> Given:
    """What the theory needs of a run.

    Raises UserError, with the way out, where the run has no predictor, was trained through its target, has no spectra
    of F and W_p in two diagnoses, or no learning rates in its log.
    """
    config = record.config
    _refuse(record)
    epoch_of = {number(row.get("step")): number(row.get("epoch")) for row in record.diagnostics}
    rows = {number(row.get("step")): row for row in record.diagnostics}
    steps = record.spectra["step"].astype(float)
    first = _start(record, steps, rows)
    steps = steps[first:]
    F, W_p = (record.spectra[name][first:].astype(float) for name in ("F", "W_p"))
    num = _num_modes(F, W_p)
    rest = F[0, num:][np.isfinite(F[0, num:])]
    held = float(F[0, :num].sum() / (F[0, :num].sum() + rest.sum()))
    sigma2, noise_source, noises = _noise(record, first, F, num, [rows.get(s, {}) for s in steps.tolist()])
    learning_rate = _logged(record, "lr") or (np.zeros(0), np.zeros(0))
    _refuse_gaps(record, steps, learning_rate)
    kept = _logged(record, "target_momentum")
    tau, tau_source = _target(record, first, num, kept is not None)
    optim = config["optim"]
    # momentum multiplies every step, the decay's included, by 1 / (1 - momentum); the gradient's is fitted anyway
    speed = 1 / (1 - optim["momentum"]) if optim["name"] in ("sgd", "lars", "lars-clip") else 1.0
    predictor_decay = optim.get("predictor_weight_decay")
    course = Course(
        steps=steps,
        F=F[:, :num],
        W_p=W_p[:, :num],
        sigma2=sigma2,
        tau=tau,
        learning_rate=learning_rate,
        kept=kept,
        decay=speed * optim["weight_decay"],
        predictor_decay=speed * (optim["weight_decay"] if predictor_decay is None else predictor_decay),
        alpha_p=float(optim.get("predictor_lr_factor", 1.0)),
        predictor=_predictor(config, rest),
        passes_predictor=config["method"] != "isoloss",
    )
    epochs = np.array([epoch_of.get(step) or 0.0 for step in steps.tolist()])
    rates = learning_rate[1]
    sources = [
        ("start", f"epoch {short(epochs[0])}", _why_there(first, rows.get(float(steps[0]), {}))),
        ("sigma²", _span(sigma2), noise_source),
        ("learning rate", _span(rates[rates > 0]), "logged; the theory follows its schedule"),
        ("weight decay", short(optim["weight_decay"]), _decay_words(course)),
    ]
    if course.predictor is None:
        sources.append(("alpha_p", short(course.alpha_p), "option optim.predictor_lr_factor"))
    else:
        sources.append(("p of s", _law_words(config), "the method's own formula, in place of an equation for p"))
    if kept is not None:
        sources.append(("tau kept at each step", _span(kept[1]), "logged; the theory follows its schedule"))
        sources.append(("target over encoder at the start", _span(tau), tau_source))
    return Given(
        course=course,
        epochs=epochs,
        held=held,
        sources=sources,
        broken=_broken(record, [rows.get(s, {}) for s in steps.tolist()], noises),
    )


def _refuse(record: RunRecord) -> None:
    config = record.config
    method = config.get("method")
    if method not in LEARNED + COMPUTED:
        raise UserError(
            f"--theory: {record.name} is a run of {method}, which has no predictor: the theory is about W_p and F, "
            f"so there is nothing to lay over it. Leave it out, or give a run of {', '.join(LEARNED + COMPUTED)}."
        )
    if config.get("objective", {}).get("stop_gradient") is False and _logged(record, "target_momentum") is None:
        raise UserError(
            f"--theory: {record.name} was trained without stop-gradient, and the theory holds the target constant. "
            "Leave --theory out; without stop-gradient every mode decays (theory/linear_byol.py)."
        )
    if not {"F", "W_p"} <= record.spectra.keys():
        raise UserError(
            f"--theory: {record.path / runfiles.SPECTRA} has no spectra of F and W_p, which are written from the first "
            "diagnosis on. Leave --theory out, or train again with this version."
        )


def _start(record: RunRecord, steps: ndarray, rows: dict[float | None, dict[str, Any]]) -> int:
    """The first diagnosis with aligned modes, or the first after step 0, that has another after it."""
    last = len(steps) - 1
    for k in range(last):
        alignment = number((rows.get(float(steps[k]), {}).get("predictor") or {}).get("alignment"))
        if alignment is not None and alignment >= ALIGNED:
            return k
    if last < 2:
        raise UserError(
            f"--theory: {record.name} has {count(len(steps), 'diagnosis', 'diagnoses')} with spectra; where modes are "
            "not aligned from the start it takes 3 or more. Train longer, or with --monitor.every-epochs 0.5."
        )
    return 1


def _why_there(first: int, row: dict[str, Any]) -> str:
    alignment = number((row.get("predictor") or {}).get("alignment"))
    words = f"mean cosine of v and W_p v is {short(alignment)} there"
    if alignment is not None and alignment >= ALIGNED:
        return f"the first diagnosis at which modes are aligned: {words}"
    return f"the first after step 0; modes are never aligned before the last diagnosis ({words})"


def _num_modes(F: ndarray, W_p: ndarray) -> int:
    """The leading modes that hold most of F at the start, of those measured in every diagnosis."""
    measured = np.all(np.isfinite(F) & np.isfinite(W_p) & (F > 0), axis=0)
    known = F.shape[1] if measured.all() else int(np.argmin(measured))
    if known == 0:
        raise UserError("--theory: no mode of F has a measured W_p in every diagnosis. Leave --theory out.")
    share = np.nan_to_num(F[0]).cumsum()
    most = 1 + int((share < MOST_OF_F * share[-1]).sum())
    return min(known, MOST_MODES, max(LEAST_MODES, most))


def _noise(
    record: RunRecord, first: int, F: ndarray, num: int, rows: list[dict[str, Any]]
) -> tuple[ndarray, str, list[float]]:
    """(sigma2 of each mode, where from, the same of all modes together at each diagnosis)."""
    noise = record.spectra.get("noise")
    if noise is not None:
        within = noise[first:, :num].astype(float)
        between = (F[:, :num] - within).clip(LEAST_SIGNAL * F[:, :num])
        together = (within.sum(axis=1) / between.sum(axis=1)).tolist()
        source = "measured: variance of an image's views along each mode over the rest of F, mean of the diagnoses"
        return within.sum(axis=0) / between.sum(axis=0), source, together
    cosines = [number((row.get("z") or {}).get("cosine_views")) for row in rows]
    together = [1 / c - 1 for c in cosines if c is not None and c > 0]
    if not together:
        raise UserError("--theory: this run has recorded nothing of its views' noise. Train again with this version.")
    source = (
        "this older run has no noise by mode: from the mean cosine c of two views of an image, 1 / c - 1, the same for "
        "every mode"
    )
    return np.full(num, float(np.mean(together))), source, together


def _target(record: RunRecord, first: int, num: int, has_target: bool) -> tuple[ndarray, str]:
    measured = record.spectra.get("target")
    if not has_target:
        return np.ones(num), "the target is the network"
    if measured is None:
        return np.ones(num), "not recorded by this older run; taken to be 1"
    return np.nan_to_num(measured[first, :num].astype(float), nan=1.0).clip(0.0), "measured along each mode"


def _logged(record: RunRecord, key: str) -> tuple[ndarray, ndarray] | None:
    """Steps and values of a number in the log; a row at step k tells of the step before it, which began at k - 1."""
    pairs = [(number(row.get("step")), number(row.get(key))) for row in record.metrics]
    known = [(step - 1, value) for step, value in pairs if step is not None and value is not None]
    if not known:
        return None
    steps, values = np.array(sorted(set(known))).T
    return steps, values


def _refuse_gaps(record: RunRecord, steps: ndarray, learning_rate: tuple[ndarray, ndarray]) -> None:
    """The schedule is read off the log, which a run of a few steps leaves almost empty."""
    inside = learning_rate[0][(learning_rate[0] > steps[0]) & (learning_rate[0] < steps[-1])]
    gap = float(np.diff(np.concatenate([steps[:1], inside, steps[-1:]])).max())
    if gap > max(1.0, (steps[-1] - steps[0]) / 4):
        span = short(steps[-1] - steps[0])
        raise UserError(
            f"--theory follows the learning rate in {record.path / runfiles.METRICS}, which has gaps of {short(gap)} "
            f"of the {span} steps in question. Train longer, or with --monitor.log-every-steps 1."
        )


def _predictor(config: dict[str, Any], rest: ndarray) -> Callable[[ndarray], ndarray] | None:
    """W_p's eigenvalues from those of F, where they are not learned; `rest` are modes of F that are not followed."""
    if config["method"] in LEARNED:
        return np.ones_like if config["network"].get("predictor_layers") == 0 else None
    o = config["objective"]
    alpha, eps, floor, norm = float(o["alpha"]), float(o["eps"]), float(o["floor"]), o["normalise_by"]

    def size(values: ndarray, others: ndarray) -> float:
        """The norm of a matrix with these eigenvalues, and the others, held constant, where they count."""
        if norm == "none":
            return 1.0
        return float(values.max() if norm == "spectral" else np.sqrt(np.square(values).sum() + np.square(others).sum()))

    def law(F: ndarray) -> ndarray:
        F = F.clip(1e-300)
        if o["eps_inside"]:
            return np.maximum(F / size(F, rest) + eps, floor) ** alpha
        return np.maximum(F**alpha / size(F**alpha, rest**alpha) + eps, floor)

    return law


def _law_words(config: dict[str, Any]) -> str:
    o = config["objective"]
    if config["method"] in LEARNED:
        return "1: no predictor"
    norm = "" if o["normalise_by"] == "none" else f" over its {o['normalise_by']} norm"
    if o["eps_inside"]:
        return f"(F{norm} + {o['eps']:g})^{o['alpha']:g}"
    return f"F^{o['alpha']:g}{norm} + {o['eps']:g}"


def _decay_words(course: Course) -> str:
    words = "option optim.weight_decay; eta = decay / time scale"
    faster = course.alpha_p * course.predictor_decay
    if course.predictor is None and faster != course.decay:
        words += f"; the predictor's weights decay {short(faster / course.decay) if course.decay else 'alone'}"
        words += " times as fast" if course.decay else ""
    return words


def _broken(record: RunRecord, rows: list[dict[str, Any]], noises: list[float]) -> list[str]:
    """Which assumptions this run does not meet: measured ones with their number, then those of its options."""
    config, optim, o = record.config, record.config["optim"], record.config["objective"]
    measures = [row.get("predictor") or {} for row in rows]

    def worst(key: str, of: Callable[[list[float]], float]) -> float | None:
        values = [x for row in measures if (x := number(row.get(key))) is not None]
        return of(values) if values else None

    found: list[str] = []
    commutator, least = worst("commutator", max), worst("alignment_min", min)
    if commutator is not None and commutator > NOT_SHARED:
        found.append(
            f"F and W_p do not share their eigenvectors: their commutator is up to {short(commutator)}, the least "
            f"aligned mode has a cosine of {short(least)}. Modes then feed one another."
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
            f"{short(noises[-1])} while the features are learned."
        )
    network = Path(str(config.get("encoder"))).name
    found.append(f"The encoder, {network}, is not linear: what a step does to F depends on all of its weights.")
    cosine = o.get("normalise", o.get("metric", "cosine") == "cosine")
    if cosine:
        found.append(
            "The loss compares directions (cosine), which ignores the size of F and W_p and couples the modes."
        )
    if optim["name"] != "sgd":
        found.append(
            f"{optim['name']} adapts its steps to each weight's gradient; in the theory they are proportional to it."
        )
    if any(number(o.get(name)) for name in ("variance", "covariance")):
        found.append("Variance or covariance terms, which the theory lacks, are part of the loss.")
    if o.get("centre"):
        found.append("W_p is made from F without the mean; the spectra are of F with it.")
    if (number(o.get("refresh_every")) or 1) > 1:
        found.append(f"W_p is computed every {short(o['refresh_every'])} steps only, and trained in between.")
    past = number(o.get("rho")) or 0.0
    if past >= 0.9:
        found.append(f"W_p is made from a running mean of F over about {short(round(1 / (1 - past)))} steps.")
    return found


def _span(values: ndarray) -> str:
    if not values.size:
        return MISSING
    low, high = (short(float(f"{v:.4g}")) for v in (values.min(), values.max()))
    return low if low == high else f"{low} to {high}"
