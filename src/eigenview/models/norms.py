"""Batch norms replaced by norms of one image: what an image's features are then depends on no other image.

Statistics over a batch tie its rows together before any loss sees them. Estimates that are unbiased for independent
rows (methods/unbiased_vicreg.py) and gradients of a batch in parts are exact only without that.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import nn

from eigenview.errors import require

Norm = Literal["batch", "group", "layer"]
NORMS: tuple[Norm, ...] = ("batch", "group", "layer")
CHANNELS_PER_GROUP = 16  # Wu and He 2018 (arXiv 1803.08494), table 3: as good there as 32 groups, at any width


def row_norm(batch_norm: nn.BatchNorm2d, norm: Norm) -> nn.GroupNorm:
    """A norm over the pixels of one image and 16 channels (group) or all of them (layer), with the same start.

    Where 16 does not divide the channels, groups are of their greatest common divisor.
    """
    channels = batch_norm.num_features
    groups = 1 if norm == "layer" else channels // math.gcd(channels, CHANNELS_PER_GROUP)
    new = nn.GroupNorm(groups, channels, eps=batch_norm.eps, affine=batch_norm.affine)
    if batch_norm.affine:
        with torch.no_grad():
            new.weight.copy_(batch_norm.weight)
            new.bias.copy_(batch_norm.bias)
    return new


def row_norms(name: str, network: nn.Module, norm: Norm) -> dict[str, nn.Module]:
    """Dotted name -> norm that takes the place of each batch norm of a network; nothing for `norm="batch"`.

    Raises: UserError for a network without batch norms, and for one whose batch norms do more than normalise (timm's
    with an activation inside).
    """
    require(norm in NORMS, "network.encoder_norm", norm, ", ".join(NORMS))
    if norm == "batch":
        return {}
    found = {path: m for path, m in network.named_modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)}
    plain = {path: m for path, m in found.items() if type(m) is nn.BatchNorm2d}
    require(
        len(found) > 0,
        "network.encoder_norm",
        norm,
        f"batch with {name}, which has no batch norm",
        "Its images do not depend on each other as it is.",
    )
    require(
        len(plain) == len(found),
        "network.encoder_norm",
        norm,
        f"batch with {name}, whose batch norms have an activation inside",
        "ResNets and the conv nets can have it.",
    )
    return {path: row_norm(m, norm) for path, m in plain.items()}
