"""What a training step consists of: its augmentation, its objective, the encoder, the whole."""

from __future__ import annotations

import statistics
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks.bare_step import BareStep
from benchmarks.contest import Goal, Row, Settings, Work, median_ratio, seconds, take_turns
from benchmarks.pictures import noise_file
from benchmarks.sections.loops import EncoderAlone
from eigenview.views import Views


def ways_of(bare: BareStep, alone: EncoderAlone) -> dict[str, Work]:
    """A whole step, and each part by itself on what it gets there."""
    images = bare.images()
    z = torch.randn(2, bare.batch_size, bare.method.widths["z"], device=bare.device, requires_grad=True)

    def objective() -> None:
        z.grad = None
        bare.method.objective(Views(z=z)).total.backward()

    return {
        "whole step": bare.step,
        "augmentation": partial(bare.module.make_views, images, 0),
        "objective": objective,
        "encoder": alone.step,
    }


def measure_parts(section: str, settings: Settings, encoder: str, side: int, batch: int) -> list[Row]:
    """Shares of the whole step, and what augmentation and objective add to the encoder."""
    with tempfile.TemporaryDirectory() as folder:
        images = noise_file(Path(folder), batch * 10 // 9 + 80, side if side <= 64 else side * 8 // 7)
        fields = {"batch_size": batch, "image_size": side, "encoder": encoder}
        bare = BareStep("vicreg", images, settings.device, augmentation="asymmetric" if side > 64 else "auto", **fields)
        alone = EncoderAlone(encoder, side, batch, bare.bf16, settings.device)
        ways = ways_of(bare, alone)
        for work in ways.values():
            for _ in range(2):  # warms up
                work()
        clock = partial(seconds, device=settings.device)
        times = take_turns(ways, settings.pick(1, 3, 20 if settings.is_cuda else 7), clock)
    times["both"] = [a + b for a, b in zip(times["augmentation"], times["objective"], strict=True)]
    whole, heavy = times["whole step"], settings.is_cuda and side > 64
    asked = settings.scale == "full" and settings.is_cuda
    figures: list[tuple[str, str, list[float], list[float], Goal | None]] = [
        ("whole step", "augmentation", times["augmentation"], whole, Goal(0.15, at_most=True) if heavy else None),
        ("whole step", "objective", times["objective"], whole, None),
        ("encoder alone", "augmentation + objective", times["both"], times["encoder"], Goal(0.15, 0.05, at_most=True)),
    ]
    rows = []
    for contestant, part, above, below, goal in figures:
        common: dict[str, Any] = {"section": section, "form": "%", "threads": max(settings.threads)}
        rows.append(
            Row(
                case=f"parts of a step, {encoder}, {batch} x 2 at {side} px",
                contestant=contestant,
                quantity=f"{part} / {contestant}",
                ours=1e3 * statistics.median(above),
                theirs=1e3 * statistics.median(below),
                unit="ms",
                figure=median_ratio(above, below),
                goal=goal if asked else None,
                **common,
            )
        )
    return rows
