"""Free memory before a run, peak memory after it, and an error that says what to do if there was too little."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from eigenview.errors import UserError

MEMINFO, STATUS, CONTROL_GROUP = Path("/proc/meminfo"), Path("/proc/self/status"), Path("/sys/fs/cgroup")


def free_bytes(device: torch.device) -> int | None:
    """Bytes that a process may still take: of the GPU, or of the machine's memory and this container's share of it.

    None if the system does not report it (there is no portable way).
    """
    if device.type == "cuda":
        number = gpu_number(device)
        cached = torch.cuda.memory_reserved(number) - torch.cuda.memory_allocated(number)
        return torch.cuda.mem_get_info(number)[0] + cached
    known = [value for value in (_kilobytes(MEMINFO, "MemAvailable"), _left_in_container()) if value is not None]
    return min(known, default=None)


@contextmanager
def explain_shortage() -> Iterator[None]:
    """Turns an out-of-memory error raised inside into a UserError that says what helps."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        # torch has no specific error for it on a CPU
        is_short = isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error)
        if not is_short:
            raise
        where = "the GPU" if isinstance(error, torch.OutOfMemoryError) else "this machine"
        raise UserError(
            f"the memory of {where} does not suffice. Use --grad-cache-chunk, a smaller --batch-size, fewer --views or "
            "a smaller --image-size, and another --out if this one already holds the run."
        ) from error


def gpu_number(device: torch.device) -> int:
    """The index of a GPU; of "cuda" alone, that of the current one."""
    return torch.cuda.current_device() if device.index is None else device.index


def _left_in_container() -> int | None:
    """What the control group (version 2) allows beyond its current use; cached files count as free."""
    try:
        limit = int((CONTROL_GROUP / "memory.max").read_text())  # "max" if there is no limit: a ValueError
        held = int((CONTROL_GROUP / "memory.current").read_text())
        rows = dict(line.split() for line in (CONTROL_GROUP / "memory.stat").read_text().splitlines())
        return max(0, limit - held + int(rows["inactive_file"]) + int(rows["active_file"]))
    except (OSError, KeyError, ValueError):
        return None


class MemoryGrowth:
    """Peak memory increase since `begin`: of tensors on a GPU, otherwise of resident pages.

    The system keeps one high-water mark for the life of a process. If that was set before `begin` and not exceeded
    since, the increase is unknown and `read` returns None; also if the system keeps no such numbers (only Linux does).
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._start: int | None = None
        self._mark: int | None = None

    def begin(self) -> None:
        """Measure from here."""
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(gpu_number(self.device))
            self._start = torch.cuda.memory_allocated(gpu_number(self.device))
        else:
            self._start, self._mark = _kilobytes(STATUS, "VmRSS"), _kilobytes(STATUS, "VmHWM")

    def read(self) -> int | None:
        """Peak bytes minus those at `begin`. On a CPU libraries loaded since then count too."""
        if self._start is None:
            return None
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(gpu_number(self.device)) - self._start
        mark = _kilobytes(STATUS, "VmHWM")
        return None if mark is None or self._mark is None or mark <= self._mark else mark - self._start


def _kilobytes(path: Path, row: str) -> int | None:
    """Bytes in a row "name:   12 kB" of one of Linux's tables."""
    try:
        rows = dict(line.split(":", 1) for line in path.read_text().splitlines() if ":" in line)
        return int(rows[row].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return None
