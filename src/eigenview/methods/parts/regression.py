"""Distance from predictions to targets over pairs of views: the loss of BYOL, DirectSet and IsoLoss."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from eigenview.functional.similarity import cosine


def regression(p: Float[Tensor, "n D"], target: Float[Tensor, "n D"], normalise: bool = True) -> Float[Tensor, ""]:
    """Mean over samples of |p - target|^2, of unit vectors (2 - 2 cosine, in [0, 4]) unless `normalise` is off."""
    if normalise:
        return 2 - 2 * cosine(p, target).mean()
    return (p - target).square().sum(dim=-1).mean()


def between_views(
    p: Float[Tensor, "V n D"], target: Float[Tensor, "T n D"], pairs: list[tuple[int, int]], normalise: bool = True
) -> Float[Tensor, ""]:
    """Twice the mean over `pairs` (a, b) of different views of `regression(p_a, target_b)`; the sum for two views."""
    return 2 * torch.stack([regression(p[a], target[b], normalise) for a, b in pairs]).mean()
