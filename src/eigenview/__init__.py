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
    from eigenview.diagnostics.diagnose import diagnose_embeddings as diagnose_embeddings
    from eigenview.errors import UserError as UserError
    from eigenview.methods.barlow_twins import BarlowTwins as BarlowTwins
    from eigenview.methods.barlow_twins import BarlowTwinsConfig as BarlowTwinsConfig
    from eigenview.methods.byol import BYOL as BYOL
    from eigenview.methods.byol import BYOLConfig as BYOLConfig
    from eigenview.methods.direct_predictor import DirectCopy as DirectCopy
    from eigenview.methods.direct_predictor import DirectCopyConfig as DirectCopyConfig
    from eigenview.methods.direct_predictor import DirectPred as DirectPred
    from eigenview.methods.direct_predictor import DirectPredConfig as DirectPredConfig
    from eigenview.methods.direct_predictor import DirectSet as DirectSet
    from eigenview.methods.direct_predictor import DirectSetConfig as DirectSetConfig
    from eigenview.methods.directclr import DirectCLR as DirectCLR
    from eigenview.methods.directclr import DirectCLRConfig as DirectCLRConfig
    from eigenview.methods.infonce import InfoNCE as InfoNCE
    from eigenview.methods.infonce import InfoNCEConfig as InfoNCEConfig
    from eigenview.methods.isoloss import IsoLoss as IsoLoss
    from eigenview.methods.isoloss import IsoLossConfig as IsoLossConfig
    from eigenview.methods.simclr import SimCLR as SimCLR
    from eigenview.methods.simclr import SimCLRConfig as SimCLRConfig
    from eigenview.methods.simsiam import SimSiam as SimSiam
    from eigenview.methods.simsiam import SimSiamConfig as SimSiamConfig
    from eigenview.methods.unbiased_vicreg import UnbiasedVICReg as UnbiasedVICReg
    from eigenview.methods.unbiased_vicreg import UnbiasedVICRegConfig as UnbiasedVICRegConfig
    from eigenview.methods.vicreg import VICReg as VICReg
    from eigenview.methods.vicreg import VICRegConfig as VICRegConfig
    from eigenview.models.export import load_encoder as load_encoder
    from eigenview.run import Run as Run
    from eigenview.run import pretrain as pretrain
    from eigenview.views import Views as Views

__version__ = "0.1.0"

_EXPORTS = {
    "RunConfig": "config",
    "diagnose_embeddings": "diagnostics.diagnose",
    "UserError": "errors",
    "load_encoder": "models.export",
    "BarlowTwins": "methods.barlow_twins",
    "BarlowTwinsConfig": "methods.barlow_twins",
    "BYOL": "methods.byol",
    "BYOLConfig": "methods.byol",
    "DirectCopy": "methods.direct_predictor",
    "DirectCopyConfig": "methods.direct_predictor",
    "DirectPred": "methods.direct_predictor",
    "DirectPredConfig": "methods.direct_predictor",
    "DirectSet": "methods.direct_predictor",
    "DirectSetConfig": "methods.direct_predictor",
    "DirectCLR": "methods.directclr",
    "DirectCLRConfig": "methods.directclr",
    "InfoNCE": "methods.infonce",
    "InfoNCEConfig": "methods.infonce",
    "IsoLoss": "methods.isoloss",
    "IsoLossConfig": "methods.isoloss",
    "SimCLR": "methods.simclr",
    "SimCLRConfig": "methods.simclr",
    "SimSiam": "methods.simsiam",
    "SimSiamConfig": "methods.simsiam",
    "UnbiasedVICReg": "methods.unbiased_vicreg",
    "UnbiasedVICRegConfig": "methods.unbiased_vicreg",
    "VICReg": "methods.vicreg",
    "VICRegConfig": "methods.vicreg",
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
