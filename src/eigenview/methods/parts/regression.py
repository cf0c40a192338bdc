"""Distance from predictions to targets over pairs of views: the loss of BYOL, DirectSet and IsoLoss."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from eigenview.functional.similarity import cosine
from eigenview.functional.view_pairs import Pairs, mean_cosine, mean_sq_distance, weighted


def regression(p: Float[Tensor, "n D"], target: Float[Tensor, "n D"], normalise: bool = True) -> Float[Tensor, ""]:
    """Mean over samples of |p - target|^2, of unit vectors (2 - 2 cosine, in [0, 4]) unless `normalise` is off."""
    if normalise:
        return 2 - 2 * cosine(p, target).mean()
    return (p - target).square().sum(dim=-1).mean()


def between_views(
    p: Float[Tensor, "V n D"], target: Float[Tensor, "T n D"], pairs: Pairs, normalise: bool = True
) -> Float[Tensor, ""]:
    """Twice the mean over `pairs` (a, b) of different views of `regression(p_a, target_b)`; the sum for two views.

    Time and memory V n D: no pair is formed (functional/view_pairs.py).
    """
    if normalise:
        return 2 * weighted(2 - 2 * mean_cosine(p, target, pairs), pairs)
    return 2 * weighted(mean_sq_distance(p, target, pairs), pairs)
