"""Runs killed at 30 moments, most of them while a file is written, end as if nothing had happened.

After a kill the same command is given again with --resume; it then ends with the files of an undisturbed run. The
moments are drawn with a seed: a line inside of the writing of checkpoints, of the report, of the cache or of any other
file (kill_points.py), or a fraction of the run's time.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from eigenview import runfiles
from tests.engine import kill_points
from tests.process_pool import PRELOAD

OPTIONS = ["--epochs", "3", "--encoder", "conv-tiny", "--batch-size", "16", "--image-size", "16", "--method", "byol"]
OPTIONS += ["--network.projector-hidden", "16", "--network.projector-width", "8", "--monitor.images", "8"]
OPTIONS += ["--monitor.log-every-steps", "1", "--monitor.checkpoint-minutes", "0.00001", "--probe.few-label-draws", "1"]
TIMES = ("seconds", "images_per_second")


ROOT = Path(__file__).parents[2]
FORKED = multiprocessing.get_context("forkserver")


@dataclass(frozen=True)
class Place:
    """A folder for a run, its cache and its temporary files, and the images that the run is trained on."""

    folder: Path
    data: Path
    devices: int

    @property
    def run(self) -> Path:
        return self.folder / "run"

    def start(self, seconds: float = 240, environment: dict[str, str] | None = None) -> int:
        """Run the command, or run it again, and kill it after so many seconds; returns its exit code.

        A process alone is forked from a server that has done the imports; two are started as a user starts them.
        """
        (self.folder / "tmp").mkdir(parents=True, exist_ok=True)
        args = ["pretrain", str(self.data), *OPTIONS, "--out", str(self.run), "--resume"]
        environment = {**(environment or {}), "EIGENVIEW_CACHE": str(self.folder / "cache")}
        environment["TMPDIR"] = str(self.folder / "tmp")
        log = self.folder / "log.txt"
        if self.devices == 1:
            process = FORKED.Process(target=kill_points.serve, args=(args, environment, str(log)))
            process.start()
            process.join(seconds)
            process.kill()
            process.join()
            assert process.exitcode is not None
            return process.exitcode
        command = [sys.executable, "-m", kill_points.__name__, *args, "--devices", str(self.devices)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
        with (
            log.open("ab") as file,
            subprocess.Popen(command, env=environment, cwd=ROOT, stdout=file, stderr=file) as it,
        ):
            try:
                return it.wait(seconds)
            except subprocess.TimeoutExpired:
                it.kill()
                return it.wait()


@dataclass(frozen=True)
class Whole:
    """An undisturbed run, the lines of each point in it, and the seconds it took."""

    place: Place
    lines: dict[str, int]
    seconds: float


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "photos"
    for i in range(64):
        (folder / "abc"[i % 3]).mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(i).integers(0, 256, (20, 20, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "abc"[i % 3] / f"{i:02}.png")
    return folder


def undisturbed(place: Place) -> Whole:
    """Two runs: one whose lines are counted, and one that is timed."""
    counted, lines = Place(place.folder / "counted", place.data, place.devices), place.folder / "lines.json"
    for each, environment in ((counted, {"KILL_COUNTS": str(lines)}), (place, {})):
        began = time.monotonic()
        assert each.start(environment=environment) == 0, (each.folder / "log.txt").read_text()
    return Whole(place, json.loads(lines.read_text()), time.monotonic() - began)


@pytest.fixture(scope="module")
def alone(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Whole:
    FORKED.set_forkserver_preload([*PRELOAD, kill_points.__name__])
    first = FORKED.Process(target=int)  # starts the server, whose imports are no part of the run
    first.start()
    first.join()
    return undisturbed(Place(tmp_path_factory.mktemp("alone"), photos, devices=1))


@pytest.fixture(scope="module")
def two(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Whole:
    return undisturbed(Place(tmp_path_factory.mktemp("two"), photos, devices=2))


def moments(devices: int, **counts: int) -> list[Any]:
    """(point, fraction) pairs: `counts` of each point, spread over its lines, with a jitter drawn with a seed."""
    draw = np.random.default_rng(devices)
    found = [(name.replace("_", " "), (i + draw.random()) / n) for name, n in counts.items() for i in range(n)]
    return [pytest.param(*each, id=f"{each[0]} {each[1]:.2f}") for each in found]


def killed(whole: Whole, folder: Path, point: str, fraction: float) -> Place:
    """A run that was killed at this moment, two minutes ago."""
    place = Place(folder, whole.place.data, whole.place.devices)
    if point == "any time":
        seconds = fraction * whole.seconds
        while place.start(seconds) != -signal.SIGKILL:  # it was faster than the undisturbed run
            shutil.rmtree(folder)
            seconds /= 2
    else:
        line = 1 + int(fraction * whole.lines[point])
        code = place.start(environment={"KILL_POINT": point, "KILL_LINE": str(line)})
        assert code == -signal.SIGKILL, (folder / "log.txt").read_text()
    for left in folder.rglob(".*"):
        os.utime(left, (time.time() - 120, time.time() - 120))
    return place


def assert_ends_alike(whole: Whole, place: Place) -> None:
    """Given again, the command ends with the files of the undisturbed run, and leaves nothing else behind."""
    assert place.start() == 0, (place.folder / "log.txt").read_text()
    ours, theirs = place.run, whole.place.run
    assert files(ours) == files(theirs)
    strays = [*(place.folder / "tmp").iterdir(), *(place.folder / "cache").rglob(".*")]
    # an empty folder of torch's, and the empty file by which processes take turns
    assert not [path.name for path in strays if "torchinductor" not in path.name and path.suffix != ".lock"]
    for name in (runfiles.CONFIG, runfiles.ENCODER, runfiles.PROBES, runfiles.DIAGNOSTICS):
        assert (ours / name).read_bytes() == (theirs / name).read_bytes(), name
    assert metrics(ours) == metrics(theirs)
    assert without_times(runfiles.read_summary(ours)) == without_times(runfiles.read_summary(theirs))
    for read in (runfiles.read_spectra, runfiles.read_gallery):
        mine, other = read(ours), read(theirs)
        assert mine.keys() == other.keys()
        for name, value in other.items():
            np.testing.assert_array_equal(mine[name], value)
    assert_equal(checkpoint(ours), checkpoint(theirs))


def files(run: Path) -> set[str]:
    """previous.ckpt is there or not depending on when the last checkpoint but one was written."""
    names = {str(path.relative_to(run)) for path in run.rglob("*") if path.is_file()}
    return names - {str(runfiles.PREVIOUS_CHECKPOINT)}


def without_times(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name not in TIMES}


def metrics(run: Path) -> list[dict[str, Any]]:
    return [without_times(row) for row in runfiles.read_metrics(run)]


def checkpoint(run: Path) -> dict[str, Any]:
    content = torch.load(run / runfiles.CHECKPOINT, weights_only=True)
    content["callbacks"]["MetricsWriter"].pop("seconds")
    return content


def assert_equal(ours: Any, theirs: Any, where: str = "") -> None:
    assert type(ours) is type(theirs), where
    if isinstance(theirs, dict):
        assert ours.keys() == theirs.keys(), where
        for name in theirs:
            assert_equal(ours[name], theirs[name], f"{where}/{name}")
    elif isinstance(theirs, list | tuple):
        assert len(ours) == len(theirs), where
        for i, pair in enumerate(zip(ours, theirs, strict=True)):
            assert_equal(*pair, where=f"{where}/{i}")
    else:
        assert torch.equal(ours, theirs) if isinstance(theirs, Tensor) else ours == theirs, where


@pytest.mark.slow
@pytest.mark.parametrize(
    ("point", "fraction"),
    moments(1, cache=2, cache_file=3, checkpoint=5, report=1, report_file=4, any_file=5, any_time=3),
)
def test_a_run_killed_at_any_moment_ends_as_if_it_had_not_been(
    alone: Whole, tmp_path: Path, point: str, fraction: float
) -> None:
    assert_ends_alike(alone, killed(alone, tmp_path, point, fraction))


@pytest.mark.ddp
@pytest.mark.slow
@pytest.mark.parametrize(
    ("point", "fraction"), moments(2, cache_file=1, checkpoint=2, report_file=1, any_file=1, any_time=3)
)
def test_a_run_of_two_processes_killed_at_any_moment_ends_as_if_it_had_not_been(
    two: Whole, tmp_path: Path, point: str, fraction: float
) -> None:
    assert_ends_alike(two, killed(two, tmp_path, point, fraction))
