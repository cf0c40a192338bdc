"""How the processes of a run are found, started and ended."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from eigenview import distributed, runfiles
from eigenview.cli import run
from eigenview.config import RunConfig
from eigenview.engine import launch
from eigenview.engine.launch import check_devices
from eigenview.engine.loop import Callback, fit
from eigenview.engine.module import PretrainModule
from eigenview.errors import UserError
from eigenview.launched import Launched, launched
from tests.engine.killed import assert_same_run
from tests.engine.stepping import module_of
from tests.engine.test_train import SMALL
from tests.process_pool import ProcessPool

TORCHRUN = {"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "MASTER_ADDR": "10.0.0.7", "MASTER_PORT": "1234"}
SLURM = {"SLURM_STEP_NUM_TASKS": "4", "SLURM_PROCID": "3", "SLURM_LOCALID": "1", "SLURM_JOB_ID": "7012345"}


@pytest.mark.parametrize(
    ("env", "place"),
    [
        ({}, None),
        ({"SLURM_STEP_NUM_TASKS": "1", "SLURM_PROCID": "0"}, None),
        (TORCHRUN, Launched(3, 4, 1, "10.0.0.7", 1234)),
        (SLURM | {"SLURM_STEP_NODELIST": "gpu[07-08,11]"}, Launched(3, 4, 1, "gpu07", 17345)),
        (SLURM | {"SLURM_STEP_NODELIST": "gpu-a,gpu-b"}, Launched(3, 4, 1, "gpu-a", 17345)),
        (SLURM | TORCHRUN, Launched(3, 4, 1, "10.0.0.7", 1234)),  # torchrun started by srun
    ],
)
def test_a_process_finds_its_place_in_the_launchers_environment(env: dict[str, str], place: Launched | None) -> None:
    assert launched(env) == place


@pytest.mark.parametrize(
    ("env", "said"),
    [
        ({"RANK": "abc", "WORLD_SIZE": "2"}, "the variable RANK is 'abc'; allowed: a whole number, 0 or more, up to 1"),
        ({"RANK": "0", "WORLD_SIZE": "0"}, "the variable WORLD_SIZE is '0'; allowed: a whole number, 1 or more"),
        ({"RANK": "2", "WORLD_SIZE": "2"}, "RANK is '2'"),
        ({"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": ""}, "LOCAL_RANK is ''"),
        ({"RANK": "0", "WORLD_SIZE": "2", "MASTER_PORT": "70000"}, "MASTER_PORT is '70000'"),
        ({"SLURM_STEP_NUM_TASKS": "x"}, "SLURM_STEP_NUM_TASKS is 'x'"),
        ({"SLURM_STEP_NUM_TASKS": "2", "SLURM_PROCID": "-1"}, "SLURM_PROCID is '-1'"),
        ({"SLURM_STEP_NUM_TASKS": "2", "SLURM_PROCID": "0", "SLURM_JOB_ID": "1_2"}, "SLURM_JOB_ID is '1_2'"),
    ],
)
def test_a_launchers_variable_that_is_no_number_is_named(env: dict[str, str], said: str) -> None:
    with pytest.raises(UserError) as error:
        launched(env)
    assert said in str(error.value)


def test_devices_must_be_the_number_of_launched_processes(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Otherwise each process would train a run of its own into the same directory."""
    monkeypatch.setattr(sys, "argv", [__file__])  # workers of pytest are started by python -c
    check_devices(3)  # no launcher: as many as asked for are started
    for name, value in TORCHRUN.items():
        monkeypatch.setenv(name, value)
    check_devices(4)
    with pytest.raises(UserError, match=r"--devices is 1; allowed: 4\b"):
        check_devices(1)
    assert RunConfig(batch_size=256).devices == 4  # by default
    out = tmp_path / "run"
    assert run(["pretrain", "--devices", "1", "--out", str(out)]) == 2
    assert "--devices is 1" in capsys.readouterr().err
    assert not out.exists()


@pytest.mark.parametrize(
    "change",
    [lambda patch: patch.setattr(sys, "ps1", ">>> ", raising=False), lambda patch: patch.setattr(sys, "argv", ["-c"])],
    ids=["notebook", "python -c"],
)
def test_a_session_that_cannot_be_started_again_has_one_process(change: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "_module_name", lambda: None)
    monkeypatch.setattr(sys, "argv", [__file__])
    check_devices(2)  # a script
    change(monkeypatch)
    check_devices(1)
    with pytest.raises(UserError, match=r"--devices is 2; allowed: 1 in a notebook.*script"):
        check_devices(2)


def keys_during_training() -> tuple[list[str], list[str], list[str]]:
    """Names in the module's state before, during and after training on the processes of this group."""
    torch.manual_seed(0)
    module = module_of("simsiam", precision="fp32", batch_size=256, epochs=1)
    found: list[list[str]] = [list(module.state_dict())]

    class Look(Callback):
        def after_step(self, module: PretrainModule) -> None:
            found.append(list(module.state_dict()))

    share = torch.arange(128) + 128 * distributed.rank()
    fit(module, [{"index": share}], [Look()])
    return found[0], found[1], list(module.state_dict())


@pytest.mark.ddp
def test_what_wraps_the_method_is_no_part_of_a_checkpoint(processes: ProcessPool) -> None:
    """Otherwise a run of several processes could not read its checkpoint back."""
    for before, during, after in processes.run(2, keys_during_training):
        assert before == during == after


@pytest.mark.ddp
@pytest.mark.slow
def test_two_processes_stopped_and_resumed_are_the_uninterrupted_run_bit_for_bit(tmp_path: Path) -> None:
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    small = ["--encoder", "conv-tiny", "--network.projector-width", "32", "--probe.few-label-draws", "1"]
    often = ["--monitor.log-every-steps", "1", "--monitor.images", "64", "--monitor.checkpoint-minutes", "0.001"]
    args = ["--devices", "2", "--method", "byol", "--epochs", "2", *small, *often]

    def start(out: Path, *options: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "eigenview", "pretrain", *options, "--out", str(out)]
        return subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, text=True)

    assert start(whole, *args).wait(200) == 0
    process = start(stopped, *args)
    wait_for_rows(stopped, 5, process)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 130
    assert start(stopped, "--resume").wait(200) == 0
    assert_same_run(whole, stopped)


def children_of(pid: int) -> list[int]:
    """Numbers of the running processes that `pid` has started."""
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def is_running(pid: int) -> bool:
    status = Path(f"/proc/{pid}/status")
    return status.exists() and "State:\tZ" not in status.read_text()


@pytest.mark.ddp
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="finds the second process by /proc")
@pytest.mark.parametrize(
    ("victim", "number"),
    [
        ("the second", signal.SIGKILL),
        pytest.param("the first", signal.SIGKILL, marks=pytest.mark.slow),
        pytest.param("the second", signal.SIGSTOP, marks=pytest.mark.slow),  # test_heartbeat.py has the faster test
    ],
)
def test_a_lost_process_ends_the_run_and_it_can_be_resumed(victim: str, number: int, tmp_path: Path) -> None:
    """The others would wait for it: they end within a minute, with a line that names it."""
    out = tmp_path / "run"
    args = ["pretrain", "--devices", "2", "--epochs", "400", "--monitor.log-every-steps", "1", *SMALL]
    process = subprocess.Popen(
        [sys.executable, "-m", "eigenview", *args, "--out", str(out)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )
    try:
        wait_for_rows(out, 3, process)
        (second,) = children_of(process.pid)
        os.kill(second if victim == "the second" else process.pid, number)
        errors = process.communicate(timeout=60)[1]
        deadline = time.monotonic() + 30
        while is_running(second):
            assert time.monotonic() < deadline, "the second process waits for the first"
            time.sleep(0.1)
    finally:
        process.kill()
    assert process.returncode != 0
    if number == signal.SIGSTOP:
        assert "process 1 of 2 has not answered" in errors
    elif victim == "the second":
        assert "process 1 of 2 was killed by signal 9" in errors


def wait_for_rows(out: Path, count: int, process: subprocess.Popen[str]) -> None:
    """Wait until the run has logged this many rows."""
    deadline = time.monotonic() + 200
    while len(runfiles.read_rows(out / runfiles.METRICS)) < count:
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.1)


def agents(count: int, *args: str, where: Path) -> list[subprocess.Popen[str]]:
    """torchrun as on `count` machines of two processes each, all of them this machine."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = ["--nnodes", str(count), "--nproc-per-node", "2", "--rdzv-backend", "c10d"]
    options += ["--rdzv-endpoint", f"127.0.0.1:{port}", "--local-addr", "127.0.0.1", "--rdzv-id", "run"]
    command = [sys.executable, "-m", "torch.distributed.run", *options, "-m", "eigenview", *args]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    return [subprocess.Popen(command, env=env, cwd=where, **pipes) for _ in range(count)]


@pytest.mark.ddp
@pytest.mark.slow
def test_two_machines_of_two_processes_train_one_run(tmp_path: Path) -> None:
    """The number of processes is that of the launcher, on all machines; one of them writes and prints."""
    args = ["pretrain", "--epochs", "2", "--monitor.log-every-steps", "1", *SMALL]
    started = agents(2, *args, where=tmp_path)
    shown = [each.communicate(timeout=280)[0] for each in started]
    assert [each.returncode for each in started] == [0, 0], shown
    (out,) = (tmp_path / "runs").iterdir()
    assert sum("verdict" in text for text in shown) == 1
    config = runfiles.read_json(out / runfiles.CONFIG)
    assert config["devices"] == 4
    rows = runfiles.read_rows(out / runfiles.METRICS)
    assert [row["step"] for row in rows] == list(range(1, 23))
    alone = tmp_path / "alone"
    assert run([*args, "--out", str(alone)]) == 0
    assert {path.name for path in out.rglob("*")} == {path.name for path in alone.rglob("*")}
    # other views and unsynchronised batch norms: near, not equal
    assert rows[0]["loss"] == pytest.approx(runfiles.read_rows(alone / runfiles.METRICS)[0]["loss"], rel=0.3)


@pytest.mark.ddp
@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_a_process_lost_on_another_machine_ends_the_run(number: int, tmp_path: Path) -> None:
    out = tmp_path / "run"
    args = ["pretrain", "--epochs", "400", "--monitor.log-every-steps", "1", *SMALL, "--out", str(out)]
    started = agents(2, *args, where=tmp_path)
    try:
        wait_for_rows(out, 3, started[0])
        writer = int((out / runfiles.WRITER).read_text())
        (other,) = (each for each in started if writer not in children_of(each.pid))
        os.kill(children_of(other.pid)[0], number)
        shown = "".join(each.communicate(timeout=90)[0] for each in started)
    finally:
        for each in started:
            for child in children_of(each.pid) if each.poll() is None else []:
                os.kill(child, signal.SIGKILL)
            each.kill()
    assert all(each.returncode != 0 for each in started)
    if number == signal.SIGSTOP:
        assert re.search(r"process [123] of 4 has not answered", shown), shown[-3000:]
