"""What `eigenview simulate` does once its options are read: simulate, print the numbers, write the files."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from eigenview.simulations import files, picture, sweep
from eigenview.simulations.outcome import Theory
from eigenview.simulations.page import text

DEFAULT = Path("simulations")


def simulate(
    name: str,
    theory: Theory,
    options: Any,
    swept: str | None,
    out: Path | None,
    png: Path | None,
    words: Sequence[str],
    console: Console,
) -> sweep.Study:
    """Simulate and show one theory; `words` is the command line that repeats it.

    Raises
        UserError for what the sweep, the simulation or the folder refuses; nothing is written then.
    """
    directory = out or DEFAULT / name
    files.check_vacant(directory, png)
    if png is not None:
        picture.check_available()
    study = sweep.run(name, theory, options, swept)
    console.print(_table(study))
    for label, outcome in study.outcomes:
        for statement in outcome.statements:
            console.print(f"{label + ': ' if label else ''}{statement}", highlight=False, markup=False)
    written = files.write(study, directory, shlex.join(words), png)
    if png is not None:
        picture.write(study, png)
        written.append(png)
    console.print(
        "files     " + "  ".join(str(path) for path in written), highlight=False, markup=False, soft_wrap=True
    )
    return study


def _table(study: sweep.Study) -> Table:
    """Up to three columns with all digits of the tests, more with as many as fit; numbers.csv has the rest."""
    option, _, first = study.outcomes[0][0].partition(" = ")
    title = f"{study.name}, by {option}" if first else study.name
    table = Table("quantity", box=None, pad_edge=False, title=title, title_justify="left")
    digits = 10 if len(study.outcomes) <= 3 else 6
    for label, _ in study.outcomes:
        table.add_column(label.partition(" = ")[2] or "value", justify="right", overflow="fold")
    for name in study.quantities:
        table.add_row(name, *(text(name, outcome.numbers.get(name), digits) for _, outcome in study.outcomes))
    return table
