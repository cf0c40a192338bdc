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
    from eigenview.distributed import processes as processes
    from eigenview.errors import UserError as UserError
    from eigenview.methods.barlow_twins import BarlowTwins as BarlowTwins
    from eigenview.methods.barlow_twins import BarlowTwinsConfig as BarlowTwinsConfig
    from eigenview.methods.byol import BYOL as BYOL
    from eigenview.methods.byol import BYOLConfig as BYOLConfig
    from eigenview.methods.directclr import DirectCLR as DirectCLR
    from eigenview.methods.directclr import DirectCLRConfig as DirectCLRConfig
    from eigenview.methods.directcopy import DirectCopy as DirectCopy
    from eigenview.methods.directcopy import DirectCopyConfig as DirectCopyConfig
    from eigenview.methods.directpred import DirectPred as DirectPred
    from eigenview.methods.directpred import DirectPredConfig as DirectPredConfig
    from eigenview.methods.directset import DirectSet as DirectSet
    from eigenview.methods.directset import DirectSetConfig as DirectSetConfig
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
    from eigenview.models.backbone import load_encoder as load_encoder
    from eigenview.records import Batch as Batch
    from eigenview.records import Clock as Clock
    from eigenview.run import Run as Run
    from eigenview.run import pretrain as pretrain
    from eigenview.views import Views as Views

__version__ = "0.1.0"

_EXPORTS = {
    "Batch": "records",
    "Clock": "records",
    "Run": "run",
    "RunConfig": "config",
    "UserError": "errors",
    "Views": "views",
    "diagnose_embeddings": "diagnostics.diagnose",
    "load_encoder": "models.backbone",
    "pretrain": "run",
    "processes": "distributed",
}
"""Name -> module. The classes of every method file are public too, found in the files themselves."""


def _exports() -> dict[str, str]:
    from eigenview.methods import exported

    return {name: f"eigenview.{module}" for name, module in _EXPORTS.items()} | exported()


def __getattr__(name: str) -> Any:
    if name == "__all__":
        return ["__version__", *sorted(_exports())]
    if not name.startswith("_") and name in (exports := _exports()):
        return getattr(importlib.import_module(exports[name]), name)
    raise AttributeError(f"module 'eigenview' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(["__version__", *_exports()])
