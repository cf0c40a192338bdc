"""Growth: what a run does beside its steps, and at its end.

Checkpoints and diagnoses: the share of a run's clock that they take, from a process that times both; the first and last
of each, which no run goes without, are in it. Then the time of one checkpoint and one diagnosis by the projector's
width, and of k-NN by the number of training rows.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from benchmarks.contest import Disagreement, Goal, Row, Section, Settings, seconds
from benchmarks.growth import growth_row
from eigenview.diagnostics.diagnose import diagnose
from eigenview.engine.callbacks import save_checkpoint
from eigenview.probes.knn import knn_predictions

SECTION, CLASSES = "growth-runs", 10
SHARE = Goal(0.02, at_most=True)
"""Of a run's clock, for checkpoints and for diagnoses."""
RUN = """
import json, sys, time
from eigenview.cli import run
from eigenview.engine import callbacks, train
spent = {"checkpoints": 0.0, "diagnoses": 0.0}

def timed(name, work):
    def wrapper(*arguments, **options):
        mark = time.perf_counter()
        try:
            return work(*arguments, **options)
        finally:
            spent[name] += time.perf_counter() - mark
    return wrapper

callbacks.Checkpoints.after_step = timed("checkpoints", callbacks.Checkpoints.after_step)
for name in ("start", "after_step", "end"):
    if name in vars(callbacks.Monitor):
        setattr(callbacks.Monitor, name, timed("diagnoses", getattr(callbacks.Monitor, name)))
train.fit = timed("training", train.fit)
spent["training"] = 0.0
code = run(sys.argv[2:])
open(sys.argv[1], "w").write(json.dumps(spent))
sys.exit(code)
"""


def shares(width: int, epochs: int, scratch: Path) -> dict[str, float]:
    """Seconds of training on the digits, and of what stopped it, in a run whose projector is so wide."""
    found = scratch / "spent.json"
    options = ["--encoder", "conv-tiny", "--batch-size", "128", "--epochs", str(epochs)]
    options += ["--network.projector-hidden", "512", "--network.projector-width", str(width), "--labels", "none"]
    command = [sys.executable, "-c", RUN, str(found), "pretrain", "digits", "--out", str(scratch / "run"), *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"the run ended with exit code {done.returncode}: {done.stderr[-500:]}")
    return json.loads(found.read_text())


def share_rows(settings: Settings) -> Iterator[Row]:
    """The share of checkpoints and diagnoses in a run of about eight minutes."""
    width, epochs = settings.pick((32, 1), (512, 2), (8192, 300))
    with tempfile.TemporaryDirectory() as scratch:
        spent = shares(width, epochs, Path(scratch))
    parts = {name: spent[name] for name in ("checkpoints", "diagnoses")}
    for name, needed in (parts | {"both": sum(parts.values())}).items():
        yield Row(
            section=SECTION,
            case=f"VICReg on the digits, projector {width:,} wide",
            contestant="training",
            quantity=f"{name} / training",
            ours=needed,
            theirs=spent["training"],
            unit="s",
            figure=needed / spent["training"],
            form="%",
            goal=SHARE if settings.scale == "full" and name == "both" else None,
        )


def knn(rows: int, tested: int) -> Callable[[], object]:
    """k-NN predictions for `tested` rows from a bank of `rows`."""
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((rows + tested, 256), dtype=np.float32), rng.integers(0, CLASSES, rows + tested)
    return partial(knn_predictions, x[:rows], y[:rows], x[rows:], y[rows:], k=20, temperature=0.07, num_classes=CLASSES)


def diagnosis(width: int) -> Callable[[], object]:
    """One diagnosis of 512 images with embeddings of this width."""
    generator = torch.Generator().manual_seed(0)
    h, z = (torch.randn(2, 512, side, generator=generator) for side in (128, width))
    return partial(diagnose, h, z, 0, 0.0)


def checkpoint(width: int) -> Callable[[], object]:
    """One checkpoint of a projector of this width, with an optimiser's state."""
    layer = nn.Linear(512, width)
    optimizer = torch.optim.AdamW(layer.parameters(), foreach=False)
    layer(torch.ones(1, 512)).sum().backward()
    optimizer.step()
    module: Any = SimpleNamespace(step=1, steps=2, optimizer=optimizer, state_dict=layer.state_dict)
    position: Any = SimpleNamespace(state_dict=dict)
    folder = tempfile.TemporaryDirectory()

    def work(folder: tempfile.TemporaryDirectory[str] = folder) -> None:
        save_checkpoint(Path(folder.name), module, position, position)

    return work


class Case(NamedTuple):
    """One axis: what is done at each of its sizes, and the order that is stated for its time."""

    title: str
    sizes: Sequence[int]
    work_at: Callable[[int], Callable[[], object]]
    stated: Callable[[float], float]


def _linear(size: float) -> float:
    return size


def cases(settings: Settings) -> list[Case]:
    """The axes."""
    tested = settings.pick(50, 200, 2_000)
    banks = settings.pick((100, 200, 400), (1_000, 2_000, 4_000), (50_000, 100_000, 200_000))
    widths = settings.pick((64, 128, 256), (256, 512, 1024), (2048, 4096, 8192))
    wider = settings.pick((64, 128, 256), (256, 512, 1024), (8192, 16384, 32768))
    return [
        Case(f"k-NN of {tested:,} rows, rows of the bank", banks, partial(knn, tested=tested), _linear),
        # a decomposition takes N^2 D, the products of correlations N D^2
        Case("diagnosis of 512 images, width", widths, diagnosis, lambda d: d * (512 + d)),
        Case("checkpoint, width", wider, checkpoint, _linear),
    ]


def check(settings: Settings) -> list[str]:
    """k-NN finds the classes of copies; a run's parts are timed."""
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((300, 16), dtype=np.float32), rng.integers(0, CLASSES, 300)
    found = knn_predictions(x, y, x[:50], y[:50], k=1, temperature=0.07, num_classes=CLASSES)
    if not (found == y[:50]).all():
        raise Disagreement("k-NN with k = 1 does not find the rows themselves")
    with tempfile.TemporaryDirectory() as scratch:
        spent = shares(32, 1, Path(scratch))
    if not 0 < spent["checkpoints"] + spent["diagnoses"] < spent["training"]:
        raise Disagreement(f"the parts of a run do not add up: {spent}")
    return ["k-NN: the classes of copies", "a run: its checkpoints and diagnoses are parts of its training"]


def measure(settings: Settings) -> Iterator[Row]:
    """Shares of a run, then the exponents of what comes after it."""
    yield from share_rows(settings)
    torch.set_num_threads(settings.threads[-1])
    threads, rounds = settings.threads[-1], settings.pick(1, 2, 4)
    for case in cases(settings):
        works = [case.work_at(size) for size in case.sizes]
        for work in works:
            work()
        turns = [[seconds(work, settings.device) for work in works] for _ in range(rounds)]
        yield growth_row(SECTION, case.title, "time", case.sizes, turns, case.stated, settings, threads=threads)


GROWTH_RUNS = Section(check, lambda settings: list(measure(settings)))
