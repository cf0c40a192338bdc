"""Reads a checkpoint back: without unpickling, and only if it belongs to this run."""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from eigenview import runfiles
from eigenview.engine.module import PretrainModule
from eigenview.engine.plan import Plan
from eigenview.errors import UserError


@dataclass(frozen=True)
class Checkpoint:
    """A checked checkpoint: path, step, and the two states that are needed if training is already over."""

    path: Path
    step: int
    state_dict: dict[str, Any]
    log_state: dict[str, Any]


def _reason(error: Exception) -> str:
    lines = str(error).splitlines()
    return lines[0].rstrip(".") + "." if lines else f"it ends too early ({type(error).__name__})."


def read_checkpoint(directory: Path, module: PretrainModule, plan: Plan) -> Checkpoint | None:
    """The last checkpoint of a run directory, or None if the run was killed before its first.

    Raises UserError for a damaged file, one that holds anything but tensors and plain values (weights_only: foreign
    code is never run), one of another program, or one whose weights do not fit this run.
    """
    path = directory / runfiles.CHECKPOINT
    if not path.exists():
        return None
    advice = "Move it away to start this run again, or choose another --out."
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise UserError(
            f"{path} is not a checkpoint of plain tensors and was not opened: {_reason(error)} {advice}"
        ) from None
    except (RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        raise UserError(f"{path} is damaged: {_reason(error)} {advice}") from None
    try:
        step, state = int(content["global_step"]), content["state_dict"]
        log_state = content["callbacks"]["MetricsWriter"]
        steps = content["eigenview"]["steps"]
    except (KeyError, TypeError):
        raise UserError(f"{path} is not a checkpoint that eigenview wrote. {advice}") from None
    if steps != module.steps:
        raise UserError(
            f"{path} belongs to a run of {steps} steps; {plan.config.data} now gives {module.steps}. "
            "The images have changed since: restore them, or start a new run with another --out."
        )
    ours = {name: tuple(value.shape) for name, value in module.state_dict().items()}
    theirs = {name: tuple(value.shape) for name, value in state.items()}
    if ours != theirs:
        name = next(iter(sorted(set(ours.items()) ^ set(theirs.items()))))[0]
        raise UserError(f"{path} does not fit this run's network: {name} differs. {advice}")
    return Checkpoint(path, step, state, log_state)
