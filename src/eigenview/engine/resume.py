"""Reads a checkpoint back: without unpickling, only if it is whole, and only if it belongs to this run."""

from __future__ import annotations

import pickle
import struct
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from eigenview import runfiles
from eigenview.config import RunConfig
from eigenview.data.batches import Batches
from eigenview.engine.callbacks import MetricsWriter
from eigenview.engine.module import PretrainModule
from eigenview.engine.plan import Plan
from eigenview.errors import UserError
from eigenview.runfiles.schema import Fields, Leaf, ListOf, Maybe, TableOf, integer, misfit, number
from eigenview.terminal import Console

ZIP = b"PK\x03\x04"
"""First bytes of an archive of torch.save."""
UNREADABLE = (RuntimeError, EOFError, LookupError, AssertionError, struct.error, *runfiles.ARRAY_ERRORS)
"""What torch raises for a damaged archive, or for a damaged pickle in one, besides UnpicklingError."""
ADVICE = "Move it away to start this run again, or choose another --out."
TENSOR = Leaf("a tensor", lambda value: isinstance(value, Tensor))

OPTIMIZER = Fields(
    required={
        "state": Leaf("an object with named fields", lambda value: isinstance(value, dict)),
        "param_groups": ListOf(Fields(required={"params": ListOf(integer(0))})),
    }
)
CHECKPOINT = Fields(
    required={
        "global_step": integer(0),
        "state_dict": TableOf(TENSOR),
        "optimizer_states": ListOf(OPTIMIZER, 1),
        "callbacks": Fields(required={"MetricsWriter": Fields(required={"seconds": number(0)})}),
        "eigenview": Fields(required={"steps": integer(1)}),
    },
    optional={
        "batches": Maybe(
            Fields(required={"step": integer(0), "seed": integer(), "batch_size": integer(), "images": integer()})
        )
    },
)


class Damaged(UserError):
    """A checkpoint whose bytes are not those that were written."""


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


def read_checkpoint(
    directory: Path, module: PretrainModule, plan: Plan, resumed: Resumed, console: Console | None = None
) -> Checkpoint | None:
    """The last checkpoint of a run directory, or None if the run was killed before its first.

    If last.ckpt is damaged, previous.ckpt is taken and `console` says so; the damaged file is renamed to damaged.ckpt.
    Raises UserError if both are damaged, and for a file that holds anything but tensors and plain values (weights_only:
    foreign code is never run), one of another program, or one that does not fit this run.
    """
    path, previous = directory / runfiles.CHECKPOINT, directory / runfiles.PREVIOUS_CHECKPOINT
    if not path.exists():
        return _checked(load(previous), previous, module, plan, resumed) if previous.exists() else None
    try:
        content = load(path)
    except Damaged as error:
        if not previous.exists():
            raise
        checkpoint = _checked(_load_instead(previous, error), previous, module, plan, resumed)
        if console is not None:
            aside = path.with_name("damaged.ckpt")
            path.replace(aside)
            text = f"{error.args[0].removesuffix(ADVICE)}Continued from {previous}, step {checkpoint.step}, instead; "
            console.print(f"{text}the damaged file is {aside.name} now.")
        return checkpoint
    return _checked(content, path, module, plan, resumed)


def load(path: Path) -> dict[str, Any]:
    """The content of a checkpoint, of the kinds of CHECKPOINT. Its checksum is compared before torch sees the bytes.

    Raises: Damaged; UserError for a file that was not written by eigenview.
    """
    try:
        with runfiles.open_regular(path) as file:
            intact = runfiles.is_intact(file)
            if intact is False:
                raise Damaged(f"{path} is damaged: its content does not fit the checksum in it. {ADVICE}")
            file.seek(0)
            if file.read(len(ZIP)) != ZIP:
                raise Damaged(f"{path} is damaged: it is no archive of torch.save. {ADVICE}")
            file.seek(0)
            with warnings.catch_warnings(action="ignore"):  # a second line, about a pickle that is refused
                content = torch.load(file, map_location="cpu", weights_only=True)
    except Damaged:  # a ValueError too
        raise
    except pickle.UnpicklingError as error:
        reason = _reason(error)
        raise Damaged(f"{path} is not a checkpoint of plain tensors and was not opened: {reason} {ADVICE}") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}. {ADVICE}") from None
    except UNREADABLE as error:
        raise Damaged(f"{path} is damaged: {_reason(error)} {ADVICE}") from None
    found = misfit(content, CHECKPOINT)
    if found is not None:
        raise UserError(f"{path} is not a checkpoint that eigenview wrote: {found}. {ADVICE}")
    if intact is None and content["eigenview"].get("sealed"):
        raise Damaged(f"{path} is damaged: it has lost the checksum that it was written with. {ADVICE}")
    return content


def _load_instead(previous: Path, error: Damaged) -> dict[str, Any]:
    try:
        return load(previous)
    except UserError as second:
        raise UserError(f"{error.args[0].removesuffix(ADVICE)}So is the one before it: {second}") from None


def _checked(content: dict[str, Any], path: Path, module: PretrainModule, plan: Plan, resumed: Resumed) -> Checkpoint:
    """Raises UserError unless steps, weights and the optimiser's state are those of this run."""
    steps, step, state = content["eigenview"]["steps"], content["global_step"], content["state_dict"]
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
    # with other data perhaps of another number of images: the position follows from the step alone
    batches_state = None if resumed.allow_changed_data else content.get("batches")
    ours = {name: (tuple(value.shape), value.dtype) for name, value in module.state_dict().items()}
    theirs = {name: (tuple(value.shape), value.dtype) for name, value in state.items()}
    if ours != theirs:
        name = min(name for name, _ in set(ours.items()) ^ set(theirs.items()))
        raise UserError(f"{path} does not fit this run's network: {name} differs. {ADVICE}")
    optimizer_state = content["optimizer_states"][0]
    optimizer = module.configure_optimizers()
    found = _optimizer_misfit(optimizer_state, optimizer, (step - 1) / plan.steps_per_epoch if step else None)
    if found is not None:
        raise UserError(f"{path} does not fit this run's optimiser: {found}. {ADVICE}")
    # an option that another version did not have keeps this version's default
    ours, theirs = optimizer.state_dict()["param_groups"], optimizer_state["param_groups"]
    optimizer_state["param_groups"] = [fresh | saved for fresh, saved in zip(ours, theirs, strict=True)]
    return Checkpoint(step, state, optimizer_state, content["callbacks"]["MetricsWriter"], batches_state)


def _optimizer_misfit(state: dict[str, Any], optimizer: torch.optim.Optimizer, epoch: float | None) -> str | None:
    """A sentence about the first difference between a saved state and the optimiser that is to take it up.

    epoch: of the last step that was done; None: no step was.
    """
    ours = optimizer.state_dict()["param_groups"]
    if [group["params"] for group in state["param_groups"]] != [group["params"] for group in ours]:
        then, now = ([len(group["params"]) for group in groups] for groups in (state["param_groups"], ours))
        return (
            f"it has groups of {then} parameters, this version makes {now} (class tokens, position embeddings and the "
            "like have no weight decay any more: the version that wrote it can continue it)"
        )
    for theirs, group in zip(state["param_groups"], ours, strict=True):
        wrong = [name for name, value in group.items() if not _alike(theirs.get(name, value), value)]
        if wrong:
            return f"{wrong[0]} of a group of parameters is {theirs[wrong[0]]!r}"
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    has_moved = epoch is not None and any(
        group["frozen_epochs"] <= epoch and group.get("momentum") != 0 for group in optimizer.param_groups
    )
    if has_moved and not state["state"]:
        return "the state of all parameters is missing"
    for key, values in state["state"].items():
        if type(key) is not int or not 0 <= key < len(parameters) or not isinstance(values, dict):
            return f"its state of parameter {key!r} belongs to none"
        for name, value in values.items():
            shapes = ((),) if name == "step" else (parameters[key].shape, ())
            if isinstance(value, Tensor) and value.shape not in shapes:
                return f"{name} of parameter {key} has shape {tuple(value.shape)}"
            is_absent = value is None and name == "momentum_buffer"  # of SGD without momentum
            if not (isinstance(value, Tensor) or is_absent or number().accepts(value)):
                return f"{name} of parameter {key} is {str(value)[:60]!r}"
    names = {frozenset(values) for values in state["state"].values()}
    return "its parameters have different kinds of state" if len(names) > 1 else None


def _alike(value: Any, ours: Any) -> bool:
    """Whether a saved option of an optimiser is of the kind of ours."""
    if isinstance(ours, bool) or isinstance(value, bool):
        return isinstance(ours, bool) and isinstance(value, bool)
    if isinstance(ours, int | float):
        return number().accepts(value)
    return ours is None or type(value) is type(ours)


def _reason(error: Exception) -> str:
    lines = str(error).splitlines()
    return lines[0].rstrip(".") + "." if lines else f"it ends too early ({type(error).__name__})."
