"""Adapting a backbone: whole steps of EfficientNet-Lite0 at 96 px against a plain loop with the same objective.

Random weights: how fast a step is does not depend on them. Before timing, from equal weights and equal views, loss and
gradients of the plain loop must equal ours.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks.bare_step import BareStep
from benchmarks.contest import Goal, Row, Section, Settings, Work
from benchmarks.pictures import noise_file
from benchmarks.sections.step import Shape, agreement, whole_steps

SECTION = "adapt"


def shape_of(settings: Settings) -> Shape:
    """What is trained."""
    tiny = Shape(encoder="timm:test_efficientnet", batch=8, steps=1, rounds=1, images=120, side=32)
    quick = Shape(encoder="timm:test_efficientnet", batch=16, steps=2, rounds=2, images=240, side=64)
    full = Shape(encoder="timm:tf_efficientnet_lite0", batch=64, steps=4, rounds=7, images=2048, side=96)
    return settings.pick(tiny, quick, full)


def check(settings: Settings) -> list[str]:
    """Loss and gradients of the plain loops against ours, at a small batch in float32."""
    return agreement(settings, shape_of(settings), SECTION)


def measure(settings: Settings) -> list[Row]:
    """Check, then whole steps in turns."""
    check(settings)
    return whole_steps(settings, shape_of(settings), SECTION, Goal(1.5, 2))


def inside(settings: Settings) -> Iterator[tuple[str, Work]]:
    """A step without a run around it."""
    shape = shape_of(settings)
    with tempfile.TemporaryDirectory() as folder:
        images = noise_file(Path(folder), shape.batch * 10 // 9 + 80, shape.side)
        bare = BareStep(
            "vicreg", images, settings.device, batch_size=shape.batch, image_size=shape.side, encoder=shape.encoder
        )
        for _ in range(2):  # warms up
            bare.step()
        yield f"a step, {shape.encoder}, {shape.batch} x 2 at {shape.side} px", bare.step


ADAPT = Section(check, measure, inside)
