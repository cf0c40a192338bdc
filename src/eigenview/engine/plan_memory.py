"""Bytes that a plan's images and features take: in memory, on a GPU, or in files that are mapped."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from eigenview.engine.final_probes import starts_from_weights
from eigenview.engine.module import PretrainModule
from eigenview.engine.plan import Plan


def resident_bytes(plan: Plan) -> int:
    """Images that stay in memory: training and held out, unless they are a mapped file, whose pages come and go."""
    if plan.device.type == "cuda":
        return sum(each.nbytes for each in (plan.train, plan.held_out) if each.pixels is not None)
    both = [each.pixels for each in (plan.train, plan.held_out) if each.pixels is not None]
    return sum({id(pixels): pixels.nbytes for pixels in both if not isinstance(pixels, np.memmap)}.values())


def mapped_files(plan: Plan) -> dict[Path, int]:
    """The files whose images this process has mapped, and the bytes of images in each."""
    found: dict[Path, int] = {}
    for each in (plan.train, plan.held_out, *(plan.probes or ())):
        if isinstance(each.pixels, np.memmap) and each.pixels.filename is not None:
            file = Path(each.pixels.filename)
            found[file] = max(found.get(file, 0), each.pixels.nbytes)
    return found


def probe_bytes(plan: Plan, module: PretrainModule) -> int:
    """Features of the probes' images, float32: raw pixels, the trained encoder and the one it started from, which has
    two rows if its weights were given (final_probes.py); and the standardised copy of the training features that a
    linear probe is fitted on."""
    if plan.probes is None:
        return 0
    pixels, width = plan.train.reading.channels * min(plan.train.source_size, 16) ** 2, module.method.widths["h"]
    rows = 3 if starts_from_weights(plan.config) else 2
    return 4 * ((pixels + rows * width) * sum(map(len, plan.probes)) + max(pixels, width) * len(plan.probes[0]))


def present_bytes(plan: Plan, module: PretrainModule) -> int:
    """What of an estimate is in the device's memory before training: images, and on a CPU the networks."""
    if plan.device.type == "cuda":
        return 0 if plan.train.pixels is None else plan.train.nbytes
    tensors = (*module.parameters(), *module.buffers())
    return resident_bytes(plan) + sum(tensor.nbytes for tensor in tensors)
