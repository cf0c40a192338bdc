"""Random tensors with an explicit seed."""

import torch
from torch import Tensor


def random(*shape: int, seed: int = 0) -> Tensor:
    """Standard normal numbers in float64."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def whitened(samples: int, width: int) -> Tensor:
    """Columns of mean 0, biased variance 1 and no correlation at all."""
    z = random(samples, width)
    return torch.linalg.qr(z - z.mean(0)).Q * samples**0.5
