"""Which operators take the time of what a section has timed, by torch's profiler."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from rich.table import Table
from torch.profiler import ProfilerActivity, profile

from benchmarks.contest import Settings, Work

ROWS = 10
REST = "everything else"
HEADINGS = ("operator", "share", "ms a repeat", "calls a repeat")


@dataclass(frozen=True, kw_only=True)
class Operator:
    """An operator's own time in one repeat of the work, without that of what it calls."""

    name: str
    share: float
    """Of all operators' own time."""
    milliseconds: float
    calls: float

    def cells(self) -> list[str]:
        """One line of the table, under HEADINGS."""
        return [self.name, f"{100 * self.share:.1f} %", f"{self.milliseconds:.3g}", f"{self.calls:,g}"]


@dataclass(frozen=True, kw_only=True)
class Profile:
    """The operators of a work that take longest, and the rest as one."""

    title: str
    threads: int
    operators: tuple[Operator, ...]

    def heading(self) -> str:
        """Title and threads."""
        return f"profile of {self.title}, threads: {self.threads}"

    def line(self) -> dict[str, Any]:
        """For a JSON file."""
        return asdict(self)


def operators_of(work: Work, settings: Settings, repeats: int) -> tuple[Operator, ...]:
    """Own time by operator, longest first: of a GPU's kernels on a GPU, of the processor's threads that call elsewhere.

    The profiler does not see the threads of a processor's matrix library: the time is that of the thread which waits
    for them.
    """
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if settings.is_cuda else [])]
    with profile(activities=activities) as record:
        for _ in range(repeats):
            work()
        if settings.is_cuda:
            torch.cuda.synchronize()
    found: list[tuple[float, str, int]] = []
    for event in record.key_averages():
        if event.device_type != torch.autograd.DeviceType.CPU:
            continue  # a kernel, whose time the operator that launched it has as its own
        own = event.self_device_time_total if settings.is_cuda else event.self_cpu_time_total
        if own > 0:
            found.append((own, event.key, event.count))
    if not found:
        raise RuntimeError("torch's profiler recorded no operator; there is nothing to show.")
    found.sort(reverse=True)
    whole = sum(own for own, _, _ in found)
    rest = [(sum(own for own, _, _ in found[ROWS:]), REST, sum(n for _, _, n in found[ROWS:]))] if found[ROWS:] else []
    return tuple(
        Operator(name=name, share=own / whole, milliseconds=own / repeats / 1e3, calls=count / repeats)
        for own, name, count in [*found[:ROWS], *rest]
    )


def profiles_of(works: Iterable[tuple[str, Work]], settings: Settings) -> list[Profile]:
    """A profile of each titled work, with the largest number of threads."""
    torch.set_num_threads(threads := max(settings.threads))
    repeats = settings.pick(1, 2, 10)
    return [
        Profile(title=title, threads=threads, operators=operators_of(work, settings, repeats)) for title, work in works
    ]


def table_of(found: Profile) -> Table:
    """For the terminal."""
    table = Table(*HEADINGS, title=found.heading(), title_justify="left")
    for operator in found.operators:
        table.add_row(*operator.cells())
    return table


def markdown_of(profiles: Sequence[Profile]) -> str:
    """For RESULTS.md."""
    lines: list[str] = []
    for found in profiles:
        lines += ["", found.heading(), "", "| " + " | ".join(HEADINGS) + " |", "|" + "---|" * len(HEADINGS)]
        lines += ["| " + " | ".join(operator.cells()) + " |" for operator in found.operators]
    return "\n".join(lines) + "\n" if lines else ""
