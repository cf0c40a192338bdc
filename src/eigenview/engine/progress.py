"""What a person sees: the plan before, one live line during training (or one line an epoch without a terminal)."""

from __future__ import annotations

import shlex
import time
from pathlib import Path
from typing import Any

import torch

import eigenview
from eigenview.config import RunConfig
from eigenview.data.images import printable
from eigenview.distributed import rank
from eigenview.durations import duration
from eigenview.engine.callbacks import Monitor
from eigenview.engine.loop import Callback
from eigenview.engine.module import PretrainModule
from eigenview.engine.plan import Plan
from eigenview.models.lora import unadapted
from eigenview.terminal import Bar, Console, Line, styled


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
        styled(
            (f"eigenview {eigenview.__version__}", "bold"),
            f"  ·  {title}  ·  {config.views} views{local}  ·  "
            f"{config.encoder}, {encoder / 1e6:.2g} M parameters  ·  {where}, {plan.precision_note}",
        )
    )
    weights = [] if plan.start is None else [("weights", f"{config.weights}: {plan.start.sentence(config.augment)}")]
    if config.train != "all" or config.freeze_epochs:
        weights.append(("trained", trained_part(config, module)))
    for label, text in (
        *weights,
        ("data", f"{config.data}: {len(images):,} images{skipped}, {sides} -> {plan.size} px {images.size_reason}"),
        *(("pixels", note) for note in images.pixel_notes),
        ("probes", plan.probe_note),
        ("held-out", f"{plan.held_out_note}"),
        (
            "steps",
            f"batch {config.batch_size} = {plan.steps_per_epoch} steps per epoch, {config.epochs} epochs, "
            f"{module.steps:,} steps",
        ),
        ("run", run),
    ):
        console.print(f"{label:9} {printable(text)}")
    if config.compile_augmentation:
        console.print("note      the augmentation is compiled before the first step, which takes minutes")
    for note in (*notes, *images.notes, *plan.label_notes, *module.method.warnings(images_per_pass(config))):
        console.print(f"{'note':9} {note}")


def trained_part(config: RunConfig[Any], module: PretrainModule) -> str:
    """What of the encoder moves, and from when on."""
    encoder = next(iter(module.method.encoders().values()))
    values = list(encoder.parameters())
    moving = sum(p.numel() for p in values if p.requires_grad)
    text = (
        f"--train {config.train}: {moving:,} of the encoder's {sum(p.numel() for p in values):,} values, and the heads"
    )
    left = unadapted(encoder) if config.train.startswith("lora:") else []
    text += f"; no adapter on {', '.join(left)}, which the network reads without calling them" if left else ""
    if not config.freeze_epochs:
        return text
    if config.freeze_epochs < config.epochs:
        return f"{text}; the encoder from epoch {config.freeze_epochs:g} on"
    return f"{text}; the encoder in none of the {config.epochs} epochs (--freeze-epochs {config.freeze_epochs:g})"


TERMINAL_SECONDS, NOTEBOOK_SECONDS, FILE_SECONDS = 0.25, 1.0, 10.0
"""Least time between two updates of a terminal's bar and of a notebook's line, and between two lines in a file."""
FIRST_SECONDS = 2.0
"""After so long the first line is printed, even if it is after one step."""


class Pace:
    """Time left and images a second, from the steps of this session alone.

    The first step also prepares buffers and kernels, so it counts only while it is the only one.
    """

    def __init__(self, steps: int, step: int, images_per_step: int) -> None:
        self.steps, self.images_per_step = steps, images_per_step
        self.started = self._marked = time.monotonic()
        self._first = self._mark = self.step = step
        self._now = self._previous = self.started

    @property
    def done(self) -> int:
        """Steps done in this session."""
        return self.step - self._first

    def after_step(self, step: int) -> None:
        """Note the time at which `step` was done."""
        self.step, self._now = step, time.monotonic()
        if self.done == 2:
            self._mark, self._marked = step - 1, self._previous
        self._previous = self._now

    @property
    def seconds_per_step(self) -> float:
        """Mean time of a step, with the diagnoses and checkpoints in between."""
        return (self._now - self._marked) / (self.step - self._mark)

    @property
    def left(self) -> float:
        """Seconds of the steps to come."""
        return self.seconds_per_step * (self.steps - self.step)

    @property
    def rate(self) -> float:
        """Images a second."""
        return self.images_per_step / max(self.seconds_per_step, 1e-9)


class Progress(Callback):
    """Epoch, images/s, time left; loss terms; spread, effective rank and the verdict so far. Rank 0 only."""

    def __init__(self, console: Console, monitor: Monitor) -> None:
        self.console = console
        self.monitor = monitor
        self._bar: Bar | None = None
        self._text = Line(console)
        self._seconds = NOTEBOOK_SECONDS if console.is_jupyter else FILE_SECONDS
        self._pace: Pace | None = None
        self._printed_at = 0.0
        self._says_left_out = True

    def start(self, module: PretrainModule) -> None:
        if rank() != 0:
            return
        self._pace = Pace(module.steps, module.step, module.config.batch_size)
        self._printed_at = self._pace.started - self._seconds + FIRST_SECONDS
        if self.console.is_terminal:
            self._bar, self._seconds = Bar(self.console, transient=False), TERMINAL_SECONDS
            self._bar.update("epoch", module.step / module.steps, "starting")
            self._bar.start()

    def after_step(self, module: PretrainModule) -> None:
        pace = self._pace
        if pace is None:
            return
        step, now = module.step, time.monotonic()
        pace.after_step(step)
        if self.monitor.left_out and self._says_left_out:
            self._says_left_out = False
            self.console.print(left_out_note(self.monitor.seconds, self.monitor.share))
        last = step == module.steps
        due = now - self._printed_at >= self._seconds
        if not (last or (due and (pace.done > 1 or now - pace.started >= FIRST_SECONDS))):
            return
        self._printed_at = now
        epoch = min(module.config.epochs, step // module.steps_per_epoch + 1)
        title = f"epoch {epoch}/{module.config.epochs}"
        numbers = f"{step / module.steps:4.0%}  {pace.rate:,.0f} images/s  "
        numbers += f"{duration(now - pace.started)}" if last else f"{duration(pace.left)} left"
        if self._bar is not None:
            self._bar.update(title, step / module.steps, f"{numbers}\n{self._line(module)}")
        else:
            self._text.show(f"{title}  {numbers}   {self._line(module)}")

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


def left_out_note(seconds: float, share: float) -> str:
    """What is printed when the first diagnosis is left out."""
    return (
        f"note      a diagnosis takes {duration(seconds)}, so not all that are due are made: they take at most "
        f"{100 * share:g} % of the time (--monitor.diagnosis-share 1 makes all)"
    )


def images_per_pass(config: RunConfig[Any]) -> int:
    """Images of one forward pass of the encoder on one process: what its batch norm sees."""
    part = config.batch_size // config.devices // config.grad_accum_steps
    return min(part, config.grad_cache_chunk or part)
