"""`eigenview experiment`: run an experiment of the source checkout, whose code is in the folder experiments/."""

from __future__ import annotations

import importlib
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Literal

import tyro

from eigenview.commands.options import parse
from eigenview.errors import UserError, require
from eigenview.terminal import Console

MOST_SEEDS = 1_000
FRAME = Path("experiments") / "_frame.py"


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """Reproduce a published table or figure, or a study of ours; resumable cell by cell."""

    name: tyro.conf.Positional[str]
    """eigenview list experiments"""
    scale: Literal["tiny", "cpu", "gpu"] = "tiny"
    """tiny: about two minutes a run on a core; cpu: four to twenty; gpu: ResNet-18 for 100 epochs, with the published
    settings where they are CIFAR-10's."""
    seeds: int = 1
    """Seeds per cell."""
    data: str | None = None
    """Folder of CIFAR-10 images with train/ and test/; default: the environment variable CIFAR10."""
    cells: str | None = None
    """Only these cells, separated by commas: to share a grid between terminals. Without it all are collected."""
    finished: bool = False
    """Run nothing: write the result of the cells that have ended, and name the others."""
    recorded: bool = False
    """Count runs that the result folder's results.json holds with the same settings as finished, so that a grid goes on
    where its run directories are not."""
    out: Path | None = None
    """Result folder; default experiments/results/NAME/SCALE."""


def main(args: list[str]) -> int:
    """Run what is missing of the grid, and write its result files."""
    options: Experiment = parse(Experiment, args, "experiment")
    require(1 <= options.seeds <= MOST_SEEDS, "--seeds", options.seeds, f"1 to {MOST_SEEDS:,}")
    frame = load_frame(f"experiment {options.name}")
    grid = (options.name, options.scale, options.seeds, options.data, options.cells, options.out)
    frame.run_experiment(*grid, Console(), finished=options.finished, recorded=options.recorded)
    return 0


def load_frame(command: str) -> ModuleType:
    """experiments/_frame.py of the checkout in the current folder; `command` begins the error message.

    Raises:
        UserError: the current folder is no checkout.
    """
    if not FRAME.is_file():
        raise UserError(
            f"{command}: no folder experiments/ here. The experiments are not in the installed package: run the "
            "command in the top folder of eigenview's source checkout."
        )
    checkout = str(Path.cwd())
    if checkout not in sys.path:
        sys.path.insert(0, checkout)  # a console script's own path does not contain the current folder
    return importlib.import_module("experiments._frame")
