"""Growth: how long it takes until a folder of images, or tar shards, can be trained on.

A first start walks or indexes, reads headers and decodes into an empty cache; a second start finds the cache. Each is a
process that has imported everything before its clock starts; its operating system has the files in memory.
"""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.contest import Disagreement, Goal, Row, Section, Settings
from benchmarks.growth import growth_row

SECTION, SIDE, CLASSES, PICTURES = "growth-sources", 32, 10, 50
SECOND = Goal(0.1, at_most=True)
"""Of a second start, in times of the first."""
LOAD = f"""
import sys, time, torch
from eigenview.data.load import load_images
mark = time.perf_counter()
images = load_images(sys.argv[1], size={SIDE})
assert images.pixels is not None
print(len(images), len(images.class_names), time.perf_counter() - mark)
"""


def pictures() -> list[bytes]:
    """Different PNG files."""
    rng, files = np.random.default_rng(0), []
    for _ in range(PICTURES):
        file = io.BytesIO()
        Image.fromarray(rng.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)).save(file, "png")
        files.append(file.getvalue())
    return files


def write_folder(place: Path, count: int) -> Path:
    """A folder of class folders."""
    files = pictures()
    for c in range(CLASSES):
        (place / f"folder-{count}" / f"class{c}").mkdir(parents=True)
    for i in range(count):
        (place / f"folder-{count}" / f"class{i % CLASSES}" / f"{i:07}.png").write_bytes(files[i % PICTURES])
    return place / f"folder-{count}"


def write_shard(place: Path, count: int) -> Path:
    """One shard as webdataset writes it: an image and its class under one name."""
    files, path = pictures(), place / f"shard-{count}.tar"
    with tarfile.open(path, "w") as shard:
        for i in range(count):
            for suffix, content in (("png", files[i % PICTURES]), ("cls", str(i % CLASSES).encode())):
                member = tarfile.TarInfo(f"{i:07}.{suffix}")
                member.size = len(content)
                shard.addfile(member, io.BytesIO(content))
    return path


KINDS: dict[str, Callable[[Path, int], Path]] = {"folder": write_folder, "tar shard": write_shard}


def start(source: Path, cache: Path, count: int) -> float:
    """Seconds of `load_images` in a new process."""
    environment = {**os.environ, "EIGENVIEW_CACHE": str(cache)}
    done = subprocess.run(
        [sys.executable, "-c", LOAD, str(source)], env=environment, check=True, capture_output=True, text=True
    )
    images, classes, seconds = done.stdout.split()
    if (int(images), int(classes)) != (count, CLASSES):
        raise Disagreement(f"{source.name}: {images} images of {classes} classes, written were {count} of {CLASSES}")
    return float(seconds)


def both_starts(kind: str, count: int, scratch: Path) -> tuple[float, float]:
    """Seconds of a first and of a second start."""
    source = KINDS[kind](scratch, count)
    with tempfile.TemporaryDirectory(dir=scratch) as cache:
        first = start(source, Path(cache), count)
        return first, start(source, Path(cache), count)


def check(settings: Settings) -> list[str]:
    """Both starts give all images and their classes."""
    with tempfile.TemporaryDirectory() as scratch:
        for kind in KINDS:
            both_starts(kind, 30, Path(scratch))
    return [f"{kind}: 30 images of {CLASSES} classes at both starts" for kind in KINDS]


def measure(settings: Settings) -> Iterator[Row]:
    """The exponents of both starts, and how much faster the second is at the largest size."""
    sizes = settings.pick((30, 60, 90), (200, 600, 1800), (3_000, 30_000, 300_000))
    for kind in KINDS:
        with tempfile.TemporaryDirectory() as scratch:
            times = [both_starts(kind, count, Path(scratch)) for count in sizes]
        first, second = zip(*times, strict=True)
        for name, values in (("first start", first), ("second start", second)):
            yield growth_row(SECTION, f"{kind}, images", name, sizes, [values], lambda n: n, settings)
        yield Row(
            section=SECTION,
            case=f"{kind}, {sizes[-1]:,} images",
            contestant="first start",
            quantity="second start / first",
            ours=second[-1],
            theirs=first[-1],
            unit="s",
            figure=second[-1] / first[-1],
            goal=SECOND if settings.scale == "full" else None,
        )


GROWTH_SOURCES = Section(check, lambda settings: list(measure(settings)))
