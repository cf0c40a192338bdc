"""Whole training steps: ours with all that a run does, against plain loops in float32 and the encoder alone; and what
augmentation and objective add to the encoder.

On a CPU: the small net on 32 px JPEGs. $CIFAR10 names the unpacked CIFAR-10 (JPEG) folder with train/ and test/;
without it a folder of synthetic JPEGs is made. On a GPU: ResNet-18 with the CIFAR stem at 32 px, and the parts of a
ResNet-50 step at 224 px. The contestants take turns of a few steps; ours lets the others run from a callback.

Before timing: from equal weights and equal views, the plain loops' loss and the gradient of every parameter must equal
ours, in float32.
"""

from __future__ import annotations

import os
import statistics
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import torch

from benchmarks import plain
from benchmarks.bare_step import BareStep, configured, plan_on
from benchmarks.ceilings import product_rate
from benchmarks.contest import (
    OURS,
    Goal,
    Row,
    Section,
    Settings,
    Work,
    full_float32,
    median_ratio,
    ratio_rows,
    require_agreement,
)
from benchmarks.peers import peer
from benchmarks.pictures import jpeg_folder, noise_file
from benchmarks.sections.loops import EncoderAlone, lightly_loop, operations, same_network, torch_loop
from benchmarks.sections.parts import measure_parts
from eigenview.engine.callbacks import Checkpoints, MetricsWriter, Monitor
from eigenview.engine.loop import Callback, fit
from eigenview.engine.module import PretrainModule
from eigenview.engine.plan import Plan
from eigenview.engine.train import build_module, make_batches

SECTION = "step"
SIDE = 32
ENCODER_ALONE, TORCH_LOOP, LIGHTLY_LOOP = "encoder alone", "plain torch + torchvision loop", "plain loop of lightly"
STEP_AGREEMENT = 1e-3  # of gradients through a whole network with batch norm, float32, two memory formats


@dataclass(frozen=True, kw_only=True)
class Shape:
    """Network, batch, turns."""

    encoder: str
    batch: int
    steps: int
    rounds: int
    images: int
    """JPEGs that are made where $CIFAR10 is not set."""
    side: int = SIDE
    """Of the views, in pixels."""


def shape_of(settings: Settings) -> Shape:
    """What is trained."""
    if settings.is_cuda:
        quick = Shape(encoder="resnet18", batch=128, steps=10, rounds=2, images=1024)
        return settings.pick(quick, quick, Shape(encoder="resnet18", batch=512, steps=30, rounds=5, images=8192))
    tiny = Shape(encoder="conv-tiny", batch=8, steps=1, rounds=1, images=120)
    quick = Shape(encoder="conv-small", batch=32, steps=2, rounds=2, images=240)
    return settings.pick(tiny, quick, Shape(encoder="conv-small", batch=128, steps=15, rounds=7, images=4096))


class Enough(Exception):
    """All turns have been taken."""


class TakeTurns(Callback):
    """Between our own turns of `steps`, let the others run theirs; keep seconds per step of each."""

    def __init__(self, others: dict[str, Callable[[int], float]], shape: Shape) -> None:
        self.others, self.steps, self.rounds = others, shape.steps, shape.rounds
        self.seconds: dict[str, list[float]] = {name: [] for name in (OURS, *others)}
        self.mark = 0.0

    def after_step(self, module: PretrainModule) -> None:
        step = module.step
        if step % self.steps:
            return
        if module.device.type == "cuda":
            torch.cuda.synchronize()
        is_warm = step > self.steps  # the first turn warms up
        if is_warm:
            self.seconds[OURS].append((perf_counter() - self.mark) / self.steps)
        for name, turn in self.others.items():
            took = turn(self.steps)
            if is_warm:
                self.seconds[name].append(took)
        if len(self.seconds[OURS]) == self.rounds:
            raise Enough
        self.mark = perf_counter()


@contextmanager
def training_images(settings: Settings, shape: Shape, scratch: Path) -> Iterator[tuple[str, Path]]:
    """Name and folder of JPEGs in class folders: CIFAR-10's at full scale if $CIFAR10 is set."""
    if settings.scale == "full" and "CIFAR10" in os.environ:
        yield "CIFAR-10 (JPEG)", Path(os.environ["CIFAR10"]) / "train"
        return
    if settings.scale == "full":
        settings.say("step: $CIFAR10 is not set; synthetic JPEGs are used")
    yield "synthetic JPEGs", jpeg_folder(scratch / "images", shape.images, shape.side)


def plan_of(data: Path, settings: Settings, shape: Shape) -> Plan:
    """The small VICReg recipe, long enough for all turns, without a diagnosis among them."""
    fields = {"encoder": shape.encoder, "batch_size": shape.batch, "image_size": shape.side, "epochs": 1000}
    return plan_on(
        settings.device, configured("vicreg", data, {**fields, "monitor": {"every_epochs": 1000, "images": 64}})
    )


def run_with(plan: Plan, scratch: Path, turns: TakeTurns) -> None:
    """Our run, with all the callbacks that a run has."""
    log = MetricsWriter(scratch, plan.config.monitor.log_every_steps, plan.config.batch_size)
    held_out = torch.from_numpy(plan.held_out.read(list(range(len(plan.held_out)))))  # type: ignore[arg-type]
    every = round(plan.config.monitor.every_epochs * plan.steps_per_epoch)
    monitor = Monitor(scratch, held_out, every, log, stop=False)
    batches = make_batches(plan)
    saver = Checkpoints(scratch, 2.0, 10, log, batches)
    with suppress(Enough):
        fit(build_module(plan), batches, [log, monitor, saver, turns], device=plan.device)


def whole_steps(
    settings: Settings, shape: Shape, section: str = SECTION, goal: Goal | None = Goal(2.5, 3)
) -> list[Row]:
    """Ours, the plain loops and the encoder alone, in turns. `goal`: against the plain loop on a CPU."""
    torch.set_num_threads(max(settings.threads))
    with tempfile.TemporaryDirectory() as folder, training_images(settings, shape, Path(folder)) as (name, data):
        plan = plan_of(data, settings, shape)
        alone = EncoderAlone(shape.encoder, shape.side, shape.batch, plan.bf16, settings.device)
        others = {TORCH_LOOP: torch_loop(data, plan.specs, plan.config, shape.side, settings).turn}
        if (of_lightly := lightly_loop(data, plan.config, shape.side, settings)) is not None:
            others[LIGHTLY_LOOP] = of_lightly.turn
        others[ENCODER_ALONE] = alone.turn
        turns = TakeTurns(others, shape)
        run_with(plan, Path(folder), turns)
        work = operations(alone.encoder, shape.side, 2 * shape.batch, settings.device)
    case = f"{shape.encoder}, {name}, {shape.batch} x 2 at {shape.side} px, {plan.precision_note}"
    loops = {name: values for name, values in turns.seconds.items() if name != ENCODER_ALONE}
    goals = {} if settings.is_cuda or goal is None else {TORCH_LOOP: goal}
    threads = max(settings.threads)
    rows = ratio_rows(section, case, loops, settings, goals, threads=threads, unit="ms per step")
    return [*rows, *encoder_rows(section, case, turns.seconds, work, settings)]


def encoder_rows(
    section: str, case: str, times: dict[str, list[float]], work: float | None, settings: Settings
) -> list[Row]:
    """Our step as a share of the encoder alone, and, where its operations are counted, of what the machine's own
    products would allow."""
    own, alone = statistics.median(times[OURS]), times[ENCODER_ALONE]
    is_full, on_gpu = settings.scale == "full", settings.is_cuda
    common: dict[str, Any] = {"section": section, "case": case, "form": "%", "threads": max(settings.threads)}
    share = Row(
        contestant=ENCODER_ALONE,
        quantity="its time / ours",
        ours=1e3 * own,
        theirs=1e3 * statistics.median(alone),
        unit="ms per step",
        figure=median_ratio(alone, times[OURS]),
        goal=Goal(0.85, 0.95) if is_full and not on_gpu and section == SECTION else None,
        **common,
    )
    if work is None:
        return [share]
    is_bf16 = "bf16" in case.rsplit(",", 1)[1]
    rate = product_rate(settings, torch.bfloat16 if is_bf16 else torch.float32)
    ceiling = Row(
        contestant=f"matrix products in {'bf16' if is_bf16 else 'fp32'}",
        quantity="the encoder's operations in our step, of their rate",
        ours=work / own / 1e9,
        theirs=rate / 1e9,
        unit="GFLOP/s",
        figure=work / own / rate,
        goal=Goal(0.25, 0.36) if is_full and on_gpu and section == SECTION else None,
        **common,
    )
    return [share, ceiling]


def check(settings: Settings) -> list[str]:
    """Loss and gradients of the plain loops against ours, at a small batch in float32."""
    return agreement(settings, shape_of(settings), SECTION)


def agreement(settings: Settings, shape: Shape, section: str) -> list[str]:
    """The same for a network and a side, in the memory layout that our run has: in another one the float32 gradients of
    a deep network differ by more than any two losses do (EfficientNet-Lite0 at 96 px by 6 % of their norm)."""
    lines: list[str] = []
    batch, side, encoder = settings.pick(8, 16, 32), shape.side, shape.encoder
    with tempfile.TemporaryDirectory() as folder, full_float32():
        images = noise_file(Path(folder), 4 * batch + 80, side)
        bare = BareStep("vicreg", images, settings.device, "fp32", batch_size=batch, image_size=side, encoder=encoder)
        made = bare.make_batch()
        ours = bare.value_and_gradient(made)
        layout = torch.channels_last
        network = same_network(bare.module.config, side).to(settings.device, memory_format=layout).train()  # type: ignore[call-overload]
        library = peer("lightly.loss", settings)
        losses = {TORCH_LOOP: plain.vicreg} | ({} if library is None else {LIGHTLY_LOOP: library.VICRegLoss()})
        for name, function in losses.items():
            network.zero_grad()
            value = function(*(network.embed(view.contiguous(memory_format=layout))[1] for view in made.views))
            value.backward()
            gradient = torch.cat([p.grad.flatten() for p in network.parameters() if p.grad is not None])
            found = {"value": value.detach(), "gradient": gradient}
            lines.append(require_agreement(f"{section}, {name}", found, ours, STEP_AGREEMENT))
    return lines


def measure(settings: Settings) -> list[Row]:
    """Check, then whole steps, then their parts."""
    check(settings)
    shape = shape_of(settings)
    rows = whole_steps(settings, shape)
    rows += measure_parts(SECTION, settings, shape.encoder, SIDE, shape.batch)
    if settings.is_cuda:
        rows += measure_parts(SECTION, settings, "resnet50", 224, settings.pick(8, 64, 128))
    return rows


def inside(settings: Settings) -> Iterator[tuple[str, Work]]:
    """A step without a run around it, at the shape of the whole steps."""
    shape = shape_of(settings)
    with tempfile.TemporaryDirectory() as folder:
        images = noise_file(Path(folder), shape.batch * 10 // 9 + 80, SIDE)
        bare = BareStep(
            "vicreg", images, settings.device, batch_size=shape.batch, image_size=SIDE, encoder=shape.encoder
        )
        for _ in range(2):  # warms up
            bare.step()
        yield f"a step, {shape.encoder}, {shape.batch} x 2 at {SIDE} px", bare.step


STEP = Section(check, measure, inside)
