"""Colour operations on batches of RGB images in [0, 1], each image with its own factors; torchvision's definitions.

Images are (N 3 h w) float; factors (N). Nothing here draws random numbers; only `blend_` writes to its argument.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

GRAY = (0.2989, 0.587, 0.114)  # ITU-R BT.601 luma as torchvision rounds it: the sum is 0.9999
BRIGHTNESS, CONTRAST, SATURATION, HUE = range(4)  # torchvision's numbering of ColorJitter's operations


def luma(images: Tensor) -> Tensor:
    """Gray value of each pixel, (N 1 h w)."""
    red, green, blue = images.split(1, dim=1)
    return (red * GRAY[0]).add_(green, alpha=GRAY[1]).add_(blue, alpha=GRAY[2])


def grayscale(images: Tensor) -> Tensor:
    """The gray image in three equal channels."""
    return luma(images).repeat(1, 3, 1, 1)


def solarize(images: Tensor, threshold: float) -> Tensor:
    """1 - x where x >= threshold."""
    return torch.where(images >= threshold, 1 - images, images)


def blend_(images: Tensor, keep: Tensor, gray: Tensor, mean: Tensor) -> Tensor:
    """keep x + gray luma(x) + mean (average of luma(x) over the image), clamped to [0, 1], in place; weights (N).

    Brightness by f is (f, 0, 0), contrast (f, 0, 1 - f), saturation (f, 1 - f, 0). Of images (N c h w) that are not RGB
    luma(x) is x: contrast is about the mean of each channel, saturation changes nothing.
    """
    keep, gray, mean = (w[:, None, None, None] for w in (keep, gray, mean))
    if images.shape[1] != 3:  # each channel is its own gray
        average = images.mean((2, 3), keepdim=True)
        return images.mul_(keep + gray).add_(average.mul_(mean)).clamp_(0, 1)
    light = luma(images)
    average = light.mean((2, 3), keepdim=True)
    return images.mul_(keep).add_(light.mul_(gray).add_(average.mul_(mean))).clamp_(0, 1)


def shift_hue(images: Tensor, turns: Tensor) -> Tensor:
    """Rotate the hue of HSV by `turns` (N, in turns of the colour circle); saturation and value stay.

    With V the largest, m the smallest channel, C = V - m, the hue in sixths of a turn from red is (mod 6)
        t = sign(green - blue) [(V - red) + (green - m) + (blue - m)] / C,
    which runs from 0 (red) over 2 (green) to 3 (cyan) where green >= blue, and is mirrored where blue > green. Back:
        red = m + C c(|t - 3| - 1), green = V - C c(|t - 2| - 1), blue = V - C c(|t - 4| - 1), c = clamp to [0, 1].
    No branches: selecting by case (torch.where) costs more here than all of the arithmetic.
    """
    red, green, blue = images.unbind(1)
    value = torch.maximum(red, green).clamp_(min=blue)
    least = torch.minimum(red, green).clamp_(max=blue)
    chroma = value - least
    hue = (value - red).add_(green).add_(blue).sub_(least, alpha=2).div_(chroma.clamp(min=1e-12))  # any hue where C = 0
    hue = hue.copysign_(green - blue).add_(6 * turns[:, None, None])
    hue = hue.sub_((hue / 6).floor_(), alpha=6)

    shifted = torch.empty_like(images)
    for channel, far in enumerate((3, 2, 4)):
        weight = shifted[:, channel].copy_(hue).sub_(far).abs_().sub_(1).clamp_(0, 1).mul_(chroma)
        if channel == 0:
            weight.add_(least)
        else:
            weight.neg_().add_(value)
    return shifted


@dataclass(frozen=True)
class JitterPlan:
    """Colour jitter of a batch, arranged so that all images share one sequence: 3 blends, the hue, 3 blends.

    Each image draws its own order of the four operations. Seen from the hue shift, an order is up to three blends
    before it and the rest after it. Slots an image has no blend for hold (1, 0, 0), which leaves it exactly as it is.
    """

    active: Tensor  # (N 6) bool: blends 0..2 come before the hue shift, 3..5 after it
    weights: Tensor  # (N 6 3): keep, gray, mean of `blend_`
    on: Tensor  # (N) bool: images with any jitter
    hue: Tensor  # (N) turns

    def rows(self, part: slice) -> JitterPlan:
        """The plan of some of the images."""
        return JitterPlan(self.active[part], self.weights[part], self.on[part], self.hue[part])


def plan_jitter(on: Tensor, order: Tensor, factors: Tensor, hue: Tensor) -> JitterPlan:
    """Arrange the jitter: `on` (N) bool, `order` (N 4) operation at each place, `factors` (N 3), `hue` (N) in turns."""
    zero = torch.zeros_like(factors[:, 0])
    rest = 1 - factors
    brightness = torch.stack([factors[:, BRIGHTNESS], zero, zero], 1)
    contrast = torch.stack([factors[:, CONTRAST], zero, rest[:, CONTRAST]], 1)
    saturation = torch.stack([factors[:, SATURATION], rest[:, SATURATION], zero], 1)
    weights = torch.stack([brightness, contrast, saturation, torch.zeros_like(contrast)], 1)  # (N operation 3)

    hue_place = (order == HUE).long().argmax(1, keepdim=True)
    slot = torch.arange(3, device=order.device).expand(len(order), 3)
    place = torch.cat([slot, hue_place + 1 + slot], 1)
    active = torch.cat([slot < hue_place, hue_place + 1 + slot < 4], 1) & on[:, None]
    operation = order.gather(1, place.clamp(max=3))
    chosen = weights.gather(1, operation[:, :, None].expand(-1, -1, 3))
    identity = torch.stack([zero + 1, zero, zero], 1)[:, None]
    return JitterPlan(active, torch.where(active[:, :, None], chosen, identity), on, hue)
