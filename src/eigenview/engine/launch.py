"""The processes of a run: started here for `--devices N`, or by torchrun or SLURM beforehand.

A launcher is recognised by its environment variables. Without one, the first process starts the others by running its
own command again with torchrun's variables, so that they come here too and find them.
"""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from eigenview.distributed import is_connection_lost, is_initialized, join_group
from eigenview.errors import Collapsed, Interrupted, NonFiniteError, ProcessLost, require

PARENT = "EIGENVIEW_PARENT"
"""Environment variable of processes started here: the number of the process that started them."""
ENDS_EVERYWHERE = (Interrupted, NonFiniteError, Collapsed)
"""Errors that all processes of a run raise at the same step."""
STOPPED = 130  # exit code of a run that was asked to stop
GRACE = 5.0
"""Seconds that the first process has to name its own error, before it is ended because another one has ended."""


@dataclass(frozen=True)
class Launched:
    """What a launcher says about this process."""

    number: int
    size: int
    local: int
    address: str
    port: int


def launched(env: Mapping[str, str] = os.environ) -> Launched | None:
    """This process's place among those of torchrun or SLURM's srun; None if it was started alone."""
    if "RANK" in env and "WORLD_SIZE" in env:
        address, port = env.get("MASTER_ADDR", "127.0.0.1"), int(env.get("MASTER_PORT", "29500"))
        number = int(env["RANK"])
        return Launched(number, int(env["WORLD_SIZE"]), int(env.get("LOCAL_RANK", number)), address, port)
    if int(env.get("SLURM_STEP_NUM_TASKS", "1")) > 1 and "SLURM_PROCID" in env:
        first = re.match(r"([^,\[]+)(?:\[(\d+))?", env.get("SLURM_STEP_NODELIST", "127.0.0.1"))
        address = "".join(part or "" for part in first.groups()) if first else "127.0.0.1"
        port = 15000 + int(env.get("SLURM_JOB_ID", "0")[-4:])  # the same on all nodes, another for each job
        number, size = int(env["SLURM_PROCID"]), int(env["SLURM_STEP_NUM_TASKS"])
        return Launched(number, size, int(env.get("SLURM_LOCALID", number)), address, port)
    return None


def launched_rank() -> int:
    """This process's number before there is a process group; 0 if it was started alone."""
    place = launched()
    return 0 if place is None else place.number


def check_devices(devices: int) -> None:
    """Raises UserError if the run cannot have this number of processes."""
    place = launched()
    if place is not None:
        allowed = f"{place.size}, the number of processes that the launcher started"
        require(devices == place.size, "--devices", devices, allowed)
    elif devices > 1:
        is_interactive = hasattr(sys, "ps1")
        is_program = _module_name() is not None or os.path.isfile(sys.argv[0])
        allowed = "1 in a notebook, an interactive session or python -c; several need a script or the command line"
        require(is_program and not is_interactive, "--devices", devices, allowed)


@contextmanager
def processes_of_run(devices: int, device: torch.device) -> Iterator[None]:
    """In this block the processes of the run are one group. Those that were started here end with it.

    If one of them ends early, with an error or killed, the others are ended too: they would wait for it.
    """
    place = launched()
    if devices == 1 or is_initialized():
        yield
        return
    if place is not None:
        if (parent := int(os.environ.get(PARENT, "0"))) > 0:
            threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
            _share_threads(devices)
        join_group(place.address, place.port, place.number, place.size, device)
        try:
            yield
        except RuntimeError as error:
            if not is_connection_lost(error):
                raise
            reason = str(error).partition("\n")[0]
            raise ProcessLost(f"process {place.number} lost the others, so the run has ended ({reason}).") from None
        return
    port = _free_port()
    others = [_start_again(number, devices, port) for number in range(1, devices)]
    done = threading.Event()
    threading.Thread(target=_watch, args=(others, done), daemon=True).start()
    _share_threads(devices)
    try:
        join_group("127.0.0.1", port, 0, devices, device)
        yield
    except ENDS_EVERYWHERE:
        raise
    except BaseException as error:
        lost = _lost(others, wait=GRACE) if is_connection_lost(error) else None
        for other in others:
            other.kill()
        if lost is not None:
            raise ProcessLost(lost) from None
        raise
    finally:
        done.set()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _start_again(number: int, size: int, port: int) -> subprocess.Popen[bytes]:
    """Run this process's own command again, as process `number`."""
    module = _module_name()
    program = [os.path.abspath(sys.argv[0])] if module is None else ["-m", module]
    place = {"RANK": number, "LOCAL_RANK": number, "WORLD_SIZE": size, "MASTER_PORT": port, PARENT: os.getpid()}
    env = os.environ | {name: str(value) for name, value in place.items()} | {"MASTER_ADDR": "127.0.0.1"}
    return subprocess.Popen([sys.executable, *program, *sys.argv[1:]], env=env)


def _module_name() -> str | None:
    """The module that was started by `python -m`; None for a script."""
    import __main__

    spec = getattr(__main__, "__spec__", None)
    return None if spec is None else spec.name.removesuffix(".__main__")


def _share_threads(size: int) -> None:
    """Each process takes its share of the cores, unless OMP_NUM_THREADS says otherwise."""
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, torch.get_num_threads() // size))


def _watch(others: list[subprocess.Popen[bytes]], done: threading.Event) -> None:
    """End the whole run once one of the other processes has failed."""
    while not done.wait(1.0):
        lost = _lost(others, wait=0.0)
        if lost is not None and not done.wait(GRACE):  # the first process waits where no error reaches it
            shown = "\x1b[?25h" if os.isatty(2) else ""  # the progress bar has hidden the cursor
            os.write(2, f"{shown}\neigenview: {lost}\n".encode())
            for each in others:
                each.kill()
            os._exit(1)


def _lost(others: list[subprocess.Popen[bytes]], *, wait: float) -> str | None:
    """A sentence about the first process that has failed, or fails within `wait` seconds."""
    deadline = time.monotonic() + wait
    while True:
        for number, other in enumerate(others, start=1):
            code = other.poll()
            if code not in (None, 0, STOPPED):
                how = f"was killed by signal {-code}" if code < 0 else f"failed with exit code {code}"
                return f"process {number} of {len(others) + 1} {how}, so the run has ended; use --resume."
        if time.monotonic() >= deadline:
            return None
        time.sleep(0.1)


def _end_with(parent: int) -> None:
    """End this process when the one that started it is gone: nobody else will."""
    while os.getppid() == parent:
        time.sleep(1.0)
    os._exit(1)
