"""Simulations of the theory for `eigenview simulate NAME`: options in, a table of numbers, curves and statements out.

One simulation per file. Each has `Options`, `simulate(options) -> Result`, and `THEORY`, which combines the two with
the assumptions of the `eigenview.theory` module it uses. They are imported on first use, so that listing the names
imports neither torch nor scipy.

    byol_eigenvalues.py   linear BYOL, each eigenvalue on its own: fixed points, basin of collapse, convergence times
    byol_matrices.py      linear BYOL with whole matrices: alignment of eigenvectors, and collapse of the ablations
    directset.py          the predictor F^alpha: what the encoder keeps of invariant and of nuisance directions
    isoloss.py            convergence times of every mode under BYOL's gradient and under IsoLoss
    infonce.py            dimensional collapse of a linear contrastive network under strong augmentation
    two_layers.py         dimensional collapse caused by depth, two linear layers against one
    modes.py              stepwise learning of a linear Barlow Twins network
    spectral.py           VICReg and Barlow Twins on a point cloud against the exact eigenfunctions

    result.py             the records that a simulation returns, and measures of curves that several simulations use
    sweep.py              runs a simulation once, or once per value of one option
    command.py            the command itself: run, print the table, write the files
    output_files.py       writes numbers.csv, curves.csv, points.csv and figure.html
    plot_data.py          lines, colours and legends of every plot, used by both the page and the PNG
    html_page.py          the interactive page figure.html
    png_figure.py         the same plots by matplotlib
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from eigenview.errors import UserError, hint

if TYPE_CHECKING:
    from eigenview.simulations.result import Theory

# command-line name -> module, the question it answers
THEORIES: dict[str, tuple[str, str]] = {
    "byol-eigenvalues": ("byol_eigenvalues", "which modes of BYOL survive weight decay, and which starts collapse"),
    "byol-matrices": ("byol_matrices", "when predictor and embeddings align; collapse in ablations"),
    "directset": ("directset", "which directions a predictor F^alpha keeps, as a function of weight decay and alpha"),
    "isoloss": ("isoloss", "how long modes of small eigenvalue take to converge under BYOL and under IsoLoss"),
    "infonce": ("infonce", "which directions a linear contrastive network loses to strong augmentation"),
    "two-layers": ("two_layers", "why a deeper linear network ends with a lower effective rank"),
    "modes": ("modes", "in which order, and when, Barlow Twins learns its modes from small initial weights"),
    "spectral": ("spectral", "what VICReg and related losses learn on a point cloud, at low and high orthogonality"),
}


def load(name: str) -> Theory:
    """The simulation of a command-line name. Raises UserError for an unknown name; the message has the hint one."""
    if name not in THEORIES:
        raise UserError(f"simulate {name}: no such simulation. {hint(name, THEORIES)}(eigenview list theories)")
    return importlib.import_module(f"eigenview.simulations.{THEORIES[name][0]}").THEORY
