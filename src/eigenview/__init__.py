"""eigenview: self-supervised pretraining by joint embedding, whose collapse is understood, measured and prevented.

    import eigenview as ev
    run = ev.pretrain("photos/", method="vicreg")
    run.verdict, run.summary["linear"], run.encoder

Names below are imported on first use: `import eigenview` does not import torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from eigenview.config import RunConfig as RunConfig
    from eigenview.diagnostics.monitor import diagnose_embeddings as diagnose_embeddings
    from eigenview.errors import UserError as UserError
    from eigenview.models.export import load_encoder as load_encoder
    from eigenview.objectives.barlow_twins import BarlowTwins as BarlowTwins
    from eigenview.objectives.barlow_twins import BarlowTwinsConfig as BarlowTwinsConfig
    from eigenview.objectives.byol import BYOL as BYOL
    from eigenview.objectives.byol import BYOLConfig as BYOLConfig
    from eigenview.objectives.direct_predictor import DirectCopy as DirectCopy
    from eigenview.objectives.direct_predictor import DirectCopyConfig as DirectCopyConfig
    from eigenview.objectives.direct_predictor import DirectPred as DirectPred
    from eigenview.objectives.direct_predictor import DirectPredConfig as DirectPredConfig
    from eigenview.objectives.direct_predictor import DirectSet as DirectSet
    from eigenview.objectives.direct_predictor import DirectSetConfig as DirectSetConfig
    from eigenview.objectives.directclr import DirectCLR as DirectCLR
    from eigenview.objectives.directclr import DirectCLRConfig as DirectCLRConfig
    from eigenview.objectives.infonce import InfoNCE as InfoNCE
    from eigenview.objectives.infonce import InfoNCEConfig as InfoNCEConfig
    from eigenview.objectives.isoloss import IsoLoss as IsoLoss
    from eigenview.objectives.isoloss import IsoLossConfig as IsoLossConfig
    from eigenview.objectives.simclr import SimCLR as SimCLR
    from eigenview.objectives.simclr import SimCLRConfig as SimCLRConfig
    from eigenview.objectives.simsiam import SimSiam as SimSiam
    from eigenview.objectives.simsiam import SimSiamConfig as SimSiamConfig
    from eigenview.objectives.unbiased_vicreg import UnbiasedVICReg as UnbiasedVICReg
    from eigenview.objectives.unbiased_vicreg import UnbiasedVICRegConfig as UnbiasedVICRegConfig
    from eigenview.objectives.vicreg import VICReg as VICReg
    from eigenview.objectives.vicreg import VICRegConfig as VICRegConfig
    from eigenview.run import Run as Run
    from eigenview.run import pretrain as pretrain
    from eigenview.views import Views as Views

__version__ = "0.1.0"

_EXPORTS = {
    "RunConfig": "config",
    "diagnose_embeddings": "diagnostics.monitor",
    "UserError": "errors",
    "load_encoder": "models.export",
    "BarlowTwins": "objectives.barlow_twins",
    "BarlowTwinsConfig": "objectives.barlow_twins",
    "BYOL": "objectives.byol",
    "BYOLConfig": "objectives.byol",
    "DirectCopy": "objectives.direct_predictor",
    "DirectCopyConfig": "objectives.direct_predictor",
    "DirectPred": "objectives.direct_predictor",
    "DirectPredConfig": "objectives.direct_predictor",
    "DirectSet": "objectives.direct_predictor",
    "DirectSetConfig": "objectives.direct_predictor",
    "DirectCLR": "objectives.directclr",
    "DirectCLRConfig": "objectives.directclr",
    "InfoNCE": "objectives.infonce",
    "InfoNCEConfig": "objectives.infonce",
    "IsoLoss": "objectives.isoloss",
    "IsoLossConfig": "objectives.isoloss",
    "SimCLR": "objectives.simclr",
    "SimCLRConfig": "objectives.simclr",
    "SimSiam": "objectives.simsiam",
    "SimSiamConfig": "objectives.simsiam",
    "UnbiasedVICReg": "objectives.unbiased_vicreg",
    "UnbiasedVICRegConfig": "objectives.unbiased_vicreg",
    "VICReg": "objectives.vicreg",
    "VICRegConfig": "objectives.vicreg",
    "Run": "run",
    "pretrain": "run",
    "Views": "views",
}
__all__ = ["__version__", *_EXPORTS]  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    if name in _EXPORTS:
        return getattr(importlib.import_module(f"eigenview.{_EXPORTS[name]}"), name)
    raise AttributeError(f"module 'eigenview' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
