"""How a run starts from the command line: --resume of a new directory, --dry-run, --device, and refused values."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
import torch

from eigenview import runfiles
from eigenview.cli import run
from eigenview.config import RunConfig
from eigenview.engine.plan import own_device
from eigenview.errors import UserError
from eigenview.run import read_config

SMALL = ["--epochs", "1", "--monitor.images", "16", "--probe.few-label-draws", "1", "--probe.images", "100"]


def refused(capsys: pytest.CaptureFixture[str], *args: str) -> str:
    """The one line with which a command stops before anything is done."""
    assert run(list(args)) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1, lines
    return lines[0]


def test_resume_of_a_directory_that_does_not_exist_starts_the_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One command that starts or continues, as a job queue needs it."""
    out = tmp_path / "runs" / "new"
    command = ["pretrain", "--method", "simsiam", *SMALL, "--seed", "3", "--resume", "--out", str(out)]
    assert run(command) == 0
    summary = runfiles.read_json(out / runfiles.SUMMARY)
    assert summary["finished"] is True
    assert (read_config(out).seed, read_config(out).method.card.name) == (3, "simsiam")
    rows = runfiles.read_rows(out / runfiles.METRICS)
    weights = (out / runfiles.ENCODER).read_bytes()
    assert [row["step"] for row in rows] == [1, 10, 11]
    # the same command again continues the run, which has ended: nothing is trained
    assert run(command) == 0
    assert runfiles.read_rows(out / runfiles.METRICS) == rows
    assert (out / runfiles.ENCODER).read_bytes() == weights
    capsys.readouterr()
    # and with other options it is refused, since a run keeps its own
    line = refused(capsys, *command[:-4], "4", *command[-3:])
    assert str(out) in line
    assert "configuration" in line


def test_resume_without_a_directory_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert "--out" in refused(capsys, "pretrain", "--resume")


def test_a_dry_run_prints_the_plan_and_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    generator = torch.get_rng_state()
    args = ["pretrain", "--method", "byol", "--epochs", "3", "--batch-size", "64", "--dry-run"]
    assert run([*args, "--out", "here"]) == 0
    shown = capsys.readouterr().out
    assert os.listdir(tmp_path) == []
    assert torch.equal(torch.get_rng_state(), generator)
    steps = re.search(r"batch 64 = (\d+) steps per epoch, 3 epochs, (\d+) steps", shown)
    assert steps is not None, shown
    assert int(steps[2]) == 3 * int(steps[1]) > 30
    assert re.search(r"^estimate  about \d+(\.\d)? [MG]B of memory", shown, re.MULTILINE), shown
    for part in ("BYOL", "digits", "conv-tiny", "dry run"):
        assert part in shown
    assert "Ctrl-C" not in shown  # nothing runs that could be stopped
    # --out is not needed, and a long run is timed too
    assert run([*args, "--epochs", "30"]) == 0
    assert re.search(r"(second|minute)s? of training", capsys.readouterr().out)
    assert os.listdir(tmp_path) == []


def test_a_dry_run_refuses_what_a_run_would(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = refused(capsys, "pretrain", str(tmp_path / "none"), "--dry-run")
    assert "none" in line
    assert re.search(r"4096.*--batch-size", refused(capsys, "pretrain", "--batch-size", "4096", "--dry-run"))


def test_a_gpu_that_is_not_there_is_refused_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    out = tmp_path / "run"
    for kind in ("cuda", "mps"):
        line = refused(capsys, "pretrain", "--device", kind, "--out", str(out))
        assert re.search(rf"--device is '{kind}'.*\bauto, cpu\b", line)
        assert not out.exists()
    assert own_device("auto", 1) == own_device("cpu", 1) == torch.device("cpu")


def test_the_device_asked_for_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert own_device("auto", 1) == own_device("cuda", 1) == torch.device("cuda", 0)
    assert own_device("cpu", 1) == torch.device("cpu")
    assert own_device("mps", 1) == torch.device("mps")
    with pytest.raises(UserError, match=r"--devices is 2\b.*\b1\b.*mps"):
        own_device("mps", 2)
    assert RunConfig().device == "auto"


@pytest.mark.parametrize("value", ["0", "-1", "nan"])
def test_a_clip_norm_that_clips_everything_is_refused(
    value: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["pretrain", "--optim.clip-norm", value, "--out", str(tmp_path / "run")]) == 2
    assert re.search(rf"clip.norm is {float(value)}\b.*above 0", capsys.readouterr().err)
    assert not (tmp_path / "run").exists()
