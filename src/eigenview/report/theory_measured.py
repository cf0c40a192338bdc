"""What the theory reads from a run's spectra and logs: its start, its modes, their noise, the target, the schedules."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy import ndarray

from eigenview import runfiles
from eigenview.errors import UserError
from eigenview.report.numbers import count, number, short
from eigenview.report.read import RunRecord

ALIGNED = 0.7
"""Mean cosine of v and W_p v from which modes are taken to evolve independently."""
MOST_OF_F = 0.95  # share of F's trace at the start: the modes that hold it are followed, within the two limits below
LEAST_MODES, MOST_MODES = 8, 32
LEAST_SIGNAL = 0.01  # of F, which is signal and noise: a few hundred images do not distinguish less from 0


def start_diagnosis(record: RunRecord, steps: ndarray, rows: dict[float | None, dict[str, Any]]) -> int:
    """Index of the diagnosis at which the theory starts: the first with aligned modes, else the first after step 0.

    The last diagnosis is never the start.

    Raises: UserError if no modes are aligned and there are fewer than three diagnoses.
    """
    last = len(steps) - 1
    for k in range(last):
        alignment = number((rows.get(float(steps[k]), {}).get("predictor") or {}).get("alignment"))
        if alignment is not None and alignment >= ALIGNED:
            return k
    if last < 2:
        raise UserError(
            f"--theory: {record.name} has {count(len(steps), 'diagnosis', 'diagnoses')} with spectra; with modes that "
            "are not aligned from the start, 3 or more are needed. Train longer, or with --monitor.every-epochs 0.5."
        )
    return 1


def reason_for_start(first: int, row: dict[str, Any]) -> str:
    """In words, why the theory starts at the diagnosis number `first`."""
    alignment = number((row.get("predictor") or {}).get("alignment"))
    words = f"mean cosine of v and W_p v is {short(alignment)} there"
    if alignment is not None and alignment >= ALIGNED:
        return f"the first diagnosis at which modes are aligned: {words}"
    return f"the first after step 0; modes are never aligned before the last diagnosis ({words})"


def num_modes(F: ndarray, W_p: ndarray) -> int:
    """How many leading modes are followed: those that hold 95 % of F at the start, if every diagnosis measured them.

    Raises: UserError if not even the first mode was measured in every diagnosis.
    """
    measured = np.all(np.isfinite(F) & np.isfinite(W_p) & (F > 0), axis=0)
    known = F.shape[1] if measured.all() else int(np.argmin(measured))
    if known == 0:
        raise UserError("--theory: no mode of F has a measured W_p in every diagnosis. Leave --theory out.")
    share = np.nan_to_num(F[0]).cumsum()
    enough = 1 + int((share < MOST_OF_F * share[-1]).sum())
    return min(known, MOST_MODES, max(LEAST_MODES, enough))


def views_noise(
    record: RunRecord, first: int, F: ndarray, num: int, rows: list[dict[str, Any]]
) -> tuple[ndarray, str, list[float]]:
    """(sigma2 of each mode, its source in words, sigma2 of all modes together at each diagnosis).

    Raises: UserError if the run recorded neither the noise along the modes nor the cosine of two views.
    """
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
        raise UserError("--theory: this run did not record the noise of its views. Train again with this version.")
    source = (
        "this older run has no noise by mode: 1 / c - 1 for every mode, from the mean cosine c of two views of an image"
    )
    return np.full(num, float(np.mean(together))), source, together


def target_weight(record: RunRecord, first: int, num: int, has_target: bool) -> tuple[ndarray, str]:
    """(the target's weight over the encoder's along each mode at the start, its source in words)."""
    measured = record.spectra.get("target")
    if not has_target:
        return np.ones(num), "the target is the network"
    if measured is None:
        return np.ones(num), "not recorded by this older run; assumed to be 1"
    return np.nan_to_num(measured[first, :num].astype(float), nan=1.0).clip(0.0), "measured along each mode"


def logged(record: RunRecord, key: str) -> tuple[ndarray, ndarray] | None:
    """Steps and values of a number in metrics.jsonl, or None. Its row at step k describes the step from k - 1 to k."""
    pairs = [(number(row.get("step")), number(row.get(key))) for row in record.metrics]
    known = [(step - 1, value) for step, value in pairs if step is not None and value is not None]
    if not known:
        return None
    steps, values = np.array(sorted(set(known))).T
    return steps, values


def require_dense_log(record: RunRecord, steps: ndarray, learning_rate: tuple[ndarray, ndarray]) -> None:
    """Raises UserError if the log is too sparse to follow the learning rate's schedule, as in a run of few steps."""
    inside = learning_rate[0][(learning_rate[0] > steps[0]) & (learning_rate[0] < steps[-1])]
    gap = float(np.diff(np.concatenate([steps[:1], inside, steps[-1:]])).max())
    if gap > max(1.0, (steps[-1] - steps[0]) / 4):
        span = short(steps[-1] - steps[0])
        raise UserError(
            f"--theory follows the learning rate in {record.path / runfiles.METRICS}, which has gaps of {short(gap)} "
            f"of the {span} steps in question. Train longer, or with --monitor.log-every-steps 1."
        )
