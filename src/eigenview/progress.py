"""Progress in the terminal outside training: imports, and counted work of more than two seconds."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from eigenview.launched import launched_rank

SILENT_SECONDS = 2.0


@contextmanager
def loading(console: Console, what: str) -> Iterator[None]:
    """Shows in a terminal what is being imported before the first line of output. Rank 0 only."""
    if not console.is_terminal or launched_rank() != 0:
        yield
        return
    with console.status(f"loading {what}"):
        yield


@contextmanager
def counting(console: Console, label: str) -> Iterator[Callable[[int, int], None]]:
    """A callback (done, total) that shows a bar with rate and time left once two seconds have passed."""
    columns = (TextColumn(label), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(compact=True))
    rate = TextColumn("left, {task.fields[rate]:,.0f} a second")
    bar = Progress(*columns, rate, console=console, transient=True)
    task = bar.add_task(label, rate=0.0)
    start = time.monotonic()

    def update(done: int, total: int) -> None:
        if not bar.live.is_started and console.is_terminal and time.monotonic() - start > SILENT_SECONDS:
            bar.start()
        bar.update(task, completed=done, total=total, rate=done / max(time.monotonic() - start, 1e-3))

    try:
        yield update
    finally:
        if bar.live.is_started:  # stopping a bar that never appeared would print an empty line into a redirected output
            bar.stop()
