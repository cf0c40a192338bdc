"""The two heads on top of an encoder: projector (h to z) and learned predictor (z to p)."""

from __future__ import annotations

from torch import nn

from eigenview.config import NetworkConfig


def projector(in_width: int, config: NetworkConfig) -> nn.Sequential:
    """h (N H) to z (N D): `projector_layers` linear layers with batch norm and ReLU between.

    **Definition** - hidden layers are Linear without bias, BatchNorm, ReLU; the last is Linear without bias, followed
    by BatchNorm without scale and offset if `projector_last_norm`. With 0 layers z is h itself, not normalised, and
    `projector_width` is not used: `embedding_width` gives D in both cases.

    **Shapes** - (N in_width) -> (N D). In training N must be 2 or more (batch norm).

    **Reference** - three layers of 8192 with a plain last layer: VICReg (Bardes et al. 2022, arXiv 2105.04906, 4.2) and
    Barlow Twins (Zbontar et al. 2021, arXiv 2103.03230, 2.2); normalised output: SimSiam (Chen and He 2021, arXiv
    2011.10566, 3).
    """
    layers: list[nn.Module] = []
    width = in_width
    for _ in range(config.projector_layers - 1):
        layers += [nn.Linear(width, config.projector_hidden, bias=False), nn.BatchNorm1d(config.projector_hidden)]
        layers += [nn.ReLU(inplace=True)]
        width = config.projector_hidden
    if config.projector_layers:
        layers += [nn.Linear(width, config.projector_width, bias=False)]
        if config.projector_last_norm:
            layers += [nn.BatchNorm1d(config.projector_width, affine=False)]
    return nn.Sequential(*layers)


def embedding_width(in_width: int, config: NetworkConfig) -> int:
    """D, the width of what `projector` gives."""
    return config.projector_width if config.projector_layers else in_width


def predictor(width: int, hidden: int) -> nn.Sequential:
    """z (N D) to p (N D): Linear without bias, BatchNorm, ReLU, Linear with bias.

    **Reference** - BYOL (Grill et al. 2020, arXiv 2006.07733, 3.3) and SimSiam (Chen and He 2021, arXiv 2011.10566, 3),
    whose output layer has neither norm nor activation. BYOL's first layer also has a bias, which the norm after it
    cancels.
    """
    return nn.Sequential(
        nn.Linear(width, hidden, bias=False), nn.BatchNorm1d(hidden), nn.ReLU(inplace=True), nn.Linear(hidden, width)
    )
