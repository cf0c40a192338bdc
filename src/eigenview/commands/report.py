"""`eigenview report`: one HTML page for one run, or for several side by side."""

from __future__ import annotations

import webbrowser
from dataclasses import dataclass
from pathlib import Path

import tyro

from eigenview import runfiles
from eigenview.commands.options import parse
from eigenview.errors import UserError, require
from eigenview.terminal import write


@dataclass(frozen=True, kw_only=True)
class Report:
    """One HTML page for one run, or several side by side."""

    runs: tyro.conf.Positional[tuple[Path, ...]]
    """Run directories."""
    out: Path | None = None
    """The page; default RUN/report.html for one run, report.html for several."""
    theory: bool = False
    """Also lay the linear theory's eigenvalues of F and W_p over one run with a predictor, with what they miss."""
    channels: str = ""
    """Channels that the pictures show, counted from 1: three as red, green and blue (5,3,1), or one as grey. Default:
    the first three, or the first of two."""
    open: bool = False
    """Open it in the browser."""


def main(args: list[str]) -> int:
    """Write the page and print its path, and before it which of several runs to take."""
    options: Report = parse(Report, args, "report")
    if not options.runs:
        raise UserError("report needs a run directory: eigenview report RUN [RUN ...]")
    channels = _numbers(options.channels)
    from eigenview.report.page import write_report
    from eigenview.report.read import read_runs
    from eigenview.report.worth import over_seeds, recommendation

    single = options.runs[0] / runfiles.REPORT if len(options.runs) == 1 else Path(runfiles.REPORT)
    path = write_report(options.runs, options.out or single, theory=options.theory, channels=channels)
    if len(options.runs) > 1:
        records = read_runs(options.runs)
        for sentence in filter(None, (*over_seeds(records), recommendation(records))):
            write(sentence)
    write(str(path))
    if options.open:
        webbrowser.open(path.resolve().as_uri())
    return 0


def _numbers(text: str) -> tuple[int, ...]:
    parts = [part.strip() for part in text.split(",")] if text.strip() else []
    require(
        all(part.isascii() and part.isdecimal() for part in parts), "--channels", text, "whole numbers, as in 5,3,1"
    )
    return tuple(int(part) for part in parts)
