"""Loader: uint8 batches of a folder of small JPEGs on the device, by our resident set and by torchvision's ImageFolder.

ImageFolder decodes every image at every epoch, in as many DataLoader workers as there are cores, kept alive from one
epoch to the next, without any augmentation (PILToTensor). Ours decodes a folder once, keeps uint8 pixels (the run's
own cache, here in a temporary folder), and takes rows of them; the first decoding has a separate row, and so has a
set too large to be kept, which is decoded as it is read.

A turn is a whole epoch (ours: many, divided by their number), so that no worker runs during another turn.
Before timing: every image must have the same pixels both ways.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder
from torchvision.transforms.v2 import PILToTensor

from benchmarks.contest import OURS, Disagreement, Goal, Row, Section, Settings, Work, ratio_rows, seconds, take_turns
from benchmarks.pictures import jpeg_folder
from eigenview.config import LoaderConfig
from eigenview.data.batches import Batches, resident
from eigenview.data.images import ImageSet
from eigenview.data.load import load_images

SECTION = "loader"
SIDE = 32
IMAGE_FOLDER = "torchvision's ImageFolder"
EPOCHS = 50  # of ours a turn: one alone is too short to time


@contextmanager
def folder_of_jpegs(count: int) -> Iterator[Path]:
    """A temporary folder of JPEGs; what is decoded from it is kept beside it, not in the user's cache."""
    with tempfile.TemporaryDirectory() as scratch:
        before = os.environ.get("EIGENVIEW_CACHE")
        os.environ["EIGENVIEW_CACHE"] = f"{scratch}/cache"
        try:
            yield jpeg_folder(Path(scratch) / "images", count, SIDE)
        finally:
            if before is None:
                del os.environ["EIGENVIEW_CACHE"]
            else:
                os.environ["EIGENVIEW_CACHE"] = before


def kept(folder: Path) -> ImageSet:
    """The folder as a run opens it: decoded once."""
    return load_images(str(folder), size=SIDE)


def read_each_time(folder: Path) -> ImageSet:
    """The folder as a set that is too large to be kept."""
    return load_images(str(folder), size=SIDE, source_size=SIDE, loader=LoaderConfig(cache_gb=0))


def check_folder(folder: Path) -> list[str]:
    """The same pixels for each file."""
    theirs = ImageFolder(str(folder), PILToTensor())
    expected = {path: theirs[number][0].numpy() for number, (path, _) in enumerate(theirs.samples)}
    lines = []
    for name, images in (("kept", kept(folder)), ("read each time", read_each_time(folder))):
        if {str(Path(path)) for path in images.paths} != set(expected):
            raise Disagreement(f"loader, {name}: not the files that ImageFolder finds. Nothing was timed.")
        pixels = images.read(np.arange(len(images)))
        differ = sum(not np.array_equal(expected[str(Path(p))], x) for p, x in zip(images.paths, pixels, strict=True))
        if differ:
            raise Disagreement(f"loader, {name}: {differ} of {len(images)} images differ from ImageFolder's.")
        lines.append(f"loader, {name}: all {len(images)} images equal ImageFolder's to the bit")
    return lines


def check(settings: Settings) -> list[str]:
    """Pixels of a small folder."""
    with folder_of_jpegs(settings.pick(20, 200, 200)) as folder:
        return check_folder(folder)


def epoch_of_rows(batches: Batches, pixels: Tensor | None, device: torch.device) -> None:
    """All batches of a span on the device, as the engine takes them."""
    for batch in batches:
        if pixels is not None:
            index = batch["index"]
            assert index is not None
            pixels.index_select(0, index.to(device, non_blocking=True))  # what engine/module.py does
        else:
            assert batch["images"] is not None
            batch["images"].to(device, non_blocking=True)


def epoch_of_folder(loader: DataLoader[tuple[Tensor, Tensor]], device: torch.device) -> None:
    """All batches of an epoch on the device."""
    for images, _ in loader:
        images.to(device, non_blocking=True)


def measure(settings: Settings) -> list[Row]:
    """Check, then time epochs."""
    torch.set_num_threads(max(settings.threads))
    count, batch = settings.pick(20, 512, 4096), settings.pick(4, 64, 128)
    workers = os.cpu_count() or 1
    device = settings.device
    with folder_of_jpegs(count) as folder:
        first = seconds(lambda: kept(folder), device)
        check_folder(folder)
        images, unkept = kept(folder), read_each_time(folder)
        pixels, _ = resident(images, device)
        many = Batches(images, batch_size=batch, seed=0, epochs=EPOCHS)
        once = Batches(unkept, batch_size=batch, seed=0, workers=workers)
        loader = DataLoader(
            ImageFolder(str(folder), PILToTensor()),
            batch,
            shuffle=True,
            drop_last=True,
            num_workers=workers,
            persistent_workers=True,
            pin_memory=settings.is_cuda,
        )
        ways: dict[str, Work] = {
            OURS: partial(epoch_of_rows, many, pixels, device),
            IMAGE_FOLDER: partial(epoch_of_folder, loader, device),
            "ours, decoded as it is read": partial(epoch_of_rows, once, None, device),
        }
        for work in ways.values():
            work()  # warms up, starts the workers
        times = take_turns(ways, settings.pick(1, 2, 5), partial(seconds, device=device))
    times[OURS] = [value / EPOCHS for value in times[OURS]]
    times["ours, the first decoding"] = [first] * len(times[OURS])
    case = f"{count} JPEGs of {SIDE} px, batch {batch}, {workers} workers"
    goals = {IMAGE_FOLDER: Goal(100)}
    return ratio_rows(
        SECTION, case, times, settings, goals, unit="us per image", scale=1e6 / count, threads=max(settings.threads)
    )


LOADER = Section(check, measure)
