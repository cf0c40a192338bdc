"""Time left and images a second on a replaced clock; what Ctrl-C after the training prints and what it keeps."""

from __future__ import annotations

import io
import os
import re
import signal
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import eigenview as ev
from eigenview import runfiles
from eigenview.cli import run
from eigenview.engine import finalize
from eigenview.engine.callbacks import Checkpoints
from eigenview.engine.module import PretrainModule
from eigenview.engine.progress import Progress
from eigenview.errors import Interrupted
from eigenview.terminal import Console
from tests.engine.test_train import SMALL


def lines(monkeypatch: pytest.MonkeyPatch, *, step: int, seconds: float, terminal: bool) -> list[tuple[int, str]]:
    """(step, line) of a run of 100 steps of 32 images from `step` on; the first step takes five times as long."""
    now, out = [1000.0], io.StringIO()
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    config = SimpleNamespace(epochs=10, batch_size=32)
    module: Any = SimpleNamespace(step=step, steps=100, steps_per_epoch=10, terms={"mse": 0.5}, config=config)
    monitor: Any = SimpleNamespace(history=[], verdict=None, left_out=0, seconds=0.0, share=0.02)
    progress = Progress(Console(file=out, force_terminal=terminal, width=200, color_system=None), monitor)
    progress.start(module)
    found: list[tuple[int, str]] = []
    for done in range(step + 1, 101):
        now[0] += seconds * (5 if done == step + 1 else 1)
        module.step = done
        before = out.tell()
        progress.after_step(module)
        if terminal:
            assert progress._bar is not None
            found.append((done, str(progress._bar._bar.tasks[0].fields["after"])))
        elif out.tell() > before:
            found.append((done, out.getvalue()[before:]))
    progress.end()
    return found


def seconds_of(text: str) -> float:
    units = {"h": 3600, "min": 60, "s": 1}
    return sum(float(number) * units[unit] for number, unit in re.findall(r"([\d.]+) (h|min|s)\b", text))


@pytest.mark.parametrize("terminal", [True, False])
@pytest.mark.parametrize("step", [0, 7, 60])
@pytest.mark.parametrize("seconds", [0.5, 3.0, 40.0])
def test_time_left_and_rate_are_right_from_the_first_seconds(
    monkeypatch: pytest.MonkeyPatch, seconds: float, step: int, *, terminal: bool
) -> None:
    shown = lines(monkeypatch, step=step, seconds=seconds, terminal=terminal)
    for done, line in shown[:-1]:
        if done > step + 1:
            rate, left = re.findall(r"([\d,]+) images/s  (.*) left", line)[0]
            assert float(rate) == round(32 / seconds)
            assert seconds_of(left) == pytest.approx((100 - done) * seconds, rel=0.01, abs=0.5)
    assert shown[0][0] <= step + 4
    assert shown[-1][0] == 100
    if not terminal:
        assert len(shown) <= (100 - step) * seconds / 10 + 3


def test_ctrl_c_during_the_probes_keeps_the_training_and_names_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*args: Any) -> None:
        raise KeyboardInterrupt

    out = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(finalize, "run_probes", interrupted)
        assert run(["pretrain", "--epochs", "1", *SMALL, "--probe.images", "60", "--out", str(out)]) == 130
    printed = capsys.readouterr()
    assert "training is complete, and its last checkpoint is saved" in printed.out
    assert f"continue with: eigenview pretrain --out {out} --resume" in printed.out
    assert run(["pretrain", "--out", str(out), "--resume"]) == 0
    assert runfiles.read_json(out / runfiles.SUMMARY)["knn"] is not None


def test_ctrl_c_in_the_last_step_stops_before_the_probes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It was said that the run stops after this step, so that it must not go on for minutes."""
    before = Checkpoints.after_step

    def asked(self: Checkpoints, module: PretrainModule) -> None:
        if module.step == module.steps:
            os.kill(os.getpid(), signal.SIGTERM)
        before(self, module)

    out = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(Checkpoints, "after_step", asked)
        assert run(["pretrain", "--epochs", "1", *SMALL, "--probe.images", "60", "--out", str(out)]) == 130
    assert "training is complete, and its last checkpoint is saved" in capsys.readouterr().out
    assert not (out / runfiles.SUMMARY).exists()
    assert run(["pretrain", "--out", str(out), "--resume"]) == 0
    assert runfiles.read_json(out / runfiles.SUMMARY)["knn"] is not None
    assert [row["step"] for row in runfiles.read_rows(out / runfiles.DIAGNOSTICS)][-1] == 11


@pytest.mark.parametrize("error", [Interrupted(12), KeyboardInterrupt()])
def test_interrupting_a_call_in_python_shows_no_internals(
    error: BaseException, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def start(*args: Any, **options: Any) -> None:
        raise error

    monkeypatch.setattr("eigenview.run.start", start)
    with pytest.raises(
        KeyboardInterrupt, match=r"stopped.*continue with: ev\.pretrain\(out='.*run', resume=True\)"
    ) as it:
        ev.pretrain(out=tmp_path / "run")
    assert it.value.__suppress_context__
    assert [entry.name for entry in it.traceback][1:] == ["pretrain"]
