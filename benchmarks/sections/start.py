"""How long a command takes before its work begins, in times of `import torch`, which it cannot do without.

`pretrain`: from the start of the process to the first row of metrics.jsonl, one step on the digits. `method help`:
`pretrain --method NAME --help`, which must not import torch. `import torch`, then each command, in turns, each in a
fresh process of one thread. Bytecode is written to a folder that the first, untimed round fills (this environment may
forbid writing it beside the sources, which makes every start compile all of them). Before timing: the run writes its
first row, and the help names the method's options.
"""

from __future__ import annotations

import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

from benchmarks.contest import Goal, Row, Section, Settings, median_ratio

SECTION = "start"
TORCH, RUN, HELP = "import torch", "pretrain to its first step", "pretrain --method byol --help"
PARTS = 6
"""Packages whose share of the imports is shown."""


def environment(bytecode: Path) -> dict[str, str]:
    """One thread, and bytecode below `bytecode`."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return kept | {"OMP_NUM_THREADS": "1", "PYTHONPYCACHEPREFIX": str(bytecode)}


def import_torch(scratch: Path) -> float:
    """Seconds of a process that imports torch and ends."""
    begin = time.perf_counter()
    subprocess.run([sys.executable, "-c", "import torch"], env=environment(scratch / "bytecode"), check=True)
    return time.perf_counter() - begin


def method_help(scratch: Path) -> float:
    """Seconds of the help of a method; it has to name the method's options."""
    command = [sys.executable, "-m", "eigenview", *HELP.split()]
    begin = time.perf_counter()
    done = subprocess.run(command, env=environment(scratch / "bytecode"), check=True, capture_output=True, text=True)
    took = time.perf_counter() - begin
    if "stop-gradient" not in done.stdout:
        raise RuntimeError("the help of byol does not show its option stop-gradient")
    return took


def first_step(scratch: Path, *flags: str, errors: int = subprocess.DEVNULL) -> float:
    """Seconds from the start of a run to the first row of its metrics; the run is then ended."""
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        out = Path(folder) / "run"
        options = ["--epochs", "1", "--monitor.log-every-steps", "1", "--out", str(out)]
        command = [sys.executable, *flags, "-m", "eigenview", "pretrain", *options]
        begin = time.perf_counter()
        run = subprocess.Popen(command, env=environment(scratch / "bytecode"), stdout=subprocess.DEVNULL, stderr=errors)
        try:
            while not ((rows := out / "metrics.jsonl").exists() and rows.stat().st_size):
                if run.poll() is not None:
                    raise RuntimeError(f"the run ended with exit code {run.returncode} before its first step")
                time.sleep(0.005)
            return time.perf_counter() - begin
        finally:
            run.kill()
            run.wait()


def import_seconds(scratch: Path) -> dict[str, float]:
    """Seconds that a run spends on importing each package before its first step, without what that imports in turn."""
    with (scratch / "imports.txt").open("w+") as errors:
        first_step(scratch, "-X", "importtime", errors=errors.fileno())
        errors.seek(0)
        found: dict[str, float] = defaultdict(float)
        for microseconds, package in re.findall(r"import time:\s+(\d+) \|\s+\d+ \|\s+([^\s.]+)", errors.read()):
            found[package] += int(microseconds) * 1e-6
    return found


def check(settings: Settings) -> list[str]:
    """Both commands do what is timed."""
    with tempfile.TemporaryDirectory() as folder:
        first_step(Path(folder))
        method_help(Path(folder))
    return [f"{RUN}: a row; {HELP}: its options"]


def measure(settings: Settings) -> list[Row]:
    """Turns of all three, then one run whose imports are counted."""
    ways = {TORCH: import_torch, RUN: first_step, HELP: method_help}
    times: dict[str, list[float]] = {name: [] for name in ways}
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        for work in ways.values():
            work(scratch)  # writes the bytecode
        for _ in range(settings.pick(1, 2, 7)):
            for name, work in ways.items():
                times[name].append(work(scratch))
        parts = import_seconds(scratch)
    goals = {RUN: Goal(2.2, at_most=True), HELP: Goal(0.6, at_most=True)}
    rows = [
        Row(
            section=SECTION,
            case=name,
            contestant=TORCH,
            quantity="time / theirs",
            ours=statistics.median(times[name]),
            theirs=statistics.median(times[TORCH]),
            unit="s",
            figure=median_ratio(times[name], times[TORCH]),
            goal=goal if settings.scale == "full" else None,
            threads=1,
        )
        for name, goal in goals.items()
    ]
    whole = sum(parts.values())
    shares = [
        Row(
            section=SECTION,
            case="imports of a run, by package",
            contestant=package,
            quantity="its imports / all imports",
            ours=seconds,
            theirs=whole,
            unit="s",
            figure=seconds / whole,
            form="%",
            threads=1,
        )
        for package, seconds in sorted(parts.items(), key=lambda part: -part[1])[:PARTS]
    ]
    return [*rows, *shares]


START = Section(check, measure)
