"""The one training step. Module, cost estimate, benchmarks and tests all call it; there is no second copy.

Order: schedules; for each part of the batch loss and backward; clip; optimiser; the method's own state. A non-finite
term must stop the run before the optimiser moves, because afterwards target network and queues hold it too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from eigenview.config import OptimConfig
from eigenview.engine.optim import peak_learning_rate
from eigenview.engine.schedules import learning_rate
from eigenview.methods.parts.method import Method
from eigenview.records import Batch, Clock
from eigenview.views import Loss


@dataclass(frozen=True, kw_only=True)
class StepOptions:
    """What of a run's configuration the step depends on."""

    optim: OptimConfig
    batch_size: int
    """Of the global batch."""
    parts: int = 1
    """Equal parts of the batch, whose losses are averaged."""
    bf16: bool = False
    """The networks run under bfloat16 autocast."""


def step_seeds(seed: int, rank: int, step: int) -> tuple[int, int]:
    """Seeds of the augmentation and of the network's own randomness (dropout) at one step of one process.

    All randomness of a step is a function of (seed, rank, step): a resumed run needs no saved generator state.
    """
    a, b = np.random.SeedSequence((seed, rank, step)).generate_state(2)
    return int(a), int(b)


def train_step(
    method: Method,
    batch: Batch,
    clock: Clock,
    optimizer: Any,
    options: StepOptions,
    *,
    wrapped: nn.Module | None = None,
    no_sync: Callable[[], AbstractContextManager[Any]] = nullcontext,
    inspect: Callable[[Mapping[str, Tensor]], None] = lambda terms: None,
) -> Loss:
    """Gradient, optimiser and state of one step; returns the terms and notes of the own rows, detached.

    Args:
        method: what is trained; its state moves.
        batch: the own rows of the step.
        clock: the step and the processes that take part in it.
        optimizer: as `build_optimizer` makes it.
        options: optimiser settings, parts of the batch, precision.
        wrapped: what wraps the method (DDP), if anything does.
        no_sync: context in which DDP does not average gradients, for all parts but the last.
        inspect: called with the terms before the optimiser moves; may raise.
    """
    set_learning_rates(optimizer, clock, options)
    optimizer.zero_grad(set_to_none=True)
    loss = accumulate_gradients(method if wrapped is None else wrapped, batch, clock, options, no_sync=no_sync)
    inspect(loss.terms)
    drop_frozen_gradients(optimizer, clock)
    if options.optim.clip_norm is not None:
        params = [p for group in optimizer.param_groups for p in group["params"]]
        nn.utils.clip_grad_norm_(params, options.optim.clip_norm)
    optimizer.step()
    with torch.autocast(device_type(batch), enabled=False):
        method.after_step(loss.carry, clock)
    return Loss(loss.terms, notes=loss.notes)


def accumulate_gradients(
    call: Callable[[Batch, Clock], Loss],
    batch: Batch,
    clock: Clock,
    options: StepOptions,
    *,
    no_sync: Callable[[], AbstractContextManager[Any]] = nullcontext,
    parts: int | None = None,
) -> Loss:
    """Loss and backward of every part; terms and notes are means over the parts, carries joined along axis 0.

    `parts`: only the first parts, for an estimate; default all.
    """
    kind, found = device_type(batch), list[Loss]()
    for k in range(options.parts if parts is None else parts):
        is_last = k == options.parts - 1
        with nullcontext() if is_last else no_sync():
            # a cached bfloat16 copy of a weight would sum the gradients of all views in bfloat16
            with torch.autocast(kind, dtype=torch.bfloat16, enabled=options.bf16, cache_enabled=False):
                loss = call(batch if options.parts == 1 else batch.part(k, options.parts), clock)
            loss = Loss(
                {name: term / options.parts for name, term in loss.terms.items()},
                loss.carry,
                {name: note.detach() / options.parts for name, note in loss.notes.items()},
            )
            with torch.autocast(kind, enabled=False):
                loss.total.backward()
        found.append(Loss({name: term.detach() for name, term in loss.terms.items()}, loss.carry, loss.notes))
    return join(found)


def join(parts: list[Loss]) -> Loss:
    """Terms and notes added up, carries joined along axis 0."""
    if len(parts) == 1:
        return parts[0]
    first = parts[0]
    return Loss(
        {name: torch.stack([part.terms[name] for part in parts]).sum(dim=0) for name in first.terms},
        {name: torch.cat([part.carry[name] for part in parts]) for name in first.carry},
        {name: torch.stack([part.notes[name] for part in parts]).sum(dim=0) for name in first.notes},
    )


def set_learning_rates(optimizer: Any, clock: Clock, options: StepOptions) -> None:
    """Every group's rate at this step: the schedule's times the group's factor."""
    rate = learning_rate_at(clock, options.optim, options.batch_size)
    for group in optimizer.param_groups:
        group["lr"] = rate * group["factor"]


def learning_rate_at(clock: Clock, optim: OptimConfig, batch_size: int) -> float:
    """The schedule: linear warm-up from 0 and cosine, per step."""
    warmup = min(round(optim.warmup_epochs * clock.steps_per_epoch), clock.steps // 2)
    peak = peak_learning_rate(optim, batch_size)
    return learning_rate(clock.step, clock.steps, warmup, peak=peak, final_fraction=optim.final_fraction)


def drop_frozen_gradients(optimizer: Any, clock: Clock) -> None:
    """Groups that are frozen at this epoch get no step. None, not zero: momentum and decay would move the weights."""
    for group in optimizer.param_groups:
        if clock.epoch < group["frozen_epochs"]:
            for parameter in group["params"]:
                parameter.grad = None


def device_type(batch: Batch) -> str:
    """ "cpu", "cuda" or "mps"."""
    return batch.views[0].device.type
