"""Work on many images in parallel, in order, with a progress bar once it takes more than two seconds.

Threads, not processes: Pillow decodes and resizes outside the interpreter lock, so photos use every core, and a script
that calls `pretrain` without a __main__ guard still works. Files of 32 px are bound by Python itself: one core decodes
about 6,000 of them a second, which is enough.
"""

from __future__ import annotations

import os
import threading
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from typing import TypeVar, overload

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

Item = TypeVar("Item")
Rows = tuple[np.ndarray, dict[int, str]]
"""A chunk's result, one row per item, and the reason at each position that failed."""

SILENT_SECONDS = 2.0


def cores() -> int:
    """CPU cores this process may use, at most 16: beyond that a disk is the limit."""
    available = len(os.sched_getaffinity(0)) if "sched_getaffinity" in dir(os) else os.cpu_count() or 1
    return min(available, 16)


def map_chunks(
    work: Callable[[Sequence[Item]], Rows],
    items: Sequence[Item],
    *,
    chunk: int,
    title: str = "",
    console: Console | None = None,
) -> Iterator[Rows]:
    """work(chunk of items) for consecutive chunks, results in order, few chunks in flight.

    With a title, a progress bar counts the items once two seconds have passed. Pillow's warnings about odd but readable
    files are silenced meanwhile.
    """
    starts = range(0, len(items), chunk)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if len(starts) <= 1:
            yield from (work(items[i : i + chunk]) for i in starts)
            return
        with ThreadPoolExecutor(cores()) as pool, _Bar(title, len(items), console) as bar:
            running: deque[Future[Rows]] = deque()
            stop = threading.Event()
            try:
                for i in starts:
                    running.append(pool.submit(work, _Chunk(items[i : i + chunk], stop)))
                    if len(running) > 2 * cores():  # bounded, so a slow disk cannot pile results up in memory
                        yield bar.count(running.popleft().result())
                while running:
                    yield bar.count(running.popleft().result())
            finally:  # after an error or Ctrl-C: what has not begun, and the rest of a chunk, would delay the answer
                stop.set()
                for future in running:
                    future.cancel()


class _Chunk(Sequence[Item]):
    """Consecutive items, whose iteration breaks off once nobody waits for the result: a photo may take a second."""

    def __init__(self, items: Sequence[Item], stop: threading.Event) -> None:
        self.items, self.stop = items, stop

    def __len__(self) -> int:
        return len(self.items)

    @overload
    def __getitem__(self, index: int) -> Item: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Item]: ...
    def __getitem__(self, index: int | slice) -> Item | Sequence[Item]:
        return self.items[index]

    def __iter__(self) -> Iterator[Item]:
        for item in self.items:
            if self.stop.is_set():
                raise CancelledError
            yield item


class _Bar:
    """A progress bar that appears only when the work outlasts two seconds."""

    def __init__(self, title: str, total: int, console: Console | None) -> None:
        self.title, self.total, self.console = title, total, console
        self.started, self.done = time.monotonic(), 0
        self.progress: Progress | None = None

    def __enter__(self) -> _Bar:
        return self

    def __exit__(self, *_: object) -> None:
        if self.progress is not None:
            self.progress.stop()

    def count(self, rows: Rows) -> Rows:
        self.done += len(rows[0])
        if self.title and self.progress is None and time.monotonic() - self.started > SILENT_SECONDS:
            columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
            columns += (TextColumn("left, {task.fields[rate]:,.0f} a second"),)
            self.progress = Progress(*columns, console=self.console or Console(stderr=True), transient=True)
            self.progress.add_task(self.title, total=self.total, rate=0.0)
            self.progress.start()
        if self.progress is not None:
            rate = self.done / (time.monotonic() - self.started)
            self.progress.update(self.progress.task_ids[0], completed=self.done, rate=rate)
        return rows
