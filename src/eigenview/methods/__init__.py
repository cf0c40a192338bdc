"""The objectives, one file each. `OBJECTIVES` is the one line per objective that users see.

Names are imported on first use, so that listing them (`eigenview list objectives`, `--help`) does not import torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from eigenview.errors import UserError, nearest

if TYPE_CHECKING:
    from eigenview.methods.base import Objective

# command-line name -> module, class (its frozen config is <class>Config in the same module), one-line description
OBJECTIVES: dict[str, tuple[str, str, str]] = {
    "simclr": ("simclr", "SimCLR", "contrastive, NT-Xent (Chen et al. 2020)"),
    "directclr": ("directclr", "DirectCLR", "contrastive on part of the representation (Jing et al. 2022)"),
    "infonce": ("infonce", "InfoNCE", "contrastive, by Euclidean distance, as in theory (Tian 2022)"),
    "vicreg": ("vicreg", "VICReg", "variance, invariance, covariance (Bardes et al. 2022)"),
    "unbiased-vicreg": (
        "unbiased_vicreg",
        "UnbiasedVICReg",
        "VICReg with U-statistics: a covariance penalty without bias",
    ),
    "barlow-twins": ("barlow_twins", "BarlowTwins", "cross-correlation to identity (Zbontar et al. 2021)"),
    "byol": ("byol", "BYOL", "predictor and EMA target (Grill et al. 2020)"),
    "simsiam": ("simsiam", "SimSiam", "predictor and stop-gradient (Chen and He 2021)"),
    "directcopy": ("direct_predictor", "DirectCopy", "predictor copied from F, EMA target (Wang et al. 2021)"),
    "directpred": ("direct_predictor", "DirectPred", "predictor from the root of F, EMA target (Tian et al. 2021)"),
    "directset": ("direct_predictor", "DirectSet", "predictor F^alpha, EMA target (Wang et al. 2021)"),
    "isoloss": ("isoloss", "IsoLoss", "closed-form predictor left out of the gradient (Halvagal et al. 2023)"),
}


def objective_class(method: str) -> type[Objective]:
    """The class behind a command-line name; an unknown name is an error with the nearest one."""
    if method not in OBJECTIVES:
        raise UserError(f"--method {method}: no such method. {nearest(method, OBJECTIVES)} (eigenview list objectives)")
    module, name, _ = OBJECTIVES[method]
    return getattr(importlib.import_module(f"eigenview.methods.{module}"), name)


def config_class(method: str) -> type:
    """The frozen config dataclass of a method's objective."""
    cls = objective_class(method)
    return getattr(importlib.import_module(cls.__module__), f"{cls.__name__}Config")
