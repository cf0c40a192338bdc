"""Depthwise convolution on a CPU whose weight gradient is a sum over taps.

torch's (oneDNN's) takes 40 ms for 1,152 channels on a map of 2 x 2 and 64 images, where the forward pass takes 0.2 ms
and this one 0.7 ms: it made up more than half of a step of EfficientNet-Lite0 at 64 px (docs/log.md). On maps of more
than `MOST_PLACES` torch's is as fast.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

MOST_PLACES = 64
"""Places of the output map up to which the sum over taps is used."""
Pair: TypeAlias = tuple[int, int]


def weight_gradient(
    input: Tensor, gradient: Tensor, kernel: Pair, stride: Pair, padding: Pair, dilation: Pair
) -> Tensor:
    """Gradient of a depthwise convolution's weight: at each tap the sum over images and places of input times gradient.

    Args:
        input: the convolution's input (N C H W).
        gradient: of its output (N C h w).
        kernel: sides of the kernel, as are the others for height and width.
        stride: pixels from one place to the next.
        padding: rows and columns of zeros on each side.
        dilation: pixels from one tap to the next.

    Returns:
        (C 1 kernel[0] kernel[1]).
    """
    pixels, out = input.permute(0, 2, 3, 1), gradient.permute(0, 2, 3, 1)
    found = input.new_zeros(*kernel, input.shape[1])
    rows, columns = (
        [_meeting(tap * dilation[axis] - padding[axis], stride[axis], *sides) for tap in range(kernel[axis])]
        for axis, sides in enumerate(zip(out.shape[1:3], pixels.shape[1:3], strict=True))
    )
    for i, (out_rows, pixel_rows) in enumerate(rows):
        for j, (out_columns, pixel_columns) in enumerate(columns):
            product = pixels[:, pixel_rows, pixel_columns] * out[:, out_rows, out_columns]
            found[i, j] = product.sum((0, 1, 2))
    return found.permute(2, 0, 1).unsqueeze(1)


def _meeting(first: int, stride: int, places: int, side: int) -> tuple[slice, slice]:
    """Places at which a tap meets a pixel and no padding, and those pixels; `first`: its pixel at the first place."""
    begin = max(0, -(first // stride))
    end = max(begin, min(places, (side - 1 - first) // stride + 1))
    start = begin * stride + first
    return slice(begin, end), slice(start, start + (end - begin) * stride, stride)


class _Depthwise(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, input: Tensor, weight: Tensor, bias: Tensor | None, *shape: Pair) -> Tensor:
        ctx.save_for_backward(input, weight)
        ctx.shape = shape
        return F.conv2d(input, weight, bias, *shape, groups=len(weight))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        (gradient,) = grad_outputs
        input, weight = ctx.saved_tensors
        channels, (stride, padding, dilation) = len(weight), ctx.shape
        of_input, of_weight, of_bias = ctx.needs_input_grad[:3]
        found_input, _, found_bias = torch.ops.aten.convolution_backward(
            gradient, input, weight, [channels], stride, padding, dilation, False, (0, 0), channels,
            (of_input, False, of_bias),
        )  # fmt: skip
        found = weight_gradient(input, gradient, weight.shape[-2:], *ctx.shape) if of_weight else None
        return found_input, found, found_bias, None, None, None


def depthwise(
    input: Tensor, weight: Tensor, bias: Tensor | None, stride: Pair, padding: Pair, dilation: Pair
) -> Tensor:
    """`conv2d` with one group a channel; differentiable once.

    Args:
        input: (N C H W).
        weight: (C 1 h w).
        bias: (C), or None.
        stride: of height and width, as are the others.
        padding: zeros on each side.
        dilation: pixels from one tap to the next.
    """
    return _Depthwise.apply(input, weight, bias, stride, padding, dilation)  # type: ignore[no-any-return]


def is_faster(sides: tuple[int, ...], kernel: Pair, stride: Pair, padding: Pair, dilation: Pair) -> bool:
    """Whether the sum over taps is, for an input of these sides."""
    places = 1
    for axis, side in enumerate(sides):
        places *= (side + 2 * padding[axis] - dilation[axis] * (kernel[axis] - 1) - 1) // stride[axis] + 1
    return 0 < places <= MOST_PLACES
