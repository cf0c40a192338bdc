"""`eigenview`, killed by itself at a chosen line of a chosen function.

    KILL_POINT=checkpoint KILL_LINE=120 python tests/engine/kill_points.py pretrain ...

With KILL_COUNTS=FILE the run goes to its end, and the number of lines of each point is written to that file.
The process sends SIGKILL to itself while it traces the function: nothing of the package knows of it, no handler and no
`finally` runs. Of several processes only the first one, which writes the files, is killed.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import FrameType
from typing import Any

import eigenview
from eigenview import runfiles
from eigenview.cli import main
from eigenview.data.pixels.cache import Entry
from eigenview.engine import callbacks, finalize

PACKAGE = str(Path(eigenview.__file__).parent)
WRITING = ("write_bytes", "atomic_write")

# name -> the functions, where their names are looked up; and the functions below them whose lines count, () for all: of
# a report nearly all lines are those of its figures, and a kill should often hit the writing
POINTS: dict[str, tuple[list[tuple[Any, str]], tuple[str, ...]]] = {
    "cache": ([(Entry, "keep_sides"), (Entry, "keep_pixels")], ()),
    "cache file": ([(Entry, "keep_sides"), (Entry, "keep_pixels")], WRITING),
    "checkpoint": ([(callbacks, "save_checkpoint")], ()),
    "report": ([(finalize, "write_report")], ()),
    "report file": ([(finalize, "write_report")], WRITING),
    "any file": ([(runfiles, name) for name in ("write_object", "write_arrays", "write_bytes")], WRITING),
}


class Tracer:
    """Counts the lines inside the functions of some points; kills the process at line `limit`, if that is given."""

    def __init__(self, names: Iterable[str], limit: int | None) -> None:
        self.limit = limit
        self.lines: Counter[str] = Counter()
        self.inside: list[str] = []
        for name in names:
            for owner, attribute in POINTS[name][0]:
                setattr(owner, attribute, self._traced(vars(owner)[attribute], name))

    def _traced(self, function: Callable[..., Any], name: str) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            self.inside.append(name)
            sys.settrace(self._trace)
            try:
                return function(*args, **kwargs)
            finally:
                self.inside.pop()
                if not self.inside:
                    sys.settrace(None)

        return call

    def _trace(self, frame: FrameType, event: str, _: Any) -> Any:
        if not frame.f_code.co_filename.startswith(PACKAGE):
            return None
        if event == "line":
            for name in {
                name for name in self.inside if frame.f_code.co_name in POINTS[name][1] or not POINTS[name][1]
            }:
                self.lines[name] += 1
                if self.lines[name] == self.limit:
                    os.kill(os.getpid(), signal.SIGKILL)
        return self._trace


def run(environment: Mapping[str, str]) -> None:
    """`eigenview` with the arguments of this process, killed or counted as `environment` says."""
    callbacks.LARGEST_SHARE = 1e9  # a checkpoint after every step, whatever it costs
    names, limit = POINTS.keys(), None
    if "KILL_LINE" in environment:
        names, limit = [environment["KILL_POINT"]], int(environment["KILL_LINE"])
    is_traced = "RANK" not in environment and (limit is not None or "KILL_COUNTS" in environment)
    tracer = Tracer(names if is_traced else [], limit)
    try:
        main()
    finally:
        if is_traced and limit is None:
            Path(environment["KILL_COUNTS"]).write_text(json.dumps(tracer.lines))


def serve(arguments: list[str], environment: dict[str, str], log: str) -> None:
    """What this file does as a program, in a process forked from one that has done the imports."""
    for stream in (1, 2):
        os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644), stream)
    os.environ |= environment
    sys.argv = ["eigenview", *arguments]
    run(os.environ)


if __name__ == "__main__":
    run(os.environ)
