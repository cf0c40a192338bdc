"""Depthwise convolutions that are trained in float32 on a CPU, whatever precision the network has.

On a CPU the backward pass of a depthwise convolution in bfloat16 takes several times as long as in float32, which made
a step of EfficientNet-Lite0 at 96 px 2.3 times as long (docs/log.md). Grouped convolutions of other kinds do not.
"""

from __future__ import annotations

import functools

import torch
from torch import Tensor, nn


class InFloat32(nn.Conv2d):
    """Mixed into the class of a convolution: under autocast on a CPU, float32 where a gradient is wanted."""

    def forward(self, input: Tensor) -> Tensor:
        is_slow = input.device.type == "cpu" and torch.is_grad_enabled() and torch.is_autocast_enabled("cpu")
        if not is_slow:
            return super().forward(input)
        with torch.autocast("cpu", enabled=False):
            return super().forward(input.float())


@functools.cache
def _with_float32(kind: type[nn.Conv2d]) -> type[nn.Conv2d]:
    return type(kind.__name__, (InFloat32, kind), {})


def train_depthwise_in_float32(network: nn.Module) -> None:
    """Change the class of every depthwise convolution of a network in place; names, values and copies stay the same."""
    for module in network.modules():
        is_depthwise = isinstance(module, nn.Conv2d) and module.groups == module.in_channels > 1
        if is_depthwise and not isinstance(module, InFloat32):
            module.__class__ = _with_float32(type(module))
