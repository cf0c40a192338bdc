"""Predictions compared with the targets of other views: means over pairs of views at a cost that grows as V.

The sum over pairs (a, b) of p_a . t_b is the sum over a of p_a . (sum of a's targets), and a's targets are all targets
less those that it does not predict, usually its own view. So no pair is formed, and the means are those over pairs.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from eigenview.functional.similarity import unit

Pairs = Sequence[tuple[int, int]]


def mean_cosine(p: Float[Tensor, "V n D"], target: Float[Tensor, "T n D"], pairs: Pairs) -> Float[Tensor, " A"]:
    """For each view a that predicts, the mean over its pairs (a, b) and the samples of cos(p_a, target_b).

    Weighted by `weights` they give the mean over pairs. A row shorter than 1e-12 has cosine 0 and no gradient.
    """
    u = unit(p).unbind()  # unlike u[a], whose gradient would be padded to that of all views
    means = _target_means(unit(target), pairs)
    return torch.stack([(u[a] * mean).sum(dim=-1).mean() for a, mean in means])


def mean_sq_distance(p: Float[Tensor, "V n D"], target: Float[Tensor, "T n D"], pairs: Pairs) -> Float[Tensor, " A"]:
    """As `mean_cosine`, of |p_a - target_b|^2.

    It is |p_a - m_a|^2 plus the mean over a's targets of |target_b - m_a|^2, m_a their mean. The second part comes
    from distances to the mean c of all targets, less |m_a - c|^2: 0 to the bit for a single target.
    """
    centre, predictions = target.mean(dim=0), p.unbind()
    spread = (target - centre).square().sum(dim=-1)
    found: list[Tensor] = []
    for (a, mean), (_, around) in zip(_target_means(target, pairs), _target_means(spread, pairs), strict=True):
        within = around - (mean - centre).square().sum(dim=-1)
        found.append(((predictions[a] - mean).square().sum(dim=-1) + within).mean())
    return torch.stack(found)


def weights(pairs: Pairs) -> list[float]:
    """The share of all pairs that each predicting view has, in the order of the two means above."""
    return [len(own) / len(pairs) for own in _targets(pairs).values()]


def weighted(means: Float[Tensor, " A"], pairs: Pairs) -> Float[Tensor, ""]:
    """The mean over pairs of what the two means above gave for each view."""
    return torch.stack([mean * share for mean, share in zip(means, weights(pairs), strict=True)]).sum()


def _targets(pairs: Pairs) -> dict[int, list[int]]:
    """View that predicts -> its targets, in order."""
    found: dict[int, list[int]] = {}
    for a, b in pairs:
        found.setdefault(a, []).append(b)
    return dict(sorted(found.items()))


def _target_means(x: Float[Tensor, "T ..."], pairs: Pairs) -> list[tuple[int, Float[Tensor, "..."]]]:
    """(a, mean over a's targets b of x_b) for each view that predicts.

    From the targets themselves where they are no more than the others (two views), else from the sum of all.
    """
    total, rows = None, x.unbind()
    found: list[tuple[int, Tensor]] = []
    for a, own in _targets(pairs).items():
        others = sorted(set(range(len(x))) - set(own))
        if len(own) <= len(others):
            summed = _sum(rows, own)
        else:
            total = _sum(rows, range(len(x))) if total is None else total
            summed = total - _sum(rows, others) if others else total
        found.append((a, summed / len(own)))
    return found


def _sum(rows: Sequence[Tensor], places: Sequence[int]) -> Tensor:
    """Sum of rows[b] over b in places."""
    return sum((rows[place] for place in places[1:]), start=rows[places[0]])
