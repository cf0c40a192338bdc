"""Crop, flip, resize and blur of a batch, each image with its own parameters, as two small matrices per image.

All of them are linear and separable: view = rows @ image @ columns^T, with `rows` (out, in) acting on the vertical axis
and `columns` on the horizontal one. Two batched matrix products do a whole batch; a matrix is mostly zeros, and for
small images still faster than gathering the few pixels that count.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import interpolate, pad


def separable(images: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """rows @ image @ columns^T for each channel: (N C H W), (N h H), (N w W) to (N C h w).

    Where float32 products are allowed to run in TF32, weights are rounded by up to 2^-11: an eighth of a grey level.
    """
    n, channels, height, width = images.shape
    across = torch.matmul(images.reshape(n, channels * height, width), columns.transpose(1, 2))
    return torch.matmul(rows[:, None], across.view(n, channels, height, -1))


def _triangle(x: Tensor) -> Tensor:
    """Bilinear filter: 1 - |x| on [-1, 1]."""
    return x.abs_().neg_().add_(1).clamp_(min=0)


def _cubic(x: Tensor) -> Tensor:
    """Keys' cubic filter with a = -1/2, as Pillow and torchvision's antialiased resize; zero outside [-2, 2].

    For t = |x| it is 1.5 t^3 - 2.5 t^2 + 1 up to 1 and -0.5 (t - 1) (t - 2)^2 up to 2. With p = max(1 - t, 0) and
    q = max(2 - t, 0) both are q^2 (q - 1) / 2 + p^2 (1 - 2 p), without selecting by case.
    """
    q = x.abs_().neg_().add_(2).clamp_(min=0)
    r = q - 1
    p = r.clamp(min=0)
    return q.square_().mul_(r).mul_(0.5).addcmul_(p.square(), p.mul_(-2).add_(1))


def resize_matrix(
    start: Tensor, length: Tensor, source: int, size: int, interpolation: str, flip: Tensor | None = None
) -> Tensor:
    """Weights (N, size, source) that resample pixels start .. start + length - 1 to `size` pixels, antialiased.

    Definition: with scale s = length / size, output o looks at c = start + (o + 1/2) s - 1/2 and weighs pixel p inside
    the crop by filter((p - c) / max(s, 1)), rows normalised to sum 1: what torchvision's resized_crop(antialias=True)
    does. `flip` (N, bool) mirrors the output.
    """
    scale = length / size
    out = torch.arange(size, device=start.device, dtype=torch.float32).expand(len(start), size)
    if flip is not None:
        out = torch.where(flip[:, None], size - 1 - out, out)
    centre = start[:, None] + (out + 0.5) * scale[:, None] - 0.5
    shrink = (1 / scale.clamp(min=1))[:, None]
    pixel = torch.arange(source, device=start.device, dtype=torch.float32)
    kernel = _cubic if interpolation == "bicubic" else _triangle
    weight = kernel((pixel * shrink)[:, None] - (centre * shrink)[:, :, None])
    inside = (pixel >= start[:, None]) & (pixel < (start + length)[:, None])
    weight *= inside.float()[:, None]
    return weight.div_(weight.sum(2, keepdim=True))


def crop_one(
    image: Tensor, box: tuple[int, int, int, int], flips: tuple[bool, bool], size: int, interpolation: str
) -> Tensor:
    """The same crop, resize and flips (vertical, horizontal) for one uint8 image (C S S), whose box (top, left, height,
    width) is on the host.

    torch's own antialiased resize: slower to start than a share of a batched product, faster for a large image.
    """
    top, left, height, width = box
    part = image[None, :, top : top + height, left : left + width].float()
    resized = interpolate(part, size=(size, size), mode=interpolation, antialias=True)[0]
    axes = [1 + axis for axis, flip in enumerate(flips) if flip]
    return resized.flip(axes) if axes else resized


def blur_matrix(sigma: Tensor, size: int, kernel: int) -> Tensor:
    """Gaussian filter (N, size, size) of odd width `kernel`, normalised to sum 1, borders reflected without repetition.

    `sigma` (N) is in pixels. The band matrix of the padded image is built first, then its margins are folded back.
    """
    radius = kernel // 2
    offset = torch.arange(-radius, radius + 1, device=sigma.device, dtype=torch.float32)
    weight = torch.softmax(-0.5 * (offset / sigma[:, None]) ** 2, dim=1)
    padded = size + 2 * radius
    # Writing the kernel every padded + 1 places of a flat row shifts it by one column per row: a band matrix.
    flat = pad(weight[:, None].expand(-1, size, -1), (0, padded + 1 - kernel))
    band = flat.reshape(len(sigma), -1)[:, : size * padded].reshape(-1, size, padded)
    folded = band[:, :, radius : radius + size].clone()
    folded[:, :, 1 : radius + 1] += band[:, :, :radius].flip(2)
    folded[:, :, size - 1 - radius : size - 1] += band[:, :, radius + size :].flip(2)
    return folded
