"""Memory: what a run says before its first step that it will need, beside the peak of its process.

Each run is a process of its own, watched from outside. The peak is that of its resident pages without those of the
mapped images, which the system drops when memory is short; a second row counts them too. The number is the larger of
estimate / peak and peak / estimate: 1.2 is 20 % off.

Before anything is measured: a plan's estimate counts the bytes of a mapped file, and copies nothing of it.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.contest import Disagreement, Goal, Row, Section, Settings
from benchmarks.sections.start import environment
from eigenview import runfiles
from eigenview.config import with_fields
from eigenview.engine.plan import make_plan
from eigenview.engine.plan_memory import mapped_files
from eigenview.recipes import default

SECTION = "memory"
SIDE = 32
SMALL = ["--encoder", "conv-tiny", "--network.projector-hidden", "32", "--network.projector-width", "32"]
EVERY = 0.2
"""Seconds between two looks at a process."""


@dataclass(frozen=True)
class Peak:
    """What a process had at its fullest, in bytes."""

    resident: int
    """Resident pages."""
    mapped: int
    """Of these, pages of mapped images, at most."""


def write_images(path: Path, count: int, *, labelled: bool) -> Path:
    """So many images of 32 px: a .npy, or an .npz with labels of ten classes."""
    images = np.random.default_rng(0).integers(0, 256, (count, 3, SIDE, SIDE), dtype=np.uint8)
    if labelled:
        np.savez(path.with_suffix(".npz"), images=images, labels=np.arange(count) % 10)
        return path.with_suffix(".npz")
    np.save(path.with_suffix(".npy"), images)
    return path.with_suffix(".npy")


def watched(command: list[str], scratch: Path, mapped: Path) -> Peak:
    """Run a command to its end and watch its memory. Raises RuntimeError if it fails."""
    with (scratch / "output.txt").open("w+") as output:
        run = subprocess.Popen(command, env=environment(scratch / "bytecode"), stdout=output, stderr=output)
        most = Peak(0, 0)
        while run.poll() is None:
            most = Peak(max(most.resident, _rss(run.pid, None)), max(most.mapped, _rss(run.pid, mapped)))
            time.sleep(EVERY)
        if run.returncode:
            output.seek(0)
            raise RuntimeError(f"the run ended with exit code {run.returncode}: {output.read()[-500:]}")
    return most


def _rss(process: int, mapped: Path | None) -> int:
    """Resident bytes of a process: all, or the pages of one file. 0 once it is gone."""
    place, found, is_counted = Path(f"/proc/{process}"), 0, False
    try:
        if mapped is None:
            rows = dict(line.split(":", 1) for line in (place / "status").read_text().splitlines())
            return int(rows["VmHWM"].split()[0]) * 1024 if "VmHWM" in rows else 0
        for line in (place / "smaps").read_text().splitlines():
            words = line.split(maxsplit=5)
            if words[0] == "Rss:" and is_counted:
                found += int(words[1]) * 1024
            elif not words[0].endswith(":"):
                is_counted = len(words) == 6 and words[5] == str(mapped)
    except OSError:
        return found
    return found


def check(settings: Settings) -> list[str]:
    """A plan maps a file and shares it between its parts."""
    with tempfile.TemporaryDirectory() as folder:
        data = write_images(Path(folder) / "a", 200, labelled=False)
        fields = {"data": str(data), "batch_size": 16, "monitor": {"images": 16}}
        plan = make_plan(with_fields(default("vicreg", str(data)), fields))
        expected = {data: 200 * 3 * SIDE**2}
        if mapped_files(plan) != expected or plan.train.pixels is not plan.held_out.pixels:
            raise Disagreement(f"memory: {mapped_files(plan)} is mapped, expected {expected} and no copy.")
    return ["memory: 200 images are mapped once, training and held-out images share them"]


def measure(settings: Settings) -> list[Row]:
    """A run of each case; the epochs are short, so that pages are touched but little is trained."""
    check(settings)
    cases = [("digits", 0, False, 1.0)]
    cases += settings.pick(
        [], [("array", 20_000, False, 0.1)], [("labelled array", 20_000, True, 1.0), ("array", 100_000, False, 0.05)]
    )
    cases += settings.pick([], [], [("array", 1_000_000, False, 0.01)])
    return [row for case in cases for row in _rows(settings, *case)]


def _rows(settings: Settings, kind: str, count: int, labelled: bool, share: float) -> list[Row]:
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        data = write_images(scratch / "a", count, labelled=labelled) if count else Path("digits")
        options = ["--epochs", "1", "--batch-size", "256", "--data-fraction", str(share), "--out", str(scratch / "run")]
        command = [sys.executable, "-m", "eigenview", "pretrain", str(data), *SMALL, *options]
        peak = watched(command, scratch, data)
        estimate = runfiles.read_environment(scratch / "run")["estimated_memory_gb"] * 1e9
    case = kind if not count else f"{kind} of {count:,} images of {SIDE} px"
    mapped = count * 3 * SIDE**2 if peak.mapped else 0
    pairs = [("peak without mapped images", estimate, peak.resident - peak.mapped)]
    if mapped:
        pairs.append(("peak with all of them", estimate + mapped, peak.resident))
    goal = Goal(1.2, at_most=True) if settings.scale == "full" else None
    return [
        Row(
            section=SECTION,
            case=case,
            contestant=what,
            quantity="estimate and peak, the larger / the smaller",
            ours=said / 1e9,
            theirs=measured / 1e9,
            unit="GB",
            figure=max(said / measured, measured / said),
            goal=goal if what == pairs[0][0] else Goal(1.3, at_most=True) if goal else None,
            threads=1,
        )
        for what, said, measured in pairs
    ]


MEMORY = Section(check, measure)
