"""The command `eigenview simulate` after its options are parsed: simulate, print the table, write the files."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from eigenview.simulations import output_files, png_figure, sweep
from eigenview.simulations.html_page import format_number
from eigenview.simulations.result import Theory

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
            console.print(f"{label + ': ' if label else ''}{statement}", highlight=False, markup=False)
    written = output_files.write(study, directory, shlex.join(arguments), png)
    if png is not None:
        png_figure.write(study, png)
        written.append(png)
    console.print(
        "files     " + "  ".join(str(path) for path in written), highlight=False, markup=False, soft_wrap=True
    )
    return study


def _table(study: sweep.Study) -> Table:
    """Ten digits for up to three columns and six for more, so that the table fits; numbers.csv has all digits."""
    option, _, first = study.results[0][0].partition(" = ")
    title = f"{study.name}, by {option}" if first else study.name
    table = Table("quantity", box=None, pad_edge=False, title=title, title_justify="left")
    digits = 10 if len(study.results) <= 3 else 6
    for label, _ in study.results:
        table.add_column(label.partition(" = ")[2] or "value", justify="right", overflow="fold")
    for name in study.quantities:
        table.add_row(name, *(format_number(name, result.numbers.get(name), digits) for _, result in study.results))
    return table
