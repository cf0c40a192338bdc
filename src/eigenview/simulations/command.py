"""The command `eigenview simulate` after its options are parsed: simulate, print the table, write the files."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from eigenview.simulations import output_files, png_figure, sweep
from eigenview.simulations.html_page import format_number
from eigenview.simulations.result import Theory
from eigenview.terminal import Console, Table, table

DEFAULT_DIR = Path("simulations")


def simulate(
    name: str,
    theory: Theory,
    options: Any,
    sweep_text: str | None,
    out: Path | None,
    png: Path | None,
    arguments: Sequence[str],
    console: Console,
) -> sweep.Study:
    """Run one simulation, print its table and statements, and write its files below `out`.

    `arguments` is the command line that repeats the simulation; the page shows it.

    Raises
        UserError for an invalid sweep or option, for `out` if it holds other files, and if `png` is given but
        matplotlib is not installed. Nothing has been written then.
    """
    directory = out or DEFAULT_DIR / name
    output_files.check_output_dir(directory, png)
    if png is not None:
        png_figure.check_available()
    study = sweep.run(name, theory, options, sweep_text)
    console.print(_table(study))
    for label, result in study.results:
        for statement in result.statements:
            console.print(f"{label + ': ' if label else ''}{statement}")
    written = output_files.write(study, directory, shlex.join(arguments), png)
    if png is not None:
        png_figure.write(study, png)
        written.append(png)
    console.print("files     " + "  ".join(str(path) for path in written))
    return study


def _table(study: sweep.Study) -> Table:
    """Ten digits for up to three columns and six for more, so that the table fits; numbers.csv has all digits."""
    option, _, first = study.results[0][0].partition(" = ")
    title = f"{study.name}, by {option}" if first else study.name
    digits = 10 if len(study.results) <= 3 else 6
    headings = ["quantity", *(label.partition(" = ")[2] or "value" for label, _ in study.results)]
    rows = [
        [name, *(format_number(name, result.numbers.get(name), digits) for _, result in study.results)]
        for name in study.quantities
    ]
    return table(headings, rows, title=title)
