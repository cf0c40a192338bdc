"""The log's clock, and the list of files that were skipped."""

from __future__ import annotations

import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from eigenview import runfiles
from eigenview.cli import run
from eigenview.data.images import Skipped
from eigenview.distributed import gather_lists, rank
from eigenview.engine.callbacks import MetricsWriter
from eigenview.engine.train import note_environment, note_skipped
from eigenview.records import Clock
from tests.engine.test_train import SMALL
from tests.process_pool import ProcessPool


class Module:
    """What the log looks at."""

    steps_per_epoch = 11
    steps = 44
    method = SimpleNamespace(log_values=lambda clock: {"target_momentum": 0.5})

    def __init__(self) -> None:
        self.step = 0
        self.notes = {"entropy": torch.tensor(2.0)}

    def raise_non_finite(self) -> None: ...

    def logged_terms(self) -> dict[str, float]:
        return {"attraction": 1.5, "repulsion": -0.5}

    def learning_rate_at(self, step: int) -> float:
        return 0.1

    def clock(self, step: int) -> Clock:
        return Clock(step=step)


def test_the_rate_counts_the_steps_and_seconds_since_the_last_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A step takes a second and a diagnosis after each 11 takes 100, which are not training."""
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    log, module = MetricsWriter(tmp_path, 10, 32), Module()
    given: Any = module
    log.start(given)
    for step in range(1, 45):
        now[0] += 1.0
        module.step = step
        log.after_step(given)
        if step % 11 == 0:
            log.pause()
            now[0] += 100.0
            log.proceed()
    rows = runfiles.read_rows(tmp_path / runfiles.METRICS)
    assert [row["step"] for row in rows] == [1, 10, 20, 30, 40, 44]
    assert [row["images_per_second"] for row in rows] == [32.0] * 6
    assert rows[-1]["seconds"] == 44.0
    assert rows[-1]["terms"] == {"attraction": 1.5, "repulsion": -0.5}
    assert rows[-1]["loss"] == 1.0
    assert (rows[-1]["target_momentum"], rows[-1]["entropy"]) == (0.5, 2.0)


def test_a_skipped_file_is_listed_once_and_stays_listed(tmp_path: Path) -> None:
    note_skipped(tmp_path, ())
    assert not (tmp_path / runfiles.SKIPPED).exists()
    note_skipped(tmp_path, (Skipped("a, b.png", "empty file"), Skipped("c.png", "cut")))
    note_skipped(tmp_path, ())
    note_skipped(tmp_path, (Skipped("d.png", 'a "reason"'), Skipped("c.png", "gone")))
    assert runfiles.read_table(tmp_path / runfiles.SKIPPED) == {
        "a, b.png": "empty file",
        "c.png": "cut",
        "d.png": 'a "reason"',
    }


def test_a_resumed_run_keeps_how_it_began(tmp_path: Path) -> None:
    began = dict.fromkeys(("eigenview", "torch", "device", "commit", "started", "platform"), "first")
    note_environment(tmp_path, began, 0)
    for step in (10, 20):
        note_environment(tmp_path, dict.fromkeys(began, f"from {step}"), step)
    found = runfiles.read_json(tmp_path / runfiles.ENVIRONMENT)
    resumed = found.pop("resumed")
    assert found == began
    assert [(each["step"], each["commit"]) for each in resumed] == [(10, "from 10"), (20, "from 20")]


@pytest.mark.filterwarnings("ignore:.*broke and (was|were) replaced")  # in the held-out batch and the gallery
def test_a_file_that_breaks_in_training_is_listed_once_for_all_epochs(tmp_path: Path) -> None:
    photos, out = tmp_path / "photos", tmp_path / "run"
    photos.mkdir()
    for k, pixels in enumerate(np.random.default_rng(0).integers(0, 256, (90, 16, 16, 3), dtype=np.uint8)):
        Image.fromarray(pixels).save(photos / f"{k:02}.png")
    broken = [*range(9), *range(12, 90, 9)]  # the first nine are all that a gallery would show
    for k in broken:  # their headers are sound
        content = (photos / f"{k:02}.png").read_bytes()
        (photos / f"{k:02}.png").write_bytes(content[: len(content) // 2])
    options = ["--loader.cache-gb", "0", "--loader.workers", "0", "--batch-size", "16", "--epochs", "3"]
    assert run(["pretrain", str(photos), *SMALL, *options, "--out", str(out)]) == 0
    listed = [Path(path).name for path in runfiles.read_table(out / runfiles.SKIPPED)]
    assert len(listed) == len(set(listed)) > 4
    assert set(listed) <= {f"{k:02}.png" for k in broken}


def lists_of_all() -> list[int]:
    return gather_lists([rank()] * (rank() + 1))


@pytest.mark.ddp
def test_lists_of_all_processes_are_joined(processes: ProcessPool) -> None:
    assert processes.run(2, lists_of_all) == [[0, 1, 1]] * 2
    assert gather_lists([5]) == [5]
