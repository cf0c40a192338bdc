"""Work on many images in parallel, in order, with a progress bar once it takes more than two seconds.

Threads, not processes: Pillow decodes and resizes outside the interpreter lock, so photos use every core, and a script
that calls `pretrain` without a __main__ guard still works. Files of 32 px are bound by Python itself: one core decodes
about 6,000 of them a second, which is enough.
"""

from __future__ import annotations

import os
import threading
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import nullcontext
from typing import TypeVar, overload

import numpy as np

from eigenview.progress import counting
from eigenview.terminal import Console

Item = TypeVar("Item")
Rows = tuple[np.ndarray, dict[int, str]]
"""A chunk's result, one row per item, and the reason at each position that failed."""


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
        shown = counting(console or Console(stderr=True), title) if title else nullcontext(lambda done, total: None)
        with ThreadPoolExecutor(cores()) as pool, shown as progress:
            running: deque[Future[Rows]] = deque()
            stop = threading.Event()
            done = 0

            def first_result() -> Rows:
                nonlocal done
                rows = running.popleft().result()
                done += len(rows[0])
                progress(done, len(items))
                return rows

            try:
                for i in starts:
                    running.append(pool.submit(work, _Chunk(items[i : i + chunk], stop)))
                    if len(running) > 2 * cores():  # bounded, so a slow disk cannot pile results up in memory
                        yield first_result()
                while running:
                    yield first_result()
            finally:  # after an error or Ctrl-C: do not wait for chunks that have not begun or ended
                stop.set()
                for future in running:
                    future.cancel()


class _Chunk(Sequence[Item]):
    """Consecutive items whose iteration stops once nobody waits for the result: one photo may take a second."""

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


def joined(parts: Sequence[Rows]) -> Rows:
    """The rows of consecutive chunks as one array, with the positions of failed items counted from the first chunk."""
    failed: dict[int, str] = {}
    start = 0
    for rows, reasons in parts:
        failed |= {start + i: reason for i, reason in reasons.items()}
        start += len(rows)
    return np.concatenate([rows for rows, _ in parts]), failed
