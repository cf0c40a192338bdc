"""What --grad-cache-chunk costs and saves: time and memory of a step with it over those of the whole batch at once.

Memory is the peak of bytes allocated during a step above what was held before it (`contest.peak_bytes`). Images are
noise. Before timing: loss and gradient of both ways must agree, in float32 and with group norm in the encoder (batch
norm sees one chunk at a time, and differs by design).
"""

from __future__ import annotations

import statistics
import tempfile
from functools import partial
from pathlib import Path

import torch

from benchmarks.bare_step import BareStep
from benchmarks.contest import (
    Goal,
    Row,
    Section,
    Settings,
    full_float32,
    median_ratio,
    peak_bytes,
    require_agreement,
    seconds,
    take_turns,
)
from benchmarks.pictures import noise_file

SECTION = "grad-cache"
SIDE = 32
WHOLE, PARTS = "whole", "parts"


def sizes(settings: Settings) -> tuple[int, int]:
    """Images of a step, and of a chunk."""
    return settings.pick((8, 4), (64, 16), (512, 64))


def check(settings: Settings) -> list[str]:
    """Loss and gradient of a step, whole and in chunks."""
    batch, part = settings.pick((8, 4), (32, 8), (32, 8))
    with tempfile.TemporaryDirectory() as folder, full_float32():
        images = noise_file(Path(folder), 4 * batch + 80, SIDE)
        fields = {"batch_size": batch, "image_size": SIDE, "network": {"encoder_norm": "group"}}
        found = []
        for chunk in (None, part):
            bare = BareStep("vicreg", images, settings.device, "fp32", grad_cache_chunk=chunk, **fields)
            found.append(bare.value_and_gradient(bare.make_batch()))
    return [require_agreement(f"{batch} images in parts of {part}", found[1], found[0])]


def measure(settings: Settings) -> list[Row]:
    """Check, then time both ways and take their memory."""
    check(settings)
    torch.set_num_threads(max(settings.threads))
    batch, part = sizes(settings)
    with tempfile.TemporaryDirectory() as folder:
        images = noise_file(Path(folder), 2 * batch + 80, SIDE)
        ways = {}
        for name, chunk in ((WHOLE, None), (PARTS, part)):
            bare = BareStep(
                "vicreg", images, settings.device, grad_cache_chunk=chunk, batch_size=batch, image_size=SIDE
            )
            bare.step()  # warms up, and makes the optimiser's state
            ways[name] = bare.step
        times = take_turns(ways, settings.pick(1, 3, 5), partial(seconds, device=settings.device))
        memory = {name: peak_bytes(work, settings.device) for name, work in ways.items()}
    case = f"conv-small, {batch} x 2 at {SIDE} px, parts of {part}"
    medians = {name: 1e3 * statistics.median(values) for name, values in times.items()}
    figures = (
        ("time", "ms", medians[PARTS], medians[WHOLE], median_ratio(times[PARTS], times[WHOLE]), 1.4),
        ("memory", "MB", memory[PARTS] / 1e6, memory[WHOLE] / 1e6, memory[PARTS] / memory[WHOLE], 0.5),
    )
    return [
        Row(
            section=SECTION,
            case=case,
            contestant="the whole batch at once",
            quantity=f"{quantity}, ours / theirs",
            ours=ours,
            theirs=theirs,
            unit=unit,
            figure=figure,
            goal=Goal(limit, at_most=True) if settings.scale == "full" else None,
            threads=max(settings.threads),
        )
        for quantity, unit, ours, theirs, figure, limit in figures
    ]


GRAD_CACHE = Section(check, measure)
