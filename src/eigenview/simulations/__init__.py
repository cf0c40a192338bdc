"""The theory as experiments: options in, decisive numbers, curves and statements out. `eigenview simulate NAME`.

One idea per file, each with its Options, `simulate(options) -> Outcome` and THEORY, which joins them to the assumptions
of the theory they stand on. Imported on first use: listing the names imports neither torch nor scipy.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from eigenview.errors import UserError, nearest

if TYPE_CHECKING:
    from eigenview.simulations.outcome import Theory

# command-line name -> module, the question it answers
THEORIES: dict[str, tuple[str, str]] = {
    "byol-eigenvalues": ("byol_eigenvalues", "which modes of BYOL survive a weight decay, and which starts collapse"),
    "byol-matrices": ("byol_matrices", "when predictor and embeddings share eigenvectors; what stops without either"),
    "directset": ("directset", "what a predictor F^alpha keeps and what it drops, against weight decay and alpha"),
    "isoloss": ("isoloss", "how long weak modes take under BYOL's gradient and under IsoLoss"),
    "infonce": ("infonce", "which directions strong augmentation takes from a contrastive linear network"),
    "two-layers": ("two_layers", "why a deeper network uses fewer dimensions"),
    "modes": ("modes", "in which order, and when, Barlow Twins learns its modes from a small start"),
    "spectral": ("spectral", "what VICReg and its kin learn of a point cloud at low and high orthogonality weight"),
}


def load(name: str) -> Theory:
    """The experiment behind a command-line name; an unknown name is an error with the nearest one."""
    if name not in THEORIES:
        raise UserError(f"simulate {name}: no such theory. {nearest(name, THEORIES)} (eigenview list theories)")
    return importlib.import_module(f"eigenview.simulations.{THEORIES[name][0]}").THEORY
