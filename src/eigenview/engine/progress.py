"""What a person sees: the plan before, one live line during training (or one line an epoch without a terminal)."""

from __future__ import annotations

import shlex
import time
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

import eigenview
from eigenview.config import RunConfig
from eigenview.data.images import printable
from eigenview.distributed import rank
from eigenview.engine.callbacks import MetricsWriter, Monitor
from eigenview.engine.loop import Callback
from eigenview.engine.module import PretrainModule
from eigenview.engine.plan import Plan


def show_plan(
    console: Console,
    plan: Plan,
    module: PretrainModule,
    directory: Path | None,
    notes: tuple[str, ...] = (),
) -> None:
    """Four lines: what runs, on which images, in how many steps, and where the files go; then what should be known."""
    config, images = plan.config, plan.train
    encoder = sum(p.numel() for p in next(iter(module.method.encoders().values())).parameters())
    threads = torch.get_num_threads()
    cpu = f"CPU, {threads} thread{'' if threads == 1 else 's'}"
    where = torch.cuda.get_device_name(0) if plan.device.type == "cuda" else cpu
    where += f" x {config.devices}" if config.devices > 1 else ""
    title = config.method.card.title
    low, high = images.side_range
    sides = f"{low} px" if low == high else f"{low} to {high:,} px"
    listed = "" if directory is None else f", listed in {directory}/skipped.csv"
    skipped = f" ({len(images.skipped)} unreadable{listed})" if images.skipped else ""
    run = "none: this is a dry run"
    if directory is not None:
        quoted = shlex.quote(str(directory))
        run = f"{directory}   (stop any time with Ctrl-C; continue with --out {quoted} --resume)"
    local = f" + {config.local_views} of {plan.specs[-1].size} px" if config.local_views else ""
    console.print(
        f"[bold]eigenview {eigenview.__version__}[/]  ·  {title}  ·  {config.views} views{local}  ·  "
        f"{config.encoder}, {encoder / 1e6:.2g} M parameters  ·  {where}, {plan.precision_note}",
        highlight=False,
        soft_wrap=True,
    )
    for label, text in (
        ("data", f"{config.data}: {len(images):,} images{skipped}, {sides} -> {plan.size} px {images.size_reason}"),
        ("probes", plan.probe_note),
        ("held-out", f"{plan.held_out_note}"),
        (
            "steps",
            f"batch {config.batch_size} = {plan.steps_per_epoch} steps per epoch, {config.epochs} epochs, "
            f"{module.steps:,} steps",
        ),
        ("run", run),
    ):
        console.print(f"{label:9} {printable(text)}", highlight=False, markup=False, soft_wrap=True)
    if config.compile_augmentation:
        console.print(
            "note      the augmentation is compiled before the first step, which takes minutes", soft_wrap=True
        )
    for note in (*notes, *images.notes, *plan.label_notes, *module.method.warnings(images_per_pass(config))):
        console.print(f"{'note':9} {note}", highlight=False, markup=False, soft_wrap=True)


class Progress(Callback):
    """Epoch, images/s, time left; loss terms; spread, effective rank and the verdict so far. Rank 0 only."""

    def __init__(self, console: Console, log: MetricsWriter, monitor: Monitor) -> None:
        self.console = console
        self.clock = log
        self.monitor = monitor
        self._bar: Bar | None = None
        self._task: Any = None
        self._printed_at = 0.0

    def start(self, module: PretrainModule) -> None:
        if rank() != 0 or not self.console.is_terminal:
            return
        self._bar = Bar(
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(compact=True, elapsed_when_finished=True),
            TextColumn("left\n{task.fields[terms]}"),
            console=self.console,
            refresh_per_second=4,
        )
        self._task = self._bar.add_task("epoch", total=module.steps, completed=module.step, rate="", terms="starting")
        self._bar.start()

    def after_step(self, module: PretrainModule) -> None:
        if rank() != 0:
            return
        step = module.step
        now = time.monotonic()
        last = step == module.steps
        # on a terminal four times a second; in a log file at most every ten seconds
        if now - self._printed_at < (0.25 if self._bar else 10.0) and not last:
            return
        self._printed_at = now
        epoch = min(module.config.epochs, step // module.steps_per_epoch + 1)
        title = f"epoch {epoch}/{module.config.epochs}"
        rate = f"{self.clock.rate:,.0f} images/s"
        if self._bar is not None:
            self._bar.update(self._task, completed=step, description=title, rate=rate, terms=self._line(module))
        else:
            left = self.clock.seconds / max(step, 1) * (module.steps - step)
            self.console.print(
                f"{title}  {step / module.steps:4.0%}  {rate}  {left / 60:.0f}:{left % 60:02.0f} left   "
                f"{self._line(module)}",
                highlight=False,
                soft_wrap=True,
            )

    def _line(self, module: PretrainModule) -> str:
        parts = [f"{name.replace('_', ' ')} {float(value):.3g}" for name, value in module.terms.items()]
        if self.monitor.history and self.monitor.verdict is not None:
            z = self.monitor.history[-1]["z"]
            rank_now, spread = z.get("effective_rank"), z.get("spread")
            parts += [f"spread {spread:.2f}"] if spread is not None else []
            parts += [f"effective rank {rank_now:.0f}"] if rank_now is not None else []
            parts.append(f"so far: {self.monitor.verdict.label}")
        return "   ".join(parts)

    def end(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


def images_per_pass(config: RunConfig[Any]) -> int:
    """Images of one forward pass of the encoder on one process: what its batch norm sees."""
    part = config.batch_size // config.devices // config.grad_accum_steps
    return min(part, config.grad_cache_chunk or part)
