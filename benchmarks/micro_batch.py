"""What --micro-batch costs and saves: time of a step, and memory above what the process held before it.

    python -m benchmarks.micro_batch [--batch 512] [--part 64] [--rounds 7] [--encoder conv-small]

Time: one process, both ways in turn, medians. Memory: a process of its own for each way, the highest resident size of
three steps less the resident size before them, on a CPU; torch's own counter on a GPU. Required: at most 1.4 times the
time at half the memory or less. Images are noise: no time depends on what they show.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

import eigenview
from eigenview.engine.environment import source_commit
from eigenview.engine.module import PretrainModule
from eigenview.engine.plan import make_plan
from eigenview.engine.precision import choose_precision
from eigenview.engine.train import build_module
from eigenview.recipes import load_recipe
from eigenview.run import with_fields

SIDE = 32


class Contestant:
    """A module with its optimiser, stepped without Lightning."""

    def __init__(self, images: Path, given: argparse.Namespace, part: int | None) -> None:
        fields = {"data": str(images), "size": SIDE, "encoder": given.encoder, "batch_size": given.batch}
        fields |= {"micro_batch": part, "monitor": {"images": 8}}
        self.device = torch.device(given.device)
        plan = make_plan(with_fields(load_recipe("small-vicreg"), fields))
        self.module: PretrainModule = build_module(plan).to(self.device)
        self.optimizer = self.module.configure_optimizers()
        self.bf16 = "bf16" in choose_precision("auto", self.device)[0]
        self.index = torch.arange(given.batch, device=self.device)

    def step(self) -> float:
        """Seconds of a step."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        start = time.perf_counter()
        self.optimizer.zero_grad()
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.bf16):
            loss = self.module.training_step({"index": self.index}, 0)
        loss.backward()
        self.optimizer.step()
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - start


def memory(images: Path, given: argparse.Namespace, part: int | None) -> float:
    """Megabytes that three steps need above what was held before the first."""
    contestant = Contestant(images, given, part)
    if contestant.device.type == "cuda":
        before = torch.cuda.memory_allocated()
        for _ in range(3):
            contestant.step()
        return (torch.cuda.max_memory_allocated() - before) / 2**20
    before = int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    for _ in range(3):
        contestant.step()
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before) / 2**20


def main() -> int:
    """Measure, print a table and one line of JSON; exit code 1 where a limit is missed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--batch", type=int, default=512)
    parser.add_argument("--part", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--encoder", default="conv-small")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--images", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--memory-of", help=argparse.SUPPRESS)
    given = parser.parse_args()
    ways: dict[str, int | None] = {"whole": None, "micro-batch": given.part}
    if given.memory_of:
        print(memory(given.images, given, ways[given.memory_of]))
        return 0
    with tempfile.TemporaryDirectory() as folder:
        images = Path(folder) / "noise.npy"
        np.save(images, np.random.default_rng(0).integers(0, 256, (2 * given.batch, SIDE, SIDE, 3), dtype=np.uint8))
        needed = {way: float(_ask(way, images)) for way in ways}
        made = {way: Contestant(images, given, part) for way, part in ways.items()}
        for contestant in made.values():
            contestant.step()
        times = {way: [] for way in ways}
        for _ in range(given.rounds):
            for way, contestant in made.items():
                times[way].append(contestant.step())
    ratio = statistics.median(b / a for a, b in zip(times["whole"], times["micro-batch"], strict=True))
    share = needed["micro-batch"] / needed["whole"]
    table = Table("", "step, ms", "memory of a step, MB", title=f"{given.encoder}, {given.batch} x 2 at {SIDE} px")
    for way, each in times.items():
        table.add_row(way, f"{1e3 * statistics.median(each):.0f}", f"{needed[way]:.0f}")
    table.add_row("ratio (at most 1.4, 0.5)", f"{ratio:.2f}", f"{share:.2f}")
    Console().print(table)
    line = {"benchmark": "micro_batch", "time_ratio": round(ratio, 3), "memory_ratio": round(share, 3)}
    line |= {name: value for name, value in vars(given).items() if name not in ("images", "memory_of")}
    line |= {"threads": torch.get_num_threads(), "torch": torch.__version__, "eigenview": eigenview.__version__}
    print(json.dumps({**line, "commit": source_commit()}))
    return 0 if ratio <= 1.4 and share <= 0.5 else 1


def _ask(way: str, images: Path) -> str:
    command = [sys.executable, "-m", "benchmarks.micro_batch", *sys.argv[1:], "--images", str(images)]
    return subprocess.run([*command, "--memory-of", way], check=True, capture_output=True, text=True).stdout.split()[-1]


if __name__ == "__main__":
    sys.exit(main())
