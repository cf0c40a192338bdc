"""Progress in the terminal outside training: imports, and counted work of more than two seconds."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from eigenview.durations import duration
from eigenview.launched import launched_rank
from eigenview.terminal import Bar, Console

SILENT_SECONDS = 2.0


@contextmanager
def loading(console: Console, what: str) -> Iterator[None]:
    """Shows in a terminal what is being imported before the first line of output. Rank 0 only."""
    if not console.is_terminal or launched_rank() != 0:
        yield
        return
    with console.waiting(f"loading {what}"):
        yield


@contextmanager
def counting(console: Console, label: str) -> Iterator[Callable[[int, int], None]]:
    """A callback (done, total) that shows a bar with rate and time left once two seconds have passed."""
    bar = Bar(console, transient=True)
    start = time.monotonic()

    def update(done: int, total: int) -> None:
        seconds = max(time.monotonic() - start, 1e-3)
        if not bar.is_started and console.is_terminal and seconds > SILENT_SECONDS:
            bar.start()
        left = f", {duration((total - done) * seconds / done)} left" if done else ""
        bar.update(label, done / max(1, total), f"{done:,}/{total:,}{left}, {done / seconds:,.0f} a second")

    try:
        yield update
    finally:
        bar.stop()
