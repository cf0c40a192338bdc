"""A killed run, resumed, ends in the same bits as one that was never interrupted."""

from __future__ import annotations

import os
import pty
import signal
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from eigenview import runfiles
from eigenview.cli import run
from tests.engine.killed import COMMON, assert_same_run, finish, stop_at, weights
from tests.writer import other_writer

# DirectPred every third step has everything that can be lost: optimiser, schedule, target network, augmentation, sample
# order, and an objective with a running moment, a matrix trained in between and a count of steps.
FIELDS = ["--method", "directpred", "--method.refresh-every", "3", "--epochs", "3", *COMMON]
# operations with random numbers of their own, and a transform of one's own, which a resumed run has to be given again
OWN = ["--augment.own", "tests.data.test_own_transform:speckled"]
FIELDS += ["--augment.rotate", "0.5", "--augment.noise", "0.2,0.5", "--augment.erase", "0.3", *OWN]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("whole") / "run"
    finish(out, *FIELDS)
    return out


# random points of the run's 33 steps; one of them in the fast tests
FIRST, *OTHERS = np.random.default_rng(0).integers(1, 31, 3).tolist()


@pytest.mark.parametrize("step", [FIRST, *(pytest.param(step, marks=pytest.mark.slow) for step in OTHERS)])
def test_killed_and_resumed_is_the_uninterrupted_run_bit_for_bit(whole: Path, tmp_path: Path, step: int) -> None:
    out = tmp_path / "run"
    assert stop_at(out, step, signal.SIGKILL, FIELDS) == -signal.SIGKILL
    finish(out, "--resume", *OWN)
    assert_same_run(whole, out)


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_asked_to_stop_it_saves_at_once_and_resumes(whole: Path, tmp_path: Path, number: int) -> None:
    out = tmp_path / "run"
    assert stop_at(out, 5, number, FIELDS) == 130
    assert torch.load(out / runfiles.CHECKPOINT, weights_only=True)["global_step"] >= 5
    finish(out, "--resume", *OWN)
    assert_same_run(whole, out)


@pytest.mark.slow
def test_a_closed_terminal_ends_the_run_with_a_checkpoint(tmp_path: Path) -> None:
    """A process whose controlling terminal goes away: the system sends SIGHUP, and writing fails."""
    out = tmp_path / "run"
    command = [sys.executable, "-m", "eigenview", "pretrain", "--out", str(out), *FIELDS, "--epochs", "400"]
    child, terminal = pty.fork()
    if child == 0:
        os.execv(command[0], command)
    while not ((out / runfiles.METRICS).exists() and (out / runfiles.METRICS).stat().st_size):
        os.read(terminal, 4096)  # what nobody reads would block the run
    os.close(terminal)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 130
    with (out / runfiles.CHECKPOINT).open("rb") as file:
        assert runfiles.is_intact(file)


def test_resuming_a_finished_run_trains_no_further(whole: Path) -> None:
    before = weights(whole)
    rows = runfiles.read_rows(whole / runfiles.METRICS)
    assert run(["pretrain", "--out", str(whole), "--resume", *OWN]) == 0
    after = weights(whole)
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert runfiles.read_rows(whole / runfiles.METRICS) == rows


def test_a_run_that_another_process_writes_is_left_alone(whole: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path: path.read_bytes() for path in whole.rglob("*") if path.is_file()}
    with other_writer(whole) as other:
        assert run(["pretrain", "--out", str(whole), "--resume", *OWN]) == 2
    assert f"written by another process, number {other.pid}" in " ".join(capsys.readouterr().err.split())
    assert {path: path.read_bytes() for path in before} == before
    (whole / runfiles.WRITER).unlink()  # the other was killed
