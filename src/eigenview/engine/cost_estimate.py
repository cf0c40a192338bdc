"""Estimates memory and time of a run before its first step.

Memory is that of a step on fake tensors (fake_step.py), so that a batch which would not fit can be estimated too. On a
CPU what the process has in memory before (libraries above all), and what comes after training, is added to it. Time
is that of one real step of a copy of everything, with as many images as a fraction of a second allows. Neither changes
the run: networks are copied, and the state of the random generators is restored.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from eigenview import runfiles
from eigenview.durations import rough_duration
from eigenview.engine.fake_step import fake_step
from eigenview.engine.final_probes import encoder_function, main_encoder
from eigenview.engine.memory import PeakMemory, free_bytes, gpu_number, process_bytes
from eigenview.engine.module import PretrainModule
from eigenview.engine.optim import build_optimizer
from eigenview.engine.plan import Plan
from eigenview.engine.plan_memory import mapped_files, present_bytes, probe_bytes, resident_bytes
from eigenview.engine.probe_estimate import probe_seconds
from eigenview.engine.step import train_step
from eigenview.launched import launched
from eigenview.models.network import Network
from eigenview.models.target import TargetNetwork
from eigenview.records import ALONE
from eigenview.terminal import Console

TRIAL_SECONDS = (0.15, 2.0)
"""Bounds of what a trial step may take: a longer run may spend more on it."""
SHORT_RUN, FEW_PIXELS = 100, 10_000_000
"""Runs with fewer steps and fewer pixels, over all their views, are over in seconds and not timed in advance."""
USABLE = 0.9
"""Share of the free memory that a run may plan with; libraries and allocators need room of their own."""
FEWEST_WATCHED = 64
"""Held-out images below which none are suggested: ranks could no longer be seen."""
FAILURES = (RuntimeError, ValueError)
"""Torch's errors about fake tensors and memory, and of a norm or an objective that has too few images of a trial."""
LIBRARIES, PROBES = "libraries", "probes and report"
LATER = 250_000_000
"""Bytes of what probes and report import: scikit-learn, pandas, Arrow, plotly (`benchmarks/sections/memory.py`)."""
SMALLER = "a smaller --batch-size, fewer --views or a smaller --image-size"


@dataclass(frozen=True)
class Timing:
    """Seconds of a whole step, and the images of the largest step that was tried to find out."""

    images: int
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """What one process needs at its fullest moment, and how long the steps to come will take."""

    parts: dict[str, int]
    """Bytes of the training by what they are for; empty if the step cannot run on fake tensors."""
    present: int
    """Bytes of these that are in memory already."""
    process: int = 0
    """Bytes that this process has beside these, for libraries and lists of files; 0 on a GPU."""
    later: int = 0
    """Bytes that probes and report take beyond what training has freed by then; 0 on a GPU."""
    mapped: int = 0
    """Bytes of images in mapped files, which are in memory as long as nothing else needs it."""
    images: int
    """Images of a process in each step."""
    timing: Timing | None
    """Of one step; None where none was timed."""
    steps: int
    """Steps to come."""
    probe_seconds: float | None = None
    """Seconds of the probes afterwards, at most; None where there are none, or small ones."""

    @property
    def nbytes(self) -> int:
        """Bytes of all that a process needs; 0 if the step cannot run on fake tensors."""
        return sum(self.parts.values()) + self.process + self.later if self.parts else 0

    @property
    def more(self) -> int:
        """Bytes of the training that are not in memory yet."""
        return sum(self.parts.values()) - self.present

    @property
    def seconds(self) -> float | None:
        """Seconds of all steps to come, without diagnoses, probes and waiting for files or other processes."""
        return None if self.timing is None else self.timing.seconds * self.steps

    def record(self) -> dict[str, Any]:
        """Rows of environment.json; memory in gigabytes."""
        return {
            "estimated_memory_gb": round(self.nbytes / 1e9, 4) if self.parts else None,
            "measured_memory_gb": None,
            "estimated_seconds": None if self.seconds is None else round(self.seconds, 1),
        }


@contextmanager
def estimated(
    plan: Plan, module: PretrainModule, directory: Path, *, steps: int, console: Console
) -> Iterator[Callable[[], None]]:
    """Around a training of `steps` more steps: prints the estimate, and writes it to environment.json; afterwards what
    was measured. Gives a function that measures again, for what comes after training."""
    peak = PeakMemory(plan.device)
    peak.begin()  # a trial step is a part of what is measured: it takes no more than a step of the run
    estimate = make_estimate(plan, module, steps)
    show_estimate(console, plan, module, estimate)
    path = directory / runfiles.ENVIRONMENT
    environment = runfiles.read_environment(directory)
    # a resumed run keeps the estimate of its start
    known = {key: value for key, value in environment.items() if value is not None}
    runfiles.write_object(path, environment | estimate.record() | known)

    def note_measured() -> None:
        measured = peak.read(present=estimate.present, mapped=mapped_files(plan))
        now = runfiles.read_environment(directory)
        most = max(round((measured or 0) / 1e9, 4), now.get("measured_memory_gb") or 0.0)
        runfiles.write_object(path, now | {"measured_memory_gb": most or None})

    try:
        yield note_measured
    finally:
        note_measured()


def make_estimate(plan: Plan, module: PretrainModule, steps: int) -> Estimate:
    """The estimate of `steps` more steps of a run. `module` and all random generators are left as they are.

    A network whose program depends on values cannot run on fake tensors, and a step may fail, for example for lack of
    memory. Such numbers are left out: an estimate must not stop a run that may well work.
    """
    images, present = plan.config.batch_size // plan.config.devices, present_bytes(plan, module)
    mapped = mapped_files(plan)
    parts: dict[str, int] = {}
    process = later = 0
    timing: Timing | None = None
    probes: float | None = None
    with suppress(*FAILURES), _twin_of(module, plan.device) as twin:
        with suppress(*FAILURES):
            parts = _parts(plan, twin, plan.config.grad_cache_chunk, len(plan.held_out))
        if plan.device.type != "cuda" and (resident := process_bytes(mapped)) is not None:
            process = max(0, resident - present)
            later = LATER + max(0, probe_bytes(plan, module) - sum(parts.values()))
        pixels = steps * plan.config.batch_size * sum((spec.size or plan.size) ** 2 for spec in plan.specs)
        if steps >= SHORT_RUN or pixels >= FEW_PIXELS:
            with suppress(*FAILURES):
                most = _images_with_room(plan, images, sum(parts.values()) - present)
                timing = _timed_step(plan, twin, most, steps)
        with suppress(*FAILURES):
            probes = probe_seconds(plan, twin.method.widths["h"], encoder_function(main_encoder(twin.method), plan))
    return Estimate(
        parts=parts,
        present=present,
        process=process,
        later=later,
        mapped=sum(mapped.values()),
        images=images,
        timing=timing,
        steps=steps,
        probe_seconds=probes,
    )


def show_estimate(console: Console, plan: Plan, module: PretrainModule, estimate: Estimate) -> None:
    """One line; a second one with what helps if the free memory will probably not suffice."""
    found: list[str] = []
    if estimate.parts:
        parts = {LIBRARIES: estimate.process, PROBES: estimate.later} | estimate.parts
        large = [(name, size) for name, size in parts.items() if size >= 0.02 * estimate.nbytes]
        shares = ", ".join(f"{name} {_size(size)}" for name, size in sorted(large, key=lambda row: -row[1]))
        each = " in each process" if plan.config.devices > 1 else ""
        found.append(f"{_size(estimate.nbytes)} of memory{each} ({shares})")
    if estimate.timing is not None and estimate.seconds is not None:
        tried, images = estimate.timing.images, estimate.images
        how = "a step was timed" if tried == images else f"from a step of {tried} of {images} images"
        found.append(f"{rough_duration(estimate.seconds)} of training ({how})")
    if estimate.probe_seconds is not None and plan.probes is not None:
        train, test = (f"{len(each):,}" for each in plan.probes)
        found.append(f"up to {rough_duration(estimate.probe_seconds)} of probes afterwards ({train} x {test} images)")
    lines = [("estimate", f"about {' and '.join(found)}")] if found else []
    if beside := _beside(plan, estimate):
        lines.append(("", beside))
    warning = _shortage(plan, module, estimate)
    for label, line in (*lines, *([("warning", warning)] if warning else [])):
        console.print(f"{label:9} {line}")


def _beside(plan: Plan, estimate: Estimate) -> str:
    """The line about mapped images, if they are a notable share."""
    if not estimate.parts or estimate.mapped < 0.05 * estimate.nbytes:
        return ""
    once = ", once for all processes" if plan.config.devices > 1 else ""
    return f"beside {_size(estimate.mapped)} of images in a mapped file, kept in memory while there is room{once}"


def _shortage(plan: Plan, module: PretrainModule, estimate: Estimate) -> str | None:
    """What is missing and what helps; None if there is enough, or if the free memory is unknown."""
    free, config = free_bytes(plan.device), plan.config
    on_gpu = plan.device.type == "cuda"
    sharing = 1 if on_gpu else config.devices  # processes that this memory is for
    # processes that are started later have neither libraries nor networks yet
    to_start = 0 if launched() is not None else sharing - 1

    def more(parts: dict[str, int]) -> int:
        return (sum(parts.values()) - estimate.present) * sharing + to_start * (estimate.process + estimate.present)

    if free is None or more(estimate.parts) <= USABLE * free:
        return None
    where = torch.cuda.get_device_name(gpu_number(plan.device)) if on_gpu else "this machine"
    need = f"training needs about {_size(more(estimate.parts))} more, and {where} has {_size(free)} free."
    part, watched = config.grad_cache_chunk or estimate.images // config.grad_accum_steps, len(plan.held_out)
    counts = [watched, watched // 4] if watched // 4 >= FEWEST_WATCHED else [watched]
    ways = [(part // k, count) for count in counts for k in (1, 4, 16, 64) if part % k == 0 and part // k > 1]
    with suppress(*FAILURES), _twin_of(module, plan.device) as twin:
        for chunk, held_out in ways[1:]:
            parts = _parts(plan, twin, chunk, held_out)
            if more(parts) <= USABLE * free:
                options = [f"--grad-cache-chunk {chunk}"] if chunk != part else []
                options += [f"--monitor.images {held_out}"] if held_out != watched else []
                return f"{need} Use {' '.join(options)}, which needs about {_size(more(parts))}, or {SMALLER}."
    return f"{need} Use {SMALLER}."


@contextmanager
def _twin_of(module: PretrainModule, device: torch.device) -> Iterator[PretrainModule]:
    """A copy to try things on, on the device, beside the same resident images; random generators are put back after."""
    pixels = module._pixels
    with torch.random.fork_rng(devices=[gpu_number(device)] if device.type == "cuda" else []):
        yield copy.deepcopy(module, {} if pixels is None else {id(pixels): pixels}).to(device)


def _parts(plan: Plan, twin: PretrainModule, chunk: int | None, held_out: int) -> dict[str, int]:
    return fake_step(twin, chunk=chunk, held_out=held_out, resident=resident_bytes(plan))


def _images_with_room(plan: Plan, images: int, need: int) -> int:
    """Images for a trial step: all, or as many as take half of the free memory."""
    free = free_bytes(plan.device)
    return images if free is None or need <= 0 else min(images, int(images * free / (2 * need)))


def _timed_step(plan: Plan, twin: PretrainModule, most: int, steps: int) -> Timing | None:
    """The time of a step of `twin` with all images of a process, at most `most` of which are tried.

    The number of images grows while a step takes no more than `_affordable`. Each number is tried twice, as buffers and
    kernels are prepared the first time. Beyond the largest, the time is extrapolated linearly from the last two. None
    if so few images cannot make a step.
    """
    config = plan.config
    # every trial has another number of images, and each would be compiled for most of a minute
    twin.config = replace(twin.config, compile_augmentation=False)
    optimizer = build_optimizer(config.optim, twin.method, batch_size=config.batch_size)
    for group in optimizer.param_groups:
        group["factor"] = 0.0  # weights stay good for another step
    whole = config.batch_size // config.devices // config.grad_accum_steps
    least, most = config.method.needs.least_samples, most // config.grad_accum_steps
    images = min(max(4, least), most)
    if images < least:
        return None
    points: list[tuple[int, float]] = []
    while True:
        chunk = _set_chunk(twin, images, whole)
        images -= images % chunk
        seconds = min(_seconds(plan, twin, optimizer, images * config.grad_accum_steps) for _ in range(2))
        points.append((images, seconds))
        grown = min(most, int(images * _affordable(seconds * whole / images * steps) / seconds))
        if grown < 2 * images and (grown < most or grown - images < chunk):
            return Timing(images * config.grad_accum_steps, _extrapolated(points, whole))
        images = grown


def _set_chunk(twin: PretrainModule, images: int, whole: int) -> int:
    """Sets and returns the chunk of the encoder for a trial with `images` of `whole`: at most half, so that activations
    are computed again here too. 1 without gradient caching."""
    asked = twin.config.grad_cache_chunk
    if asked is None or asked >= whole:
        return 1
    chunk = min(asked, max(1, images // 2))
    for part in twin.method.modules():
        if isinstance(part, Network | TargetNetwork):
            part.chunk = chunk
    return chunk


def _affordable(run_seconds: float) -> float:
    """Seconds that a trial step of so long a run may take: a hundredth of it, within reason."""
    low, high = TRIAL_SECONDS
    return min(max(run_seconds / 100, low), high)


def _extrapolated(points: list[tuple[int, float]], images: int) -> float:
    """Seconds of a step of `images`, from (images, seconds) of smaller ones.

    What a step costs without any image (launching kernels, moving weights) is in both of the last two: their difference
    is the images' own. Where that is noise, or there is one point, all is in proportion.
    """
    n, seconds = points[-1]
    if len(points) > 1:
        before, earlier = points[-2]
        slope = (seconds - earlier) / (n - before)
        if slope > 0:
            return seconds + slope * (images - n)
    return seconds * images / n


def _seconds(plan: Plan, twin: PretrainModule, optimizer: torch.optim.Optimizer, images: int) -> float:
    """Seconds of one training step with so many images: views, networks, loss, gradient, optimiser, the method's state.

    It is the step of one process alone: no other process is waited for.
    """
    device = plan.device
    index = torch.arange(images, device=device) % len(plan.train)
    # files are not read: any pixels take as long
    shape = (0,) if plan.train.pixels is not None else (images, *plan.train.shape)
    pixels = torch.randint(256, shape, dtype=torch.uint8, device=device)
    wait = torch.cuda.synchronize if device.type == "cuda" else (lambda: None)
    wait()
    start = time.perf_counter()
    if plan.train.pixels is not None:
        pixels = twin.resident_images(index)
    clock = replace(twin.clock(0), processes=ALONE)
    train_step(twin.method, twin.make_batch(pixels, 0, index), clock, optimizer, twin.options)
    wait()
    return time.perf_counter() - start


def _size(nbytes: int) -> str:
    return f"{nbytes / 1e9:.1f} GB" if nbytes >= 1e9 else f"{max(1, round(nbytes / 1e6))} MB"
