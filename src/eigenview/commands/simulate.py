"""`eigenview simulate`: what a theory predicts, as numbers, curves and a figure."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Generic, TypeVar

from eigenview.commands.options import FLAT, parse
from eigenview.simulations import THEORIES, load
from eigenview.terminal import Console, write

Options = TypeVar("Options")


@dataclass(frozen=True, kw_only=True)
class Simulate(Generic[Options]):
    """One theory as numbers and curves."""

    options: Annotated[Options, FLAT]
    sweep: str | None = None
    """Several values of one option in one figure: option=a,b,c."""
    out: Path | None = None
    """Folder for figure.html, numbers.csv and curves.csv; default simulations/NAME."""
    png: Path | None = None
    """Also draw the curves to this PNG (needs matplotlib)."""


def main(args: list[str]) -> int:
    """Print the numbers and write the files; without a theory's name, list the theories."""
    if not args or args[0] in ("-h", "--help"):
        write("usage: eigenview simulate NAME [--options] [--sweep option=a,b,c] [--out DIR]\n")
        write("\n".join(f"  {name:17} {text}" for name, (_, text) in THEORIES.items()))
        write("\neigenview simulate NAME --help shows its options, its assumptions and where they fail.")
        return 0
    name, theory = args[0], load(args[0])
    from eigenview.simulations.command import simulate

    question = THEORIES[name][1]
    description = f"{question[0].upper()}{question[1:]}. Assumptions: {theory.assumptions}"
    kind = Simulate[theory.options]  # type: ignore[name-defined]
    options = parse(kind, args[1:], f"simulate {name}", description=description)
    repeat = ["eigenview", "simulate", *args]
    simulate(name, theory, options.options, options.sweep, options.out, options.png, repeat, Console())
    return 0
