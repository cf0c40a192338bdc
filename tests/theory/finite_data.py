"""A law of images and views small enough to sum over: its expectations are exact."""

from __future__ import annotations

import torch
from torch import Tensor


def images_with_views(images: int = 4, views: int = 3, width: int = 3) -> Tensor:
    """(images views width): each image is one of its views with equal probability; images are equally likely."""
    generator = torch.Generator().manual_seed(0)
    middle = torch.randn(images, 1, width, generator=generator, dtype=torch.float64)
    return middle + 0.5 * torch.randn(images, views, width, generator=generator, dtype=torch.float64)


def moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """X = E[mean view's second moment] and X' = E[covariance of an image's views]."""
    mean = x.mean(dim=1)
    inner = (x - mean[:, None]).flatten(0, 1)
    return mean.T @ mean / len(mean), inner.T @ inner / len(inner)


def every_pair(x: Tensor) -> Tensor:
    """(2 pairs width): all ordered pairs of independently drawn views of an image, a view beside itself included."""
    count = x.shape[1]
    first, second = torch.cartesian_prod(torch.arange(count), torch.arange(count)).T
    return torch.stack([x[:, first].flatten(0, 1), x[:, second].flatten(0, 1)])


def draw(*shape: int, seed: int) -> Tensor:
    """A matrix of normal numbers."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
