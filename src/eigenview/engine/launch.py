"""The processes of a run: started here for `--devices N`, or by torchrun or SLURM beforehand.

A launcher is recognised by its environment variables. Without one, the first process starts the others by running its
own command again with torchrun's variables, so that they come here too and find them.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from eigenview.distributed import is_connection_lost, is_initialized, join_group
from eigenview.engine.heartbeat import beating
from eigenview.errors import Collapsed, Interrupted, NonFiniteError, ProcessLost, require
from eigenview.launched import Launched, launched

PARENT = "EIGENVIEW_PARENT"
"""Environment variable of processes started here: the number of the process that started them."""
ENDS_EVERYWHERE = (Interrupted, NonFiniteError, Collapsed)
"""Errors that all processes of a run raise at the same step."""
STOPPED = 130  # exit code of a run that was asked to stop
GRACE = 5.0
"""Seconds that the first process has to name its own error, before it is ended because another one has ended."""


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
    if devices == 1 or is_initialized():
        yield
        return
    threads = torch.get_num_threads()
    place = launched()
    try:
        if place is not None:
            with _joined(place, device):
                yield
        else:
            with _started(devices, device):
                yield
    finally:
        torch.set_num_threads(threads)  # the first process goes on alone, with the probes


@contextmanager
def _joined(place: Launched, device: torch.device) -> Iterator[None]:
    """In this block this process is one of those that a launcher started."""
    if (parent := int(os.environ.get(PARENT, "0"))) > 0:
        threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
        _share_threads(place.size)
    join_group(place.address, place.port, place.number, place.size, device)
    try:
        with beating(place.address, place.port, place.number, place.size, _end_run):
            yield
    except RuntimeError as error:
        if not is_connection_lost(error):
            raise
        reason = str(error).partition("\n")[0]
        raise ProcessLost(
            f"process {place.number} lost the others, so the run has ended ({reason}); continue it with --resume."
        ) from None


@contextmanager
def _started(devices: int, device: torch.device) -> Iterator[None]:
    """In this block this process is the first of a run, and the others run too."""
    port = _free_port()
    others = [_start_again(number, devices, port) for number in range(1, devices)]
    done = threading.Event()
    threading.Thread(target=_watch, args=(others, done), daemon=True).start()
    _share_threads(devices)

    def end(message: str) -> None:
        for other in others:
            other.kill()
        _end_run(message)

    try:
        join_group("127.0.0.1", port, 0, devices, device)
        with beating("127.0.0.1", port, 0, devices, end):
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


def _end_run(message: str) -> None:
    """Print one line and end this process at once, from any thread: the main thread waits where no error reaches it."""
    shown = "\x1b[?25h" if os.isatty(2) else ""  # the progress bar has hidden the cursor
    os.write(2, f"{shown}\neigenview: {message}\n".encode())
    os._exit(1)


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
            for each in others:
                each.kill()
            _end_run(lost)


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
