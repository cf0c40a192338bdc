"""`eigenview check`: whether the files of a run are whole."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import tyro

from eigenview import runfiles
from eigenview.commands.options import parse
from eigenview.errors import UserError
from eigenview.runfiles.whole import check_run
from eigenview.terminal import write


@dataclass(frozen=True, kw_only=True)
class Check:
    """Reads every file of a run: whole, missing or damaged. Exit code 2 if one is damaged, or missing and needed."""

    run: tyro.conf.Positional[Path]
    """The run directory."""


def main(args: list[str]) -> int:
    """Print a row for each file; 0 if the run is whole, else 2."""
    options: Check = parse(Check, args, "check")
    if not (options.run / runfiles.CONFIG).exists():
        raise UserError(f"{options.run} is not a run: it has no {runfiles.CONFIG}. Give the directory of a run.")
    states = check_run(options.run)
    for each in states:
        write(f"{each.name:26} {each.state:8} {each.why}".rstrip())
    return 2 if any(each.state == "damaged" or (each.state == "missing" and each.is_needed) for each in states) else 0
