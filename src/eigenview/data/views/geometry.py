"""Turns and rotations of a batch of square images (N C S S), each with its own amount; torchvision's definitions."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample


def quarter_turn(images: Tensor, turns: int) -> Tensor:
    """All images turned by `turns` times 90 degrees, counter-clockwise."""
    return torch.rot90(images, turns, (2, 3))


def rotate(images: Tensor, angle: Tensor) -> Tensor:
    """Each image turned about its centre by `angle` (N, in degrees, counter-clockwise), bilinearly.

    What a turned corner uncovers shows the image reflected at its border, so that no empty corner gives the angle away:
    torchvision's center_crop(rotate(pad(x, margin, "symmetric"), angle, BILINEAR), S) for a margin that is wide enough.
    """
    turn = angle * (math.pi / 180)
    cos, sin, zero = turn.cos(), turn.sin(), torch.zeros_like(turn)
    back = torch.stack([cos, -sin, zero, sin, cos, zero], 1).view(-1, 2, 3)  # from a pixel of the result to its source
    grid = affine_grid(back, list(images.shape), align_corners=False)
    return grid_sample(images, grid, mode="bilinear", padding_mode="reflection", align_corners=False)


def in_box(box: Tensor, size: int) -> Tensor:
    """bool (N 1 size size): pixels inside each box (N 4: top, left, height, width)."""
    top, left, height, width = box[:, :, None].unbind(1)
    pixel = torch.arange(size, device=box.device)
    rows = (pixel >= top) & (pixel < top + height)
    columns = (pixel >= left) & (pixel < left + width)
    return (rows[:, :, None] & columns[:, None, :])[:, None]
