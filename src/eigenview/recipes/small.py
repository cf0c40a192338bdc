"""Small images (up to about 64 px) with a small conv net: what `eigenview pretrain FOLDER` runs by default.

Paper: none; coefficients are the authors' own, optimiser and heads are sized for two CPU cores or one GPU.
Expected: experiments/results/methods (CIFAR-10 (JPEG), 10 epochs of the 32-128-128 net).
Time: an epoch of 50,000 images takes about 50 seconds at 24 px and 85 at 32 px on two quiet cores.
Command: eigenview pretrain FOLDER --method NAME
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from eigenview.config import NetworkConfig, OptimConfig, RunConfig
from eigenview.methods.barlow_twins import BarlowTwinsConfig
from eigenview.methods.byol import BYOLConfig
from eigenview.methods.direct_predictor import DirectCopyConfig, DirectPredConfig, DirectSetConfig
from eigenview.methods.directclr import DirectCLRConfig
from eigenview.methods.infonce import InfoNCEConfig
from eigenview.methods.isoloss import IsoLossConfig
from eigenview.methods.simclr import SimCLRConfig
from eigenview.methods.simsiam import SimSiamConfig
from eigenview.methods.unbiased_vicreg import UnbiasedVICRegConfig
from eigenview.methods.vicreg import VICRegConfig

ADAM = OptimConfig(name="adamw", lr_per_256=2.8e-3, batch_scaling="sqrt", weight_decay=1e-4)
# A predictor that lags behind its network lets all but a few directions die within the first epoch, and they come back
# slowly (Tian et al. 2021: a larger alpha_p shrinks the basin of collapse). Measured in docs/log.md.
PREDICTOR_AHEAD = replace(ADAM, lr_per_256=4e-4, predictor_lr_factor=10.0)


def _small(method: str, objective: Any, network: NetworkConfig) -> RunConfig[Any]:
    return RunConfig(method=method, objective=objective, network=network, optim=ADAM, epochs=40, batch_size=128)


def vicreg() -> RunConfig[Any]:
    """VICReg with the authors' 25/25/1."""
    return _small("vicreg", VICRegConfig(), NetworkConfig())


def unbiased_vicreg() -> RunConfig[Any]:
    """VICReg by U-statistics, with a covariance weight of its own."""
    return _small("unbiased-vicreg", UnbiasedVICRegConfig(), NetworkConfig())


def barlow_twins() -> RunConfig[Any]:
    """Barlow Twins; off-diagonal weight for a 512-wide projector (Ghosh et al. 2023: about 5/width)."""
    return _small("barlow-twins", BarlowTwinsConfig(off_diagonal=0.01), NetworkConfig())


def simclr() -> RunConfig[Any]:
    """SimCLR at the temperature solo-learn uses on CIFAR."""
    return _small("simclr", SimCLRConfig(temperature=0.2), NetworkConfig(projector_width=128))


def directclr() -> RunConfig[Any]:
    """DirectCLR on half of the net's 128 coordinates, without a projector. The paper's argument why the rest learns too
    needs a residual last block, which conv-medium has and conv-small has not."""
    return _small("directclr", DirectCLRConfig(d0=64), NetworkConfig(projector_layers=0))


def infonce() -> RunConfig[Any]:
    """InfoNCE of the theory, of unnormalised embeddings."""
    return _small("infonce", InfoNCEConfig(), NetworkConfig(projector_width=128))


def byol() -> RunConfig[Any]:
    """BYOL with an EMA target from 0.99 to 1."""
    return replace(_small("byol", BYOLConfig(), NetworkConfig(projector_width=256)), optim=PREDICTOR_AHEAD)


def simsiam() -> RunConfig[Any]:
    """SimSiam: batch norm after the projector too."""
    network = NetworkConfig(projector_width=256, projector_last_norm=True)
    return replace(_small("simsiam", SimSiamConfig(), network), optim=PREDICTOR_AHEAD)


def directcopy() -> RunConfig[Any]:
    """DirectCopy: the predictor is the normalised second moment of the embeddings."""
    return _small("directcopy", DirectCopyConfig(), NetworkConfig(projector_width=128))


def directpred() -> RunConfig[Any]:
    """DirectPred: the predictor is its square root."""
    return _small("directpred", DirectPredConfig(), NetworkConfig(projector_width=128))


def directset() -> RunConfig[Any]:
    """DirectSet at alpha 1, to be set."""
    return _small("directset", DirectSetConfig(), NetworkConfig(projector_width=128))


def isoloss() -> RunConfig[Any]:
    """IsoLoss of cosines with an EMA target from 0.99 to 1."""
    return _small("isoloss", IsoLossConfig(), NetworkConfig(projector_width=256))


def for_digits(config: RunConfig[Any]) -> RunConfig[Any]:
    """The same method for scikit-learn's 8 x 8 digits: a tiny net, smaller batches, more epochs."""
    return replace(config, data="digits", encoder="conv-tiny", epochs=60)
