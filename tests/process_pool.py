"""A pool of CPU processes that run a function as the ranks of one gloo group.

They are forked from a fresh server process, never from the one that runs the tests. They inherit no state of the tests,
like spawned processes, but torch and what DDP imports (eight seconds) is loaded once instead of in each.
"""

from __future__ import annotations

import multiprocessing
import os
import traceback
from collections.abc import Callable
from datetime import timedelta
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

PRELOAD = ["torch", "torch.distributed", "torch._dynamo", "eigenview.engine.train"]
"""What the server imports before it forks: one list, as each process that runs tests has one such server."""
SECONDS = 120
"""Longest wait for one answer; the first one includes the import of torch."""


def serve(connection: Connection) -> None:
    """A worker. For each task: join the group, run the function, send the result or the traceback. None ends it."""
    import torch
    import torch.distributed as dist

    torch.set_num_threads(1)
    while (task := connection.recv()) is not None:
        function, arguments, store, size, rank = task
        try:
            method, limit = f"file://{store}", timedelta(seconds=SECONDS / 2)
            dist.init_process_group("gloo", init_method=method, world_size=size, rank=rank, timeout=limit)
            try:
                connection.send((function(*arguments), None))
            finally:
                dist.destroy_process_group()
        except Exception:  # sent to the test, which raises it
            connection.send((None, traceback.format_exc()))
    os._exit(0)  # a normal exit with torch takes seconds, and there is nothing to save


class ProcessPool:
    """`run(size, function, *arguments)` calls a module-level function on `size` ranks; returns their results by rank.

    Arguments and results travel by pickle: numbers, strings and numpy arrays, not tensors.
    """

    def __init__(self, size: int, folder: Path) -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(PRELOAD)
        self.folder, self.groups = folder, 0
        self.connections: list[Connection] = []
        self.workers: list[Any] = []
        for _ in range(size):
            ours, theirs = context.Pipe()
            self.workers.append(context.Process(target=serve, args=(theirs,), daemon=True))
            self.workers[-1].start()
            self.connections.append(ours)

    def __enter__(self) -> ProcessPool:
        return self

    def __exit__(self, *_: object) -> None:
        for connection in self.connections:
            connection.send(None)
        for worker in self.workers:
            worker.join(10)

    def run(self, size: int, function: Callable[..., Any], *arguments: Any) -> list[Any]:
        self.groups += 1
        members = self.connections[:size]
        for rank, connection in enumerate(members):
            connection.send((function, arguments, self.folder / f"group-{self.groups}", size, rank))
        answers = []
        for rank, connection in enumerate(members):
            assert connection.poll(SECONDS), f"rank {rank} of {size} gave no answer in {SECONDS} s"
            answers.append(connection.recv())
        # read every answer before raising, or the next test would read the answers that are left
        for rank, (_, error) in enumerate(answers):
            assert error is None, f"rank {rank} of {size}:\n{error}"
        return [result for result, _ in answers]
