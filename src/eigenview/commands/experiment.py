"""`eigenview experiment`: run a grid of the checkout's experiments/ folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro
from rich.console import Console

from eigenview.commands.options import parse


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
    out: Path | None = None
    """Result folder; default experiments/results/NAME/SCALE."""


def main(args: list[str]) -> int:
    """Run what is missing of the grid, and write its result files."""
    options: Experiment = parse(Experiment, args, "experiment")
    from eigenview.experiment import run_experiment

    grid = (options.name, options.scale, options.seeds, options.data, options.cells, options.out)
    run_experiment(*grid, Console(), finished=options.finished)
    return 0
