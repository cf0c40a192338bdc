"""Batch norms that do not depend on other images: replaced by group or layer norms, or with averages that stay.

Batch norm makes the samples of a batch depend on each other. Estimates that are unbiased for independent samples
(methods/unbiased_vicreg.py) and gradients computed over parts of a batch are exact only without it. And a published
backbone whose averages follow other images can lose more than training gives back (docs/adapt.md).
"""

from __future__ import annotations

import math
from typing import Literal, Self

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from eigenview.errors import require
from eigenview.models.mixed_in import MixedIn, mixed

Norm = Literal["batch", "group", "layer"]
NORMS: tuple[Norm, ...] = ("batch", "group", "layer")
CHANNELS_PER_GROUP = 16  # Wu and He 2018 (arXiv 1803.08494), table 3: as accurate there as 32 groups, for any width


def row_norm(batch_norm: nn.BatchNorm2d, norm: Norm) -> nn.GroupNorm:
    """A norm over the pixels of one image and 16 channels (group) or all of them (layer); same initial values.

    If 16 does not divide the number of channels, a group has as many channels as their greatest common divisor.
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
    """Dotted name -> the norm that replaces each batch norm of a network; empty for `norm="batch"`.

    Raises: UserError for a network without batch norms, and for one whose batch norms contain an activation (timm's).
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
        "Its features depend on one image only already.",
    )
    require(
        len(plain) == len(found),
        "network.encoder_norm",
        norm,
        f"batch with {name}, whose batch norms have an activation inside",
        "Use a ResNet or one of the conv nets.",
    )
    return {path: row_norm(m, norm) for path, m in plain.items()}


class KeepsStatistics(MixedIn, _BatchNorm):
    """Mixed into the class of a batch norm: it normalises by its running averages, in training too, and they stay."""

    def train(self, mode: bool = True) -> Self:
        """Evaluation mode, whatever is asked for."""
        return super().train(False)


def keep_statistics(network: nn.Module) -> None:
    """Change the class of every batch norm of a network in place; names, values and copies stay the same."""
    for module in network.modules():
        if isinstance(module, _BatchNorm) and not isinstance(module, KeepsStatistics):
            module.__class__ = mixed(KeepsStatistics, type(module))
            module.eval()


def couples_images(network: nn.Module) -> bool:
    """Whether a batch norm makes the features of an image depend on the others of its batch in training."""
    return any(isinstance(part, _BatchNorm) and not isinstance(part, KeepsStatistics) for part in network.modules())
