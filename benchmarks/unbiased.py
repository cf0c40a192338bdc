"""What the unbiased VICReg costs: value and gradient beside VICReg's, both fused.

    python -m benchmarks.unbiased [--rounds 21] [--device cpu] [--threads 1 2]

One process; both take turns, and a round gives a ratio of times. Required: a median of at most 1.15 at (256, 2048) and
at (2048, 8192).
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time

import torch
from rich.console import Console
from rich.table import Table

import eigenview
from eigenview.engine.environment import source_commit
from eigenview.objectives.base import Objective, total
from eigenview.objectives.unbiased_vicreg import UnbiasedVICReg
from eigenview.objectives.vicreg import VICReg
from eigenview.views import Views

SHAPES = ((256, 2048), (2048, 8192))
REQUIRED = 1.15


def seconds(objective: Objective, z: torch.Tensor) -> float:
    """Of the loss and its gradient."""
    x = z.clone().requires_grad_()
    if z.device.type == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    total(objective(Views(z=x))).backward()
    if z.device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def main() -> int:
    """Measure, print a table and one line of JSON; exit code 1 where a median is above what is required."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, nargs="*", default=[torch.get_num_threads()])
    given = parser.parse_args()
    table = Table("N, D", "threads", "VICReg, ms", "unbiased, ms", f"ratio (at most {REQUIRED})")
    rows, ok = [], True
    for threads in given.threads:
        torch.set_num_threads(threads)
        for samples, width in SHAPES:
            z = torch.randn(2, samples, width, device=given.device)
            contestants = (VICReg(), UnbiasedVICReg())
            for objective in contestants:
                seconds(objective, z)
            rounds = max(5, given.rounds // (1 + samples // 512))
            times = [tuple(seconds(objective, z) for objective in contestants) for _ in range(rounds)]
            ratio = statistics.median(b / a for a, b in times)
            ms = [1e3 * statistics.median(each[k] for each in times) for k in (0, 1)]
            ok &= ratio <= REQUIRED
            table.add_row(f"{samples}, {width}", str(threads), f"{ms[0]:.1f}", f"{ms[1]:.1f}", f"{ratio:.2f}")
            rows.append({"samples": samples, "width": width, "threads": threads, "ratio": round(ratio, 3), "ms": ms})
    Console().print(table)
    line = {"benchmark": "unbiased", "device": given.device, "results": rows, "torch": torch.__version__}
    print(json.dumps({**line, "eigenview": eigenview.__version__, "commit": source_commit()}))
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
