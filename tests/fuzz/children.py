"""One case in a process of its own: forked from one that has imported everything, or a fresh interpreter."""

from __future__ import annotations

import io
import os
import resource
import signal
import subprocess
import sys
import time
import traceback
from contextlib import suppress
from pathlib import Path

from tests.fuzz.oracle import MEGABYTES, SECONDS, Ending
from tests.fuzz.sandbox import Command, environment

_LOOK_SECONDS = 0.01


def run_forked(command: Command, sandbox: Path, said: Path) -> Ending:
    """`eigenview ARGS` in a fork of this process; `said`: a folder for what it prints."""
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child == 0:
        _be_the_command(command, sandbox, said)
    return _watched(child, said)


def run_fresh(command: Command, sandbox: Path, said: Path) -> Ending:
    """The same in a new interpreter."""
    streams = [open(said / name, "wb") for name in ("out", "err")]  # noqa: SIM115
    variables = environment(sandbox, command.variables) | {"PYTHONIOENCODING": command.encoding}
    process = subprocess.Popen(
        [sys.executable, "-m", "eigenview", *command.args],
        cwd=sandbox,
        env=variables,
        stdin=subprocess.DEVNULL,
        stdout=streams[0],
        stderr=streams[1],
        start_new_session=True,
    )
    for stream in streams:
        stream.close()
    ending = _watched(process.pid, said)
    process.returncode = ending.code  # it has been waited for
    return ending


def _be_the_command(command: Command, sandbox: Path, said: Path) -> None:
    """Never returns: what the interpreter does around `eigenview.cli.main`."""
    code = 1
    try:
        os.setsid()
        for number, (path, mode) in enumerate(
            (("/dev/null", os.O_RDONLY), *((said / n, _NEW) for n in ("out", "err")))
        ):
            os.dup2(os.open(path, mode, 0o600), number)
        sys.stdout, sys.stderr = (_stream(number, command.encoding) for number in (1, 2))
        os.environ.clear()
        os.environ.update(environment(sandbox, command.variables))
        _move_library_caches(sandbox)
        os.chdir(sandbox)
        sys.argv = ["eigenview", *command.args]
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        from eigenview.cli import main

        try:
            main()
            code = 0
        except SystemExit as stop:
            code = 0 if stop.code is None else stop.code if isinstance(stop.code, int) else 1
            if isinstance(stop.code, str):
                sys.stderr.write(stop.code + "\n")
    except BaseException:  # what the interpreter would print; anything is caught, since the parent's code follows
        traceback.print_exc()
    finally:
        with suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code & 0xFF)


def _move_library_caches(sandbox: Path) -> None:
    """The Hugging Face library reads the variable for its cache when it is imported, which was before the fork."""
    import datasets

    cache = sandbox / "hf" / "datasets"
    datasets.config.HF_DATASETS_CACHE = cache
    datasets.config.DOWNLOADED_DATASETS_PATH = cache / "downloads"
    datasets.config.EXTRACTED_DATASETS_PATH = cache / "downloads" / "extracted"


_NEW = os.O_WRONLY | os.O_CREAT | os.O_TRUNC


def _stream(number: int, encoding: str) -> io.TextIOWrapper:
    errors = "strict" if number == 1 else "backslashreplace"  # as the interpreter opens them
    return io.TextIOWrapper(open(number, "wb", closefd=False), encoding=encoding, errors=errors)


def _watched(child: int, said: Path) -> Ending:
    """Wait for the leader of a group of processes, and end the group when it takes too long or too much memory."""
    began, why, most = time.monotonic(), "", 0.0
    while True:
        ended, status, used = os.wait4(child, os.WNOHANG)
        if ended:
            break
        most = max(most, _megabytes(child))
        seconds = time.monotonic() - began
        if not why and seconds > SECONDS:
            why = f"it took over {SECONDS:g} s"
        elif not why and most > MEGABYTES:
            why = f"it took {most:,.0f} MB of memory"
        if why:
            with suppress(ProcessLookupError):
                os.killpg(child, signal.SIGKILL)
            os.waitpid(child, 0)
            used = None
            break
        time.sleep(min(_LOOK_SECONDS, seconds / 10 + 0.001))
    seconds = time.monotonic() - began
    left = _end_group(child)
    text = [
        (said / name).read_bytes().decode(errors="replace") if (said / name).exists() else "" for name in ("out", "err")
    ]
    return Ending(
        code=None if used is None else os.waitstatus_to_exitcode(status),
        out=text[0],
        err=text[1],
        seconds=seconds,
        megabytes=max(most, 0.0 if used is None else used.ru_maxrss / 1024),
        why=why,
        left_processes=left,
    )


def _megabytes(process: int) -> float:
    """Memory of a process now."""
    try:
        return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * resource.getpagesize() / 2**20
    except (OSError, IndexError):
        return 0.0


def _end_group(leader: int) -> bool:
    """Whether a process of the group was still there, half a second after its leader had ended; it is killed."""
    for _ in range(50):
        try:
            os.killpg(leader, 0)
        except (ProcessLookupError, PermissionError):
            return False
        time.sleep(0.01)
    with suppress(ProcessLookupError):
        os.killpg(leader, signal.SIGKILL)
    return True
