"""Schedules as pure functions of the step: nothing to save, nothing to resume."""

from __future__ import annotations

import math


def learning_rate(step: int, steps: int, warmup_steps: int, *, peak: float, final_fraction: float = 0.0) -> float:
    """Learning rate of `step` (0-based) of a run of `steps`: linear warm-up from 0, then a cosine to its final value.

    The first step has rate 0 when there is a warm-up, step `warmup_steps` has the peak, and the final value,
    peak * final_fraction, would be reached at step `steps`, one after the last. As VICReg and Barlow Twins publish it
    (facebookresearch/vicreg, main_vicreg.py, commit 4e12602) with final_fraction = 0.001 and ten epochs of warm-up.
    """
    if step < warmup_steps:
        return peak * step / warmup_steps
    progress = min(1.0, (step - warmup_steps) / max(1, steps - warmup_steps))
    share = 0.5 * (1 + math.cos(math.pi * progress))
    return peak * (share + final_fraction * (1 - share))
