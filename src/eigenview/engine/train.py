"""Pretraining from a config to a finished run directory. Read this first: it is the whole story in order."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import numpy as np
import torch
from lightning.fabric.utilities.rank_zero import rank_zero_only
from lightning.pytorch.strategies import DDPStrategy

from eigenview import runfiles
from eigenview.config import RunConfig, to_dict
from eigenview.data.batches import Batches, killed_worker, resident
from eigenview.data.images import Skipped
from eigenview.distributed import ddp_options, gather_lists
from eigenview.engine.callbacks import Checkpoints, MetricsWriter, Monitor
from eigenview.engine.cost_estimate import estimated, make_estimate, show_estimate
from eigenview.engine.environment import describe_environment
from eigenview.engine.finalize import finish
from eigenview.engine.memory import explain_shortage
from eigenview.engine.module import PretrainModule
from eigenview.engine.plan import Plan, make_plan
from eigenview.engine.progress import Progress, show_plan
from eigenview.engine.resume import read_checkpoint
from eigenview.engine.sync_batch_norm import SyncBatchNorms
from eigenview.errors import Collapsed, NonFiniteError
from eigenview.methods.parts.building import build_method
from eigenview.models.network import refuse_single_values


@explain_shortage()
def train(config: RunConfig[Any], directory: Path, *, resume: bool, command: list[str], console: Any) -> dict[str, Any]:
    """Run (or continue) one pretraining in `directory`; returns the summary. Only rank 0 writes and prints."""
    is_first = launched_rank() == 0
    plan = make_plan(config, console=console if is_first else None)
    module = build_module(plan)
    if is_first and not resume:
        runfiles.create_run_dir(directory)
    with runfiles.run_lock(directory) if is_first else nullcontext():
        if is_first and not resume:
            runfiles.create_run_dir(directory)  # re-check after taking the lock
            runfiles.write_json(directory / runfiles.CONFIG, to_dict(config))
        return _train(plan, module, directory, resume=resume, command=command, console=console)


def show_dry_run(config: RunConfig[Any], console: Any) -> None:
    """Print what would run, and the estimate of its memory and time; nothing is trained or written."""
    plan = make_plan(config, console=console)
    module = build_module(plan)
    show_plan(console, plan, module, None)
    show_estimate(console, plan, module, make_estimate(plan, module, module.steps))


def _train(
    plan: Plan, module: PretrainModule, directory: Path, *, resume: bool, command: list[str], console: Any
) -> dict[str, Any]:
    is_first = launched_rank() == 0
    checkpoint = read_checkpoint(directory, module, plan) if resume else None
    if is_first:
        note_environment(directory, describe_environment(command, plan), 0 if checkpoint is None else checkpoint.step)
        note_skipped(directory, plan.train.skipped)
        show_plan(console, plan, module, directory)

    failure: str | None = None
    ended_early = False
    log, monitor = _log_and_monitor(directory, plan)
    step = 0 if checkpoint is None else checkpoint.step
    if resume and is_first:
        runfiles.keep_rows(directory / runfiles.METRICS, step)
        monitor.resume(step if checkpoint is not None else -1)  # -1: restart at step 0 and drop all rows
    if step < module.steps:
        try:
            path = None if checkpoint is None else checkpoint.path
            left = module.steps - step
            with estimated(plan, module, directory, steps=left, console=console) if is_first else nullcontext():
                _fit(plan, module, directory, log, monitor, path, console)
        except NonFiniteError as error:
            failure = str(error)
        except Collapsed:
            ended_early = True
    else:
        assert checkpoint is not None  # step > 0 only with a checkpoint
        module.load_state_dict(checkpoint.state_dict)
        log.load_state_dict(checkpoint.log_state)
    if not is_first:
        return {}
    history = monitor.history
    return finish(
        plan, module, directory, log=log, history=history, failure=failure, ended_early=ended_early, console=console
    )


def note_environment(directory: Path, now: dict[str, Any], step: int) -> None:
    """environment.json: versions and machine of the first session, and of each that resumed, with its step."""
    path = directory / runfiles.ENVIRONMENT
    if path.exists():
        first = runfiles.read_json(path)
        session = {key: now[key] for key in ("eigenview", "torch", "device", "commit", "started")}
        now = {**first, "resumed": [*first.get("resumed", []), {"step": step, **session}]}
    runfiles.write_json(path, now)


def note_skipped(directory: Path, skipped: Sequence[Skipped]) -> None:
    """List unreadable files in skipped.csv, each once; no file if there are none. A resumed run adds to the list."""
    path = directory / runfiles.SKIPPED
    rows = runfiles.read_table(path) if path.exists() else {}
    known = len(rows)
    for each in skipped:
        rows.setdefault(each.path, each.reason)
    if len(rows) > known:
        runfiles.write_table(path, ("path", "reason"), rows.items())


def launched_rank() -> int:
    """This process's number before there is a process group: from torchrun, SLURM or Lightning's own launcher."""
    rank = rank_zero_only.rank  # pyright: ignore[reportFunctionMemberAccess]  (Lightning sets it on the function)
    return rank or 0


def build_module(plan: Plan) -> PretrainModule:
    """The method of a plan, initialised from its seed, in its Lightning shell."""
    config = plan.config
    method = build_method(config, plan.parts)
    if config.grad_cache_chunk == 1:
        refuse_single_values(method.encoders().values(), {spec.size or plan.size for spec in plan.specs})
    return PretrainModule(
        config,
        method=method,
        specs=plan.specs,
        size=plan.size,
        steps_per_epoch=plan.steps_per_epoch,
        bf16=plan.bf16,
        pixels=None if plan.train.pixels is None else resident(plan.train, plan.device),
    )


def _log_and_monitor(directory: Path, plan: Plan) -> tuple[MetricsWriter, Monitor]:
    config = plan.config
    log = MetricsWriter(directory, config.monitor.log_every_steps, config.batch_size)
    images = torch.from_numpy(plan.held_out.read(np.arange(len(plan.held_out))))
    every = max(1, round(config.monitor.every_epochs * plan.steps_per_epoch))
    return log, Monitor(directory, images, every, log, config.monitor.stop_on_collapse)


def _fit(
    plan: Plan,
    module: PretrainModule,
    directory: Path,
    log: MetricsWriter,
    monitor: Monitor,
    checkpoint: Path | None,
    console: Any,
) -> None:
    """The training loop itself, by Lightning: one Lightning epoch with all steps of all epochs.

    Files that turned out to be unreadable during training are replaced by another image of their batch, and listed at
    the end: those of all processes, or of this one if the training was cut short.
    """
    config = plan.config.monitor
    saver = Checkpoints(directory, config.checkpoint_minutes, config.log_every_steps)
    trainer = make_trainer(plan, directory, [log, monitor, saver, Progress(console, log, monitor)])
    with warnings.catch_warnings():
        # about torch's DataLoader, which only sets too large to be cached use, inside our own loader
        warnings.filterwarnings("ignore", message=".*does not have many workers.*")
        # Lightning 2.6 calls a part of torch 2.15 that was renamed; nothing we or the user can do about it
        warnings.filterwarnings("ignore", message=".*LeafSpec.*is deprecated.*")
        loader = make_loader(plan, trainer)
        broke = loader.replaced
        try:
            trainer.fit(module, loader, ckpt_path=checkpoint, weights_only=True)
            broke = gather_lists(broke)
        except RuntimeError as error:
            killed = killed_worker(error)
            if killed is None:
                raise
            raise killed from error
        finally:
            if launched_rank() == 0:
                note_skipped(directory, broke)


def make_trainer(plan: Plan, directory: Path, callbacks: list[L.Callback]) -> L.Trainer:
    """Lightning's trainer without what our callbacks do: no logger, no progress bar, no checkpoints."""
    config, kind = plan.config, plan.device.type
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)  # its banner says nothing our plan does not
    return L.Trainer(
        accelerator="gpu" if kind == "cuda" else kind,
        devices=config.devices,
        strategy=DDPStrategy(**ddp_options()) if config.devices > 1 else "auto",
        plugins=[SyncBatchNorms()] if kind == "cuda" and config.devices > 1 else None,
        precision="32-true",  # the step has its own autocast
        max_epochs=1,
        callbacks=callbacks,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
        default_root_dir=directory,
    )


def make_loader(plan: Plan, trainer: L.Trainer) -> Batches:
    """The batches of all epochs, this process's share of each."""
    return Batches(
        plan.train,
        batch_size=plan.config.batch_size,
        epochs=plan.config.epochs,
        seed=plan.config.seed,
        rank=trainer.global_rank,
        world=trainer.world_size,
        workers=plan.config.loader.workers,
    )
