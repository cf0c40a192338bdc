"""Pretraining from a config to a finished run directory. Read this first: it is the whole story in order."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch

from eigenview import runfiles
from eigenview.config import RunConfig, to_dict
from eigenview.config.reading import Reading
from eigenview.data.batches import Batches, killed_worker, resident
from eigenview.data.images import Skipped
from eigenview.distributed import gather_lists, rank, world_size
from eigenview.engine.agreement import check_agreement
from eigenview.engine.callbacks import Checkpoints, MetricsWriter, Monitor
from eigenview.engine.cost_estimate import estimated, make_estimate, show_estimate
from eigenview.engine.data_check import check_data, write_files
from eigenview.engine.environment import describe_environment
from eigenview.engine.finalize import finish
from eigenview.engine.launch import check_devices, processes_of_run
from eigenview.engine.loop import fit
from eigenview.engine.memory import explain_shortage
from eigenview.engine.module import PretrainModule
from eigenview.engine.plan import Plan, make_plan
from eigenview.engine.progress import Progress, show_plan
from eigenview.engine.resume import Checkpoint, Resumed, read_checkpoint
from eigenview.errors import Collapsed, Interrupted, NonFiniteError, UserError
from eigenview.launched import launched_rank
from eigenview.methods.parts.building import build_method
from eigenview.methods.parts.method import Method
from eigenview.models.network import refuse_single_values


@explain_shortage()
def train(
    config: RunConfig[Any], directory: Path, *, resumed: Resumed | None = None, command: list[str], console: Any
) -> dict[str, Any]:
    """Run (or continue) one pretraining in `directory`; returns the summary. Only rank 0 writes and prints."""
    check_devices(config.devices)
    is_first = launched_rank() == 0
    reading = None if resumed is None else reading_of(directory)
    plan = make_plan(config, console=console if is_first else None, reading=reading)
    module = build_module(plan)
    if is_first and resumed is None:
        runfiles.create_run_dir(directory)
    with runfiles.run_lock(directory) if is_first else nullcontext():
        if is_first and resumed is None:
            runfiles.create_run_dir(directory)  # re-check after taking the lock
            runfiles.write_object(directory / runfiles.CONFIG, to_dict(plan.config))
        return _train(plan, module, directory, resumed=resumed, command=command, console=console)


def show_dry_run(config: RunConfig[Any], console: Any) -> None:
    """Print what would run, and the estimate of its memory and time; nothing is trained or written."""
    plan = make_plan(config, console=console)
    module = build_module(plan)
    show_plan(console, plan, module, None)
    show_estimate(console, plan, module, make_estimate(plan, module, module.steps))


def _train(
    plan: Plan, module: PretrainModule, directory: Path, *, resumed: Resumed | None, command: list[str], console: Any
) -> dict[str, Any]:
    is_first = launched_rank() == 0
    notes: tuple[str, ...] = ()
    checkpoint = None
    if resumed is not None:
        notes = check_data(directory, plan, resumed)
        checkpoint = read_checkpoint(directory, module, plan, resumed, console if is_first else None)
    if is_first:
        write_files(directory, plan)
        if resumed is not None and plan.config != resumed.stored:
            runfiles.write_object(directory / runfiles.CONFIG, to_dict(plan.config))
        note_environment(directory, describe_environment(command, plan), 0 if checkpoint is None else checkpoint.step)
        note_skipped(directory, plan.train.skipped)
        show_plan(console, plan, module, directory, notes)

    failure: str | None = None
    ended_early = False
    log, monitor = _log_and_monitor(directory, plan)
    step = 0 if checkpoint is None else checkpoint.step
    note_measured = None
    if resumed is not None and is_first:
        log.resume(step)
        monitor.resume(step if checkpoint is not None else -1)  # -1: restart at step 0 and drop all rows
    if step < module.steps:
        try:
            left = module.steps - step
            estimate = estimated(plan, module, directory, steps=left, console=console) if is_first else nullcontext()
            with estimate as note_measured:
                _fit(plan, module, directory, log, monitor, checkpoint, console)
        except NonFiniteError as error:
            failure = str(error)
        except Collapsed:
            ended_early = True
    else:
        assert checkpoint is not None  # step > 0 only with a checkpoint
        checkpoint.restore(module, log)
    if not is_first:
        return {}
    monitor.gather_spectra()
    ending = {"history": monitor.history, "failure": failure, "ended_early": ended_early}
    try:
        summary = finish(plan, module, directory, log=log, **ending, console=console)
    except KeyboardInterrupt:
        if failure is not None or ended_early:
            raise
        raise Interrupted(module.steps, is_trained=True) from None
    if note_measured is not None:
        note_measured()
    return summary


def reading_of(directory: Path) -> Reading | None:
    """How the pixels of a run were made when it began, with the range that was decided; None if it is not known.

    Raises UserError for a damaged environment.json.
    """
    path = directory / runfiles.ENVIRONMENT
    content = runfiles.read_environment(directory).get("pixels") if path.exists() else None
    try:
        return None if content is None else Reading.from_json(content)
    except UserError as error:
        raise UserError(f"{path} is damaged: pixels: {error}") from None


def note_environment(directory: Path, now: dict[str, Any], step: int) -> None:
    """environment.json: versions and machine of the first session, and of each that resumed, with its step."""
    path = directory / runfiles.ENVIRONMENT
    if path.exists():
        first = runfiles.read_environment(directory)
        session = {key: now[key] for key in ("eigenview", "torch", "device", "commit", "started")}
        now = {**first, "resumed": [*(first.get("resumed") or []), {"step": step, **session}]}
    runfiles.write_object(path, now)


def note_skipped(directory: Path, skipped: Sequence[Skipped]) -> None:
    """List unreadable files in skipped.csv, each once; no file if there are none. A resumed run adds to the list."""
    path = directory / runfiles.SKIPPED
    rows = runfiles.read_table(path) if path.exists() else {}
    known = len(rows)
    for each in skipped:
        rows.setdefault(each.path, each.reason)
    if len(rows) > known:
        runfiles.write_table(path, ("path", "reason"), rows.items())


def build_module(plan: Plan) -> PretrainModule:
    """The method of a plan, initialised from its seed, with what a run adds to it."""
    config = plan.config
    method = build_method(config, plan.parts)
    refuse_nothing_to_train(method, config)
    if config.grad_cache_chunk == 1:
        refuse_single_values(
            method.encoders().values(), {spec.size or plan.size for spec in plan.specs}, plan.parts.channels
        )
    pixels, rows = (None, None) if plan.train.pixels is None else resident(plan.train, plan.device)
    return PretrainModule(
        config,
        method=method,
        specs=plan.specs,
        size=plan.size,
        steps_per_epoch=plan.steps_per_epoch,
        bf16=plan.bf16,
        pixels=pixels,
        rows=rows,
    )


def refuse_nothing_to_train(method: Method, config: RunConfig[Any]) -> None:
    """Raises UserError if no value of the networks would move in any epoch of the run."""
    moving = (group for group in method.parameter_groups() if group.frozen_epochs < config.epochs)
    if any(parameter.requires_grad for group in moving for parameter in group.params):
        return
    raise UserError(
        f"nothing would be trained: --train {config.train} and --freeze-epochs {config.freeze_epochs:g} of "
        f"{config.epochs} epochs leave the encoder as it is, and --network.projector-layers "
        f"{config.network.projector_layers} leaves no heads. Train more of the encoder, or add a projector."
    )


def _log_and_monitor(directory: Path, plan: Plan) -> tuple[MetricsWriter, Monitor]:
    config = plan.config
    log = MetricsWriter(directory, config.monitor.log_every_steps, config.batch_size)
    images = torch.from_numpy(plan.held_out.read(np.arange(len(plan.held_out))))
    monitor = config.monitor
    every = max(1, round(monitor.every_epochs * plan.steps_per_epoch))
    stop, share = monitor.stop_on_collapse, monitor.diagnosis_share
    return log, Monitor(directory, images, every, log, stop, share)


def _fit(
    plan: Plan,
    module: PretrainModule,
    directory: Path,
    log: MetricsWriter,
    monitor: Monitor,
    checkpoint: Checkpoint | None,
    console: Any,
) -> None:
    """The training loop on all processes of the run.

    Files that turned out to be unreadable during training are replaced by another image of their batch, and listed at
    the end: those of all processes, or of this one if the training was cut short.
    """
    config = plan.config.monitor
    with processes_of_run(plan.config.devices, plan.device):
        check_agreement(
            {"step of the checkpoint": checkpoint and checkpoint.step, "number of training images": len(plan.train)}
        )
        batches = make_batches(plan)
        state = None
        if checkpoint is not None:
            checkpoint.restore(module, log, batches)
            state = checkpoint.optimizer_state
        saver = Checkpoints(directory, config.checkpoint_minutes, config.log_every_steps, log, batches)
        callbacks = [log, monitor, saver, Progress(console, monitor)]
        broke = batches.replaced
        try:
            fit(module, batches, callbacks, device=plan.device, optimizer_state=state)
            broke = gather_lists(broke)
        except RuntimeError as error:
            killed = killed_worker(error)
            if killed is None:
                raise
            raise killed from error
        finally:
            if launched_rank() == 0:
                note_skipped(directory, broke)


def make_batches(plan: Plan) -> Batches:
    """The batches of all epochs, this process's share of each."""
    return Batches(
        plan.train,
        batch_size=plan.config.batch_size,
        epochs=plan.config.epochs,
        seed=plan.config.seed,
        rank=rank(),
        world=world_size(),
        workers=plan.config.loader.workers,
    )
