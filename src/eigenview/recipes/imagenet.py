"""ResNet-50 at 224 px with the published ImageNet settings; each function names its source.

Not run by this project: a run takes days on several GPUs. Numbers are the authors' linear top-1 accuracies.
Command: torchrun --nproc-per-node 8 -m eigenview pretrain IMAGENET/train --recipe imagenet-vicreg
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from eigenview.config import NetworkConfig, OptimConfig, RunConfig
from eigenview.methods.barlow_twins import BarlowTwinsConfig
from eigenview.methods.byol import BYOLConfig
from eigenview.methods.simclr import SimCLRConfig
from eigenview.methods.simsiam import SimSiamConfig
from eigenview.methods.vicreg import VICRegConfig

EXPANDER = NetworkConfig(projector_hidden=8192, projector_width=8192, projector_layers=3, stem="standard")
LARS = OptimConfig(
    name="lars", lr_per_256=0.2, weight_decay=1e-6, momentum=0.9, trust_coefficient=0.001, warmup_epochs=10,
    final_fraction=0.001,
)  # fmt: skip


def _resnet50(method: Any, network: NetworkConfig, optim: OptimConfig, **fields: Any) -> RunConfig[Any]:
    return RunConfig(
        data="imagenet/train",
        method=method,
        network=network,
        optim=optim,
        encoder="timm:resnet50",  # torchvision's architecture; the last norm of each block starts at 0, as in all five
        image_size=224,
        **fields,
    )


def vicreg() -> RunConfig[Any]:
    """Bardes et al. 2022, repository commit 4e12602: 1000 epochs, batch 2048, 73.2."""
    return _resnet50(VICRegConfig(), EXPANDER, LARS, epochs=1000, batch_size=2048)


def barlow_twins() -> RunConfig[Any]:
    """Zbontar et al. 2021, repository commit 8e8d284: 1000 epochs, batch 2048, 73.2 (their biases and norms train at
    .0048 per 256 beside .2 for weights; here LARS gives all of them the same base rate)."""
    return _resnet50(BarlowTwinsConfig(off_diagonal=0.0051), EXPANDER, LARS, epochs=1000, batch_size=2048)


def simclr() -> RunConfig[Any]:
    """Chen et al. 2020: batch 4096, temperature 0.1, 1000 epochs, 69.3."""
    network = NetworkConfig(projector_hidden=2048, projector_width=128, projector_last_norm=True, stem="standard")
    optim = replace(LARS, lr_per_256=0.3, final_fraction=0.0)
    return _resnet50(SimCLRConfig(temperature=0.1), network, optim, epochs=1000, batch_size=4096)


def byol() -> RunConfig[Any]:
    """Grill et al. 2020: batch 4096, tau .996 to 1, 1000 epochs, 74.3."""
    network = NetworkConfig(
        projector_hidden=4096, projector_width=256, predictor_hidden=4096, target_momentum=0.996, stem="standard"
    )
    optim = replace(LARS, weight_decay=1.5e-6, final_fraction=0.0)
    return _resnet50(BYOLConfig(), network, optim, epochs=1000, batch_size=4096)


def simsiam() -> RunConfig[Any]:
    """Chen and He 2021: SGD, batch 512, 100 epochs, 68.1 (71.3 after 800). Theirs holds the predictor's learning rate
    constant; here it follows the cosine of all others."""
    network = NetworkConfig(
        projector_hidden=2048,
        projector_width=2048,
        projector_layers=3,
        projector_last_norm=True,
        predictor_hidden=512,
        stem="standard",
    )
    optim = OptimConfig(name="sgd", lr_per_256=0.05, weight_decay=1e-4, momentum=0.9, warmup_epochs=0)
    return _resnet50(SimSiamConfig(), network, optim, epochs=100, batch_size=512)
