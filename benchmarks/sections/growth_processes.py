"""Growth: memory for pixels, and bytes in the cache, of a run by its number of processes.

A run on a folder is started with one, two and four processes and looked at after its first step: the pages of the
cache's pixel files that are in memory, each divided by the number of processes that share it (Pss in /proc/PID/smaps).
They are held once if the sum stays the same. Linux only.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.contest import Row, Section, Settings
from benchmarks.growth import growth_row
from benchmarks.sections.growth_sources import write_folder

SECTION = "growth-processes"
PROCESSES = (1, 2, 4)


def family(process: int) -> list[int]:
    """A process and its descendants."""
    found = [process]
    for parent in found:
        for thread in Path(f"/proc/{parent}/task").glob("*/children"):
            found += [int(child) for child in thread.read_text().split()]
    return found


def shared_bytes(process: int, folder: Path) -> float:
    """Bytes of mapped files below `folder` in the memory of one process, shared pages divided."""
    total, is_ours = 0.0, False
    for line in Path(f"/proc/{process}/smaps").read_text().splitlines():
        name = line.split(None, 5)
        if "-" in name[0] and not name[0].endswith(":"):
            is_ours = len(name) == 6 and name[5].startswith(str(folder))
        elif is_ours and name[0] == "Pss:":
            total += 1024 * float(name[1])
    return total


def look(source: Path, processes: int, scratch: Path) -> tuple[float, float]:
    """Bytes of pixels in the memory of a run, and bytes in its cache, after its first step."""
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        out, cache = Path(folder) / "run", Path(folder) / "cache"
        options = ["--encoder", "conv-tiny", "--batch-size", "64", "--network.projector-hidden", "32"]
        options += ["--network.projector-width", "32", "--epochs", "1000", "--monitor.log-every-steps", "1"]
        command = [sys.executable, "-m", "eigenview", "pretrain", str(source), "--out", str(out), *options]
        command += ["--devices", str(processes)] if processes > 1 else []
        environment = {**os.environ, "EIGENVIEW_CACHE": str(cache), "OMP_NUM_THREADS": "1"}
        run = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        try:
            while not ((rows := out / "metrics.jsonl").exists() and rows.stat().st_size):
                if run.poll() is not None:
                    assert run.stderr is not None
                    raise RuntimeError(f"the run ended before its first step: {run.stderr.read()[-500:]}")
                time.sleep(0.05)
            held = sum(shared_bytes(each, cache) for each in family(run.pid))
            return held, float(sum(path.stat().st_size for path in cache.rglob("*") if path.is_file()))
        finally:
            run.terminate()
            run.wait()


def check(settings: Settings) -> list[str]:
    """A run maps its pixels."""
    with tempfile.TemporaryDirectory() as scratch:
        held, kept = look(write_folder(Path(scratch), 200), 1, Path(scratch))
    if not 0 < held <= kept:
        raise RuntimeError(f"{held:g} bytes of pixels in memory, {kept:g} in the cache")
    return ["processes: pixels of a run are mapped from its cache"]


def measure(settings: Settings) -> Iterator[Row]:
    """Both exponents."""
    images = settings.pick(100, 2_000, 50_000)
    with tempfile.TemporaryDirectory() as scratch:
        source = write_folder(Path(scratch), images)
        found = [look(source, processes, Path(scratch)) for processes in PROCESSES]
    case = f"processes of a run on {images:,} images"
    for name, values in zip(("pixels in memory", "cache on disk"), zip(*found, strict=True), strict=True):
        megabytes = [value / 1e6 for value in values]
        yield growth_row(SECTION, case, name, PROCESSES, [megabytes], lambda n: 1.0, settings, unit="MB")


GROWTH_PROCESSES = Section(check, lambda settings: list(measure(settings)))
