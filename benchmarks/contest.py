"""How things are compared: settings, turns, clocks, memory, agreement, and the rows that come out of it.

The contestants of a case take turns in one process, in an order that is reversed every other round; a round gives one
ratio, and the median of the rounds is reported: other programs on the machine then disturb all contestants alike.
"""

from __future__ import annotations

import ctypes
import math
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor
from torch._C._profiler import _ExtraFields_Allocation
from torch.profiler import ProfilerActivity, profile

Work = Callable[[], object]
OURS = "ours"
AGREEMENT = 1e-4
"""Relative distance allowed in value and in gradient: the largest shapes add up 10^8 float32 products in other
orders."""


class Disagreement(Exception):
    """A contestant's result differs from ours; its section times nothing."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How to measure: from the command line, or from a test."""

    scale: Literal["tiny", "quick", "full"]
    """full: the shapes that the goals are about; quick: smaller ones, a few rounds; tiny: for tests, nothing timed."""
    device: torch.device
    threads: tuple[int, ...]
    """Numbers of threads to time with; sections that time whole programs take the largest."""
    say: Callable[[str], None] = print
    """Prints a line, such as one about a missing library."""
    reported: set[str] = field(default_factory=set)
    """Missing libraries that have been reported: one line each."""

    def pick(self, tiny: Any, quick: Any, full: Any) -> Any:
        """The value for this scale."""
        return {"tiny": tiny, "quick": quick, "full": full}[self.scale]

    @property
    def is_cuda(self) -> bool:
        """Whether a GPU is measured."""
        return self.device.type == "cuda"


@dataclass(frozen=True)
class Goal:
    """Limits for a figure: the acceptable one, and the one aimed at. Lower limits, or upper ones with `at_most`."""

    accept: float
    aim: float | None = None
    at_most: bool = False

    def is_met(self, figure: float) -> bool:
        """Whether the figure is acceptable."""
        return figure <= self.accept if self.at_most else figure >= self.accept

    def is_exceeded(self, figure: float) -> bool:
        """Whether the figure reaches the aim."""
        return self.aim is not None and (figure <= self.aim if self.at_most else figure >= self.aim)


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of the table: what a contestant needed, what ours needed, and the figure made of both.

    For most rows the figure is theirs / ours, above 1 in our favour; `quantity` says what it is elsewhere.
    """

    section: str
    case: str
    contestant: str
    quantity: str
    ours: float | None
    theirs: float | None
    unit: str
    figure: float
    form: Literal["x", "%", "+"] = "x"
    """How the figure is written: as a ratio, in percent, or as a difference."""
    goal: Goal | None = None
    threads: int | None = None

    @property
    def verdict(self) -> str:
        """ "no", "yes" or "yes, aim too"; empty if there is no goal."""
        if self.goal is None:
            return ""
        return ("yes, aim too" if self.is_aimed else "yes") if self.is_accepted else "no"

    @property
    def is_accepted(self) -> bool:
        """Whether the goal is met; true if there is none."""
        return self.goal is None or self.goal.is_met(self.figure)

    @property
    def is_aimed(self) -> bool:
        """Whether the figure reaches the aim; false if there is no aim."""
        return self.goal is not None and self.goal.is_exceeded(self.figure)

    def line(self) -> dict[str, Any]:
        """The row for a JSON file."""
        plain = asdict(self)
        goal = plain.pop("goal") or {"accept": None, "aim": None, "at_most": None}
        rounded = {n: float(f"{plain[n]:.6g}") if plain[n] is not None else None for n in ("ours", "theirs", "figure")}
        return {**plain, **rounded, **goal, "accepted": self.is_accepted if self.goal else None}


@dataclass(frozen=True)
class Section:
    """One part of the command.

    `check` raises Disagreement unless all contestants compute the same, and returns what it compared, a line each.
    `measure` checks at the shapes it is about to time, times, and returns the rows. `inside` yields what --profile
    profiles: titles and functions, warmed up; use each before taking the next.
    """

    check: Callable[[Settings], list[str]]
    measure: Callable[[Settings], list[Row]]
    inside: Callable[[Settings], Iterator[tuple[str, Work]]] | None = None


def distance(found: Tensor, expected: Tensor) -> float:
    """Relative distance in the Euclidean norm, in float64; infinite where either is not finite."""
    found, expected = found.double(), expected.double()
    apart = ((found - expected).norm() / expected.norm().clamp_min(1e-300)).item()
    return apart if math.isfinite(apart) else math.inf


@contextmanager
def full_float32() -> Iterator[None]:
    """Convolutions of a GPU in float32, not in TF32, whose rounding would hide a disagreement."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before


def require_agreement(
    what: str, found: Mapping[str, Tensor], expected: Mapping[str, Tensor], allowed: float = AGREEMENT
) -> str:
    """A line with the distances of two results of the same names ("value", "gradient"); Disagreement if too large."""
    apart = {name: distance(found[name], expected[name]) for name in expected}
    message = f"{what}: apart by {', '.join(f'{value:.1e} in {name}' for name, value in apart.items())}"
    if not max(apart.values()) <= allowed:
        raise Disagreement(f"{message}; allowed {allowed:.0e}. Nothing of this section was timed.")
    return message


def seconds(work: Work, device: torch.device) -> float:
    """Wall time of `work`, until the device has done it."""
    if device.type == "cuda":
        torch.cuda.synchronize()
    mark = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - mark


def processor_seconds(work: Work) -> float:
    """Processor time of this process during `work`, which other programs disturb less than wall time."""
    mark = time.process_time()
    work()
    return time.process_time() - mark


def take_turns(ways: Mapping[str, Work], rounds: int, clock: Callable[[Work], float]) -> dict[str, list[float]]:
    """Time of each way in each round; the order is reversed every other round."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(rounds):
        for name in list(ways)[:: 1 if turn % 2 == 0 else -1]:
            times[name].append(clock(ways[name]))
    return times


def median_ratio(above: Sequence[float], below: Sequence[float]) -> float:
    """Median over rounds of above / below."""
    return statistics.median(a / b for a, b in zip(above, below, strict=True))


def peak_bytes(work: Work, device: torch.device) -> int:
    """Largest sum of bytes allocated and not yet released during `work`, counted from its start.

    On a GPU by torch's own count; on a CPU by adding up the allocations and releases that torch's profiler records:
    exact, but without what a matrix library allocates behind torch's back. Releases of what was there before do not
    count: the profiler knows the size of some of them, those allocated while it ran before, and not of others.
    """
    if device.type == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        work()
        return torch.cuda.max_memory_allocated() - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        work()
    held: dict[int, int] = {}
    now = peak = 0
    for address, size in _allocations(record):
        if size > 0:
            held[address] = size
            now += size
            peak = max(peak, now)
        else:
            now -= held.pop(address, 0)
    if not peak:
        raise RuntimeError("torch's profiler recorded no allocation; memory cannot be compared.")
    return peak


def _allocations(record: profile) -> list[tuple[int, int]]:
    """The address and the bytes, negative for a release, of what was allocated, in the order of time."""
    assert record.profiler is not None and record.profiler.kineto_results is not None  # noqa: PT018
    found, waiting = [], list(record.profiler.kineto_results.experimental_event_tree())
    while waiting:
        event = waiting.pop()
        waiting += event.children
        allocation = event.typed[1]
        if isinstance(allocation, _ExtraFields_Allocation):
            found.append((event.start_time_ns, allocation.ptr, allocation.alloc_size))
    return [(address, size) for _, address, size in sorted(found, key=lambda each: each[0])]


def keep_memory() -> None:
    """Have the C library keep what this process releases, to its end, where it is glibc.

    Otherwise each large array is new memory, whose pages the kernel supplies one by one: four fifths of the time of
    value and gradient of BYOL at 16,384 rows on a virtual machine, and more for each page the more there are.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        trim_from, most_mapped = -1, -4  # M_TRIM_THRESHOLD and M_MMAP_MAX of malloc.h
        mallopt(trim_from, -1)  # never
        mallopt(most_mapped, 0)


def compare_times(
    section: str,
    case: str,
    ways: Mapping[str, Work],
    rounds: int,
    settings: Settings,
    goals: Mapping[str, Goal] | None = None,
) -> list[Row]:
    """A row for each way but ours and each number of threads: its time over ours. `ways` are warm."""
    rows: list[Row] = []
    for threads in settings.threads:
        torch.set_num_threads(threads)
        times = take_turns(ways, rounds, partial(seconds, device=settings.device))
        rows += ratio_rows(section, case, times, settings, goals, threads=threads)
    return rows


def ratio_rows(
    section: str,
    case: str,
    times: Mapping[str, Sequence[float]],
    settings: Settings,
    goals: Mapping[str, Goal] | None = None,
    *,
    quantity: str = "time",
    unit: str = "ms",
    scale: float = 1e3,
    threads: int | None = None,
) -> list[Row]:
    """A row for each contestant but ours: the median of its times over ours. Goals count at full scale alone."""
    own = times[OURS]
    return [
        Row(
            section=section,
            case=case,
            contestant=name,
            quantity=quantity,
            ours=scale * statistics.median(own),
            theirs=scale * statistics.median(values),
            unit=unit,
            figure=median_ratio(values, own),
            goal=(goals or {}).get(name) if settings.scale == "full" else None,
            threads=threads,
        )
        for name, values in times.items()
        if name != OURS
    ]
