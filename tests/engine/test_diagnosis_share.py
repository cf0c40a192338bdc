"""Which diagnoses are made: all of a short run, and of a long one as many as take at most their share of the time."""

from __future__ import annotations

import itertools
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from eigenview import runfiles
from eigenview.cli import run
from eigenview.engine import callbacks
from eigenview.engine.callbacks import Checkpoints, Monitor
from tests.engine.test_train import SMALL

STEPS = 2000
CLOCK: Any = SimpleNamespace(pause=lambda: None, proceed=lambda: None)


def diagnosed(
    monkeypatch: pytest.MonkeyPatch, *, cost: float, share: float = 0.02, stop: bool = False, first: int = 0
) -> list[int]:
    """The steps that are diagnosed, of those due each 10, when a step takes a second and a diagnosis `cost`."""
    now, steps = [500.0], []
    monkeypatch.setattr(time, "monotonic", lambda: now[0])

    class Timed(Monitor):
        def _write_rows(self, module: Any, step: int) -> None:
            now[0] += cost
            steps.append(step)

    module: Any = SimpleNamespace(
        step=first, steps=STEPS, raise_non_finite=lambda: None, device=torch.device("cpu"), make_views=lambda *_: ()
    )
    module.config = SimpleNamespace(seed=0, views=2)
    monitor = Timed(Path(), torch.zeros(1), 10, CLOCK, stop, share)
    monitor.start(module)
    for step in range(first + 1, STEPS + 1):
        now[0] += 1.0
        module.step = step
        monitor.after_step(module)
    assert monitor.left_out == len([*range(first + 10, STEPS + 1, 10)]) - len([step for step in steps if step > 0])
    return steps


def test_all_are_made_while_they_take_little(monkeypatch: pytest.MonkeyPatch) -> None:
    due = [*range(0, STEPS + 1, 10)]
    assert diagnosed(monkeypatch, cost=0.07, share=1e-9) == due, "14 seconds all together"
    assert diagnosed(monkeypatch, cost=0.6, share=0.2) == due, "less than a fifth of the time of ten steps"
    assert diagnosed(monkeypatch, cost=30.0, share=1.0) == due
    assert diagnosed(monkeypatch, cost=30.0, stop=True) == due, "when the run ends must not depend on the machine"


def test_half_a_second_is_no_little_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """One after each epoch of a second and a half, as at a width of 8,192: all of them took 28 % of the time."""
    steps = diagnosed(monkeypatch, cost=0.49, share=0.01)
    assert 0.49 * len(steps) <= 0.01 * (STEPS + 0.49 * len(steps))


@pytest.mark.parametrize("first", [0, 1000])
def test_costly_ones_take_at_most_their_share(monkeypatch: pytest.MonkeyPatch, first: int) -> None:
    """Of 2,000 seconds 40: eight diagnoses of 5 seconds, spread over the run; the share is that of a session."""
    steps = diagnosed(monkeypatch, cost=5.0, first=first)
    assert 5.0 * len(steps) <= 0.02 * (STEPS - first + 5.0 * len(steps))
    assert len(steps) >= 0.02 * (STEPS - first) / 5.0 - 2
    assert steps[-1] == STEPS
    assert max(b - a for a, b in itertools.pairwise(steps)) <= 760
    assert diagnosed(monkeypatch, cost=500.0) == [0, STEPS], "the first and the last are always made"


def test_the_first_checkpoint_waits_for_its_share_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """200 MB of weights, and as much of the optimiser, take about 2 seconds: after 250 seconds, not after 5."""
    now, saved = [0.0], []
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    monkeypatch.setattr(callbacks, "save_checkpoint", lambda directory, module, log, batches: saved.append(module.step))
    weights = torch.empty(50_000_000, device="meta")
    module: Any = SimpleNamespace(step=0, steps=500, steps_per_epoch=3, state_dict=lambda: {"weights": weights})
    module.device, module.raise_non_finite = torch.device("cpu"), lambda: None
    any_log: Any = None
    saver = Checkpoints(tmp_path, 2.0, 10, any_log, any_log)
    saver.start(module)
    for step in range(1, 260):
        now[0] += 1.0
        module.step = step
        saver.after_step(module)
    saver.end()
    assert saved[0] == 250
    assert saved[1:] == [256], "this one took no time"


@pytest.mark.slow
def test_the_weights_do_not_depend_on_which_are_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(callbacks, "FREE_SECONDS", 0.0)
    args = ["pretrain", *SMALL, "--epochs", "3", "--encoder", "conv-tiny", "--monitor.log-every-steps", "1"]
    found = {}
    for name, share in (("all", "1"), ("few", "1e-9")):
        out = tmp_path / name
        assert run([*args, "--monitor.diagnosis-share", share, "--out", str(out)]) == 0
        losses = [row["loss"] for row in runfiles.read_metrics(out)]
        weights = (out / runfiles.ENCODER).read_bytes()
        steps = [row["step"] for row in runfiles.read_diagnostics(out)]
        assert runfiles.read_spectra(out)["step"].tolist() == steps
        found[name] = losses, weights, steps
    assert found["all"][:2] == found["few"][:2]
    each = found["all"][2][1]
    assert found["all"][2] == [0, each, 2 * each, 3 * each]
    assert found["few"][2] == [0, 3 * each]
    assert capfd.readouterr().out.count("not all that are due are made") == 1
