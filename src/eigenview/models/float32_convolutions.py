"""Convolutions that are trained in float32 on a CPU, whatever precision the network has.

Depthwise ones: their backward pass in bfloat16 takes several times as long as in float32, which made a step of
EfficientNet-Lite0 at 96 px 2.3 times as long (docs/log.md). Grouped convolutions of other kinds do not.

Those some of whose taps see nothing but padding (a map of one pixel before a stride of two, say): in bfloat16 the
gradients of such taps are whatever lay in memory, nan too. They are 0. Such taps do not change the features at this
size of images, so that nothing would be noticed before the encoder is used at another one.
"""

from __future__ import annotations

import functools

import torch
from torch import Tensor, nn


class InFloat32(nn.Conv2d):
    """Mixed into the class of a convolution: under autocast on a CPU, float32 where a gradient needs it."""

    def forward(self, input: Tensor) -> Tensor:
        is_half = input.device.type == "cpu" and torch.is_grad_enabled() and torch.is_autocast_enabled("cpu")
        if not is_half or not (is_depthwise(self) or has_blind_taps(self, input.shape[-2:])):
            return super().forward(input)
        with torch.autocast("cpu", enabled=False):
            return super().forward(input.float())


def is_depthwise(convolution: nn.Conv2d) -> bool:
    """Whether each channel is convolved by itself."""
    return convolution.groups == convolution.in_channels > 1


def has_blind_taps(convolution: nn.Conv2d, sides: tuple[int, ...]) -> bool:
    """Whether some values of its kernel meet nothing but padding, at every place of an image with these sides."""
    padding = convolution.padding if isinstance(convolution.padding, str) else tuple(convolution.padding)
    of = convolution.kernel_size, convolution.stride, convolution.dilation
    return _has_blind_taps(tuple(sides), padding, *map(tuple, of))


@functools.lru_cache(maxsize=4096)
def _has_blind_taps(
    sides: tuple[int, ...],
    padding: str | tuple[int, ...],
    kernel: tuple[int, ...],
    stride: tuple[int, ...],
    dilation: tuple[int, ...],
) -> bool:
    for axis, side in enumerate(sides):
        span = dilation[axis] * (kernel[axis] - 1)
        before = 0 if padding == "valid" else span // 2 if padding == "same" else int(padding[axis])
        after = span - before if padding == "same" else before
        places = max(0, side + before + after - span - 1) // stride[axis] + 1
        starts = [place * stride[axis] - before for place in range(places)]
        for tap in range(0, span + 1, dilation[axis]):
            if not any(0 <= start + tap < side for start in starts):
                return True
    return False


@functools.cache
def _with_float32(kind: type[nn.Conv2d]) -> type[nn.Conv2d]:
    return type(kind.__name__, (InFloat32, kind), {})


def train_in_float32_where_needed(network: nn.Module) -> None:
    """Change the class of the convolutions of a network that may need it, in place; names, values and copies stay."""
    for module in network.modules():
        if not isinstance(module, nn.Conv2d) or isinstance(module, InFloat32):
            continue
        if is_depthwise(module) or max(module.kernel_size) > 1:
            module.__class__ = _with_float32(type(module))
