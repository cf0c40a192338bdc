"""Free memory before a run, peak memory after it, and an error that says what to do if there was too little."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import torch

from eigenview.errors import UserError

MEMINFO, STATUS, CONTROL_GROUP = Path("/proc/meminfo"), Path("/proc/self/status"), Path("/sys/fs/cgroup")
MAPPINGS = Path("/proc/self/smaps")


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


class PeakMemory:
    """Peak memory of a run: of tensors on a GPU, otherwise the resident pages of this process.

    Pages of mapped files are left out. They are resident too, but the system drops them when memory is short and reads
    them again, and several processes share them: what a process must have is the rest.

    The system keeps one high-water mark for the life of a process. If that was set before `begin` and not exceeded
    since, the peak is unknown and `read` returns None; also if the system keeps no such numbers (only Linux does).
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._start: int | None = None

    def begin(self) -> None:
        """Measure from here."""
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(gpu_number(self.device))
            self._start = torch.cuda.memory_allocated(gpu_number(self.device))
        else:
            self._start = _kilobytes(STATUS, "VmHWM")

    def read(self, *, present: int, mapped: Collection[Path] = ()) -> int | None:
        """Peak bytes since `begin`. present: bytes of the run that were on a GPU at that time already."""
        if self._start is None:
            return None
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(gpu_number(self.device)) - self._start + present
        mark = _kilobytes(STATUS, "VmHWM")
        return None if mark is None or mark <= self._start else mark - mapped_bytes(mapped)


def process_bytes(mapped: Collection[Path] = ()) -> int | None:
    """Resident bytes of this process now, without pages of the files `mapped`; None where the system does not say."""
    resident = _kilobytes(STATUS, "VmRSS")
    return None if resident is None else resident - mapped_bytes(mapped)


def mapped_bytes(files: Collection[Path]) -> int:
    """Resident bytes of this process that are pages of these files; 0 where the system does not say."""
    names, found, is_counted = {str(file) for file in files}, 0, False
    with suppress(OSError):
        for line in MAPPINGS.read_text(errors="surrogateescape").splitlines() if names else ():
            words = line.split(maxsplit=5)
            if words[0] == "Rss:" and is_counted:
                found += int(words[1]) * 1024
            elif not words[0].endswith(":"):  # the first line of a mapping: addresses, rights, ..., file
                is_counted = len(words) == 6 and words[5] in names
    return found


def _kilobytes(path: Path, row: str) -> int | None:
    """Bytes in a row "name:   12 kB" of one of Linux's tables."""
    try:
        rows = dict(line.split(":", 1) for line in path.read_text().splitlines() if ":" in line)
        return int(rows[row].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return None
