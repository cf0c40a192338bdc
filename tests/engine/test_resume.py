"""A killed run, resumed, ends in the same bits as one that was never interrupted."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from eigenview import runfiles
from eigenview.cli import run

# DirectPred every third step has everything that can be lost: optimiser, schedule, target network, augmentation, sample
# order, and an objective with a running moment, a matrix trained in between and a count of steps.
COMMON = ["--batch-size", "128", "--monitor.log-every-steps", "1", "--monitor.images", "64"]
# a checkpoint every few steps, so that a kill between two of them loses steps that must be done again alike
COMMON += ["--monitor.checkpoint-minutes", "0.001", "--network.projector-hidden", "64", "--probe.few-label-draws", "1"]
FIELDS = ["--method", "directpred", "--objective.refresh-every", "3", "--epochs", "3", *COMMON]
# a running estimate that moves twice in a step, after the optimiser
DUAL = ["--method", "unbiased-vicreg", "--objective.hinge", "dual", "--accumulate", "2", "--epochs", "2", *COMMON]


def command(out: Path, *options: str) -> list[str]:
    return [sys.executable, "-m", "eigenview", "pretrain", *options, "--out", str(out)]


def environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("whole") / "run"
    subprocess.run(command(out, *FIELDS), check=True, env=environment(), capture_output=True, timeout=240)
    return out


def stop_at(out: Path, step: int, number: int, fields: list[str] = FIELDS) -> int:
    """Start the run and send it signal `number` once metrics.jsonl shows `step`; the exit code."""
    process = subprocess.Popen(
        command(out, *fields), env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 200
    while len(runfiles.read_rows(out / runfiles.METRICS)) < step:
        assert time.monotonic() < deadline, "the run never got to the step at which it is to be killed"
        assert process.poll() is None, "the run ended before it could be killed"
        time.sleep(0.005)
    process.send_signal(number)
    return process.wait(timeout=60)


def weights(out: Path) -> dict[str, torch.Tensor]:
    return torch.load(out / runfiles.CHECKPOINT, weights_only=True)["state_dict"]


def assert_same_run(whole: Path, resumed: Path) -> None:
    ours, theirs = weights(resumed), weights(whole)
    assert ours.keys() == theirs.keys()
    for name, value in theirs.items():
        assert torch.equal(ours[name], value), name
    rows = [runfiles.read_rows(run / runfiles.METRICS) for run in (whole, resumed)]
    assert [(r["step"], r["terms"], r["lr"]) for r in rows[0]] == [(r["step"], r["terms"], r["lr"]) for r in rows[1]]
    diagnoses = [runfiles.read_rows(run / runfiles.DIAGNOSTICS) for run in (whole, resumed)]
    assert diagnoses[0] == diagnoses[1]
    spectra = [runfiles.read_arrays(run / runfiles.SPECTRA) for run in (whole, resumed)]
    for name, value in spectra[0].items():
        np.testing.assert_array_equal(spectra[1][name], value)
    first, second = (runfiles.read_json(run / runfiles.SUMMARY) for run in (whole, resumed))
    for name in ("verdict", "knn", "linear", "linear_few", "baselines", "quality"):
        assert first[name] == second[name], name


# random points: drawn once from numpy.random.default_rng(0).integers(1, 33, 3), 33 steps in the run
@pytest.mark.parametrize("step", np.random.default_rng(0).integers(1, 31, 3).tolist())
def test_killed_and_resumed_is_the_uninterrupted_run_bit_for_bit(whole: Path, tmp_path: Path, step: int) -> None:
    out = tmp_path / "run"
    assert stop_at(out, step, signal.SIGKILL) == -signal.SIGKILL
    subprocess.run(command(out, "--resume"), check=True, env=environment(), capture_output=True, timeout=240)
    assert_same_run(whole, out)


def test_a_running_estimate_survives_a_kill_in_the_second_epoch(tmp_path: Path) -> None:
    whole, out = tmp_path / "whole", tmp_path / "run"
    subprocess.run(command(whole, *DUAL), check=True, env=environment(), capture_output=True, timeout=240)
    assert stop_at(out, 14, signal.SIGKILL, DUAL) == -signal.SIGKILL
    subprocess.run(command(out, "--resume"), check=True, env=environment(), capture_output=True, timeout=240)
    assert weights(whole)["objective.running"].std() > 0
    assert_same_run(whole, out)


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_asked_to_stop_it_saves_at_once_and_resumes(whole: Path, tmp_path: Path, number: int) -> None:
    out = tmp_path / "run"
    assert stop_at(out, 5, number) == 130
    assert torch.load(out / runfiles.CHECKPOINT, weights_only=True)["global_step"] >= 5
    subprocess.run(command(out, "--resume"), check=True, env=environment(), capture_output=True, timeout=240)
    assert_same_run(whole, out)


def test_resuming_a_finished_run_trains_no_further(whole: Path) -> None:
    before = weights(whole)
    rows = runfiles.read_rows(whole / runfiles.METRICS)
    assert run(["pretrain", "--out", str(whole), "--resume"]) == 0
    after = weights(whole)
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert runfiles.read_rows(whole / runfiles.METRICS) == rows
