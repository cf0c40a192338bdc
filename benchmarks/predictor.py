"""What a closed-form predictor costs: its update next to a whole training step of the small net.

    python -m benchmarks.predictor [--width 512] [--rounds 15] [--device cpu] [--json FILE]

One process. Each round times a whole step of each contestant in turn (views, network, target, objective, backward,
optimiser, update), and the update alone inside it; a contestant's share is the median over rounds of update / step.
DirectPred every 5 steps runs five steps a round and adds its five updates, of which one decomposes F.
Required: DirectCopy at most 2 % of the step, DirectPred every 5 steps at most 12 %, at width 512. Images are noise: no
time depends on what they show.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

import eigenview
from eigenview.engine.environment import source_commit
from eigenview.engine.plan import make_plan
from eigenview.engine.precision import choose_precision
from eigenview.engine.train import build_module
from eigenview.recipes import load_recipe
from eigenview.run import with_fields

BATCH, SIDE = 128, 32
CONTESTANTS: dict[str, tuple[str, dict[str, Any], int, float | None]] = {
    "DirectCopy": ("directcopy", {}, 1, 0.02),
    "DirectPred every 5": ("directpred", {"refresh_every": 5}, 5, 0.12),
    "DirectPred": ("directpred", {}, 1, None),
}


class Contestant:
    """A module with its optimiser, stepped without Lightning."""

    def __init__(self, method: str, objective: dict[str, Any], width: int, images: Path, device: torch.device) -> None:
        fields = {"data": str(images), "network": {"projector_width": width}, "objective": objective, "size": SIDE}
        fields["monitor"] = {"images": 8}
        self.module = build_module(make_plan(with_fields(load_recipe(f"small-{method}"), fields))).to(device)
        self.optimizer = self.module.configure_optimizers()
        self.bf16 = "bf16" in choose_precision("auto", device)[0]
        self.device = device
        self.at = 0

    def clock(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()

    def step(self) -> tuple[float, float]:
        """Seconds of a step, and of the update in it."""
        index = torch.arange(BATCH, device=self.device)
        start = self.clock()
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.bf16):
            loss = self.module.training_step({"index": index, "images": None}, 0)  # type: ignore[dict-item]
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        record = self.module._records.pop()
        before = self.clock()
        self.module.update_objective(record, self.at)
        after = self.clock()
        assert self.module.target is not None
        self.module.target.update(self.module.network.encoder, self.module.network.projector, 0.99)
        self.at += 1
        return self.clock() - start, after - before


def main() -> int:
    """Measure, print a table and one line of JSON; exit code 1 where a share is above what is required."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    device = torch.device(given.device)
    shares: dict[str, list[float]] = {name: [] for name in CONTESTANTS}
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in CONTESTANTS}
    with tempfile.TemporaryDirectory() as folder:
        images = Path(folder) / "noise.npy"
        np.save(images, np.random.default_rng(0).integers(0, 256, (512, SIDE, SIDE, 3), dtype=np.uint8))
        made = {n: Contestant(m, o, given.width, images, device) for n, (m, o, _, _) in CONTESTANTS.items()}
        for contestant in made.values():  # warm up, and to the beat of the refreshes
            for _ in range(5):
                contestant.step()
        for _ in range(given.rounds):
            for name, contestant in made.items():
                turns = [contestant.step() for _ in range(CONTESTANTS[name][2])]
                step, update = (sum(each[k] for each in turns) / len(turns) for k in (0, 1))
                shares[name].append(update / step)
                times[name].append((step, update))
    table = Table("", "step, ms", "update, ms", "share", "required", title=f"width {given.width}, {given.device}")
    ok, rows = True, {}
    for name, values in shares.items():
        share, limit = statistics.median(values), CONTESTANTS[name][3]
        step, update = (statistics.median(each[k] for each in times[name]) for k in (0, 1))
        ok &= limit is None or share <= limit
        rows[name] = {"share": round(share, 4), "step_ms": round(1e3 * step, 2), "update_ms": round(1e3 * update, 3)}
        required = "" if limit is None else f"{limit:.0%}"
        table.add_row(name, f"{1e3 * step:.1f}", f"{1e3 * update:.2f}", f"{share:.1%}", required)
    Console().print(table)
    line = {
        "benchmark": "predictor",
        "width": given.width,
        "device": torch.cuda.get_device_name(0) if device.type == "cuda" else "cpu",
        "threads": torch.get_num_threads(),
        "rounds": given.rounds,
        "results": rows,
        "torch": torch.__version__,
        "eigenview": eigenview.__version__,
        "commit": source_commit(),
    }
    print(json.dumps(line))
    if given.json:
        given.json.write_text(json.dumps(line, indent=2) + "\n")
    return 0 if ok or given.width != 512 else 1


if __name__ == "__main__":
    sys.exit(main())
