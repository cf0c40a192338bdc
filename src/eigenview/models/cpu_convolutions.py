"""Convolutions that torch trains slowly or wrongly on a CPU, trained otherwise.

In float32, whatever precision the network has:

* Depthwise ones: their backward pass in bfloat16 takes several times as long as in float32, which made a step of
  EfficientNet-Lite0 at 96 px 2.3 times as long (docs/log.md). Grouped convolutions of other kinds do not.
* Those some of whose taps see nothing but padding (a map of one pixel before a stride of two, say): in bfloat16 the
  gradients of such taps are whatever lay in memory, nan too. They are 0. Such taps do not change the features at this
  size of images, so that nothing would be noticed before the encoder is used at another one.

With the weight gradient of depthwise.py: depthwise ones on small maps.
"""

from __future__ import annotations

import functools

import torch
from torch import Tensor, nn

from eigenview.models.depthwise import depthwise, is_faster
from eigenview.models.mixed_in import MixedIn, mixed


class OnCpu(MixedIn, nn.Conv2d):
    """Mixed into the class of a convolution: float32 where a gradient needs it, and a quick gradient of the weight."""

    def forward(self, input: Tensor) -> Tensor:
        is_half = input.device.type == "cpu" and torch.is_grad_enabled() and torch.is_autocast_enabled("cpu")
        if not is_half or not (is_depthwise(self) or has_blind_taps(self, input.shape[-2:])):
            return super().forward(input)
        with torch.autocast("cpu", enabled=False):
            return super().forward(input.float())

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if torch.is_grad_enabled() and weight.requires_grad and _has_slow_gradient(self, input):
            return depthwise(input, weight, bias, self.stride, self.padding, self.dilation)  # type: ignore[arg-type]
        return super()._conv_forward(input, weight, bias)


def _has_slow_gradient(convolution: nn.Conv2d, input: Tensor) -> bool:
    """Whether the weight's gradient is faster by depthwise.py, of what it can do: zeros for padding, 4 axes, a filter a
    channel, no half precision."""
    if input.device.type != "cpu" or input.ndim != 4 or input.dtype not in (torch.float32, torch.float64):
        return False
    if isinstance(convolution.padding, str) or convolution.padding_mode != "zeros":
        return False
    shape = convolution.kernel_size, convolution.stride, convolution.padding, convolution.dilation
    is_one_each = is_depthwise(convolution) and convolution.out_channels == convolution.in_channels
    return is_one_each and is_faster(input.shape[-2:], *shape)  # type: ignore[arg-type]


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


def prepare_for_cpu(network: nn.Module) -> None:
    """Change the class of the convolutions of a network that may need it, in place; names, values and copies stay."""
    for module in network.modules():
        if not isinstance(module, nn.Conv2d) or isinstance(module, OnCpu):
            continue
        if is_depthwise(module) or max(module.kernel_size) > 1:
            module.__class__ = mixed(OnCpu, type(module))
