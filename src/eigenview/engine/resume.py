"""Reads a checkpoint back: without unpickling, and only if it belongs to this run."""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from eigenview import runfiles
from eigenview.config import RunConfig
from eigenview.data.batches import Batches
from eigenview.engine.callbacks import MetricsWriter
from eigenview.engine.module import PretrainModule
from eigenview.engine.plan import Plan
from eigenview.errors import UserError


@dataclass(frozen=True)
class Resumed:
    """What a run was before it is continued."""

    stored: RunConfig[Any]
    """Its configuration so far."""
    allow_changed_data: bool = False
    """Go on though files of its data changed."""


@dataclass(frozen=True)
class Checkpoint:
    """A checked checkpoint."""

    step: int
    state_dict: dict[str, Any]
    optimizer_state: dict[str, Any]
    log_state: dict[str, Any]
    batches_state: dict[str, int] | None
    """Of the batches' order; None in checkpoints of versions before December 2026."""

    def restore(self, module: PretrainModule, log: MetricsWriter, batches: Batches | None = None) -> None:
        """Put weights, position and clock back. `batches`: not needed once training is over."""
        module.load_state_dict(self.state_dict)
        module.step = self.step
        log.load_state_dict(self.log_state)
        if batches is not None and self.batches_state is not None:
            batches.load_state_dict(self.batches_state)
        elif batches is not None:
            batches.start(*divmod(self.step, module.steps_per_epoch))


def _reason(error: Exception) -> str:
    lines = str(error).splitlines()
    return lines[0].rstrip(".") + "." if lines else f"it ends too early ({type(error).__name__})."


def read_checkpoint(directory: Path, module: PretrainModule, plan: Plan, resumed: Resumed) -> Checkpoint | None:
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
        optimizer_state, batches_state = content["optimizer_states"][0], content.get("batches")
        log_state = content["callbacks"]["MetricsWriter"]
        steps = content["eigenview"]["steps"]
    except (KeyError, TypeError, IndexError):
        raise UserError(f"{path} is not a checkpoint that eigenview wrote. {advice}") from None
    expected = resumed.stored.epochs * plan.steps_per_epoch
    if steps != expected and not resumed.allow_changed_data:
        raise UserError(
            f"{path} belongs to a run of {steps} steps; {plan.config.data} now gives {expected}. "
            "The images have changed since: restore them, or start a new run with another --out."
        )
    if step > module.steps:
        raise UserError(
            f"{path} is at step {step}, and {plan.config.data} now gives {module.steps} steps in all. "
            "Add --epochs, or start a new run with another --out."
        )
    if resumed.allow_changed_data:
        batches_state = None  # of another number of images perhaps: the position follows from the step alone
    ours = {name: tuple(value.shape) for name, value in module.state_dict().items()}
    theirs = {name: tuple(value.shape) for name, value in state.items()}
    if ours != theirs:
        name = next(iter(sorted(set(ours.items()) ^ set(theirs.items()))))[0]
        raise UserError(f"{path} does not fit this run's network: {name} differs. {advice}")
    return Checkpoint(step, state, optimizer_state, log_state, batches_state)
