"""Cross-correlations of a batch spread over processes; formulas as in `fused/cross_correlation.py`.

s_a the standardised view a (N D), of which this process has n rows, C_ab = s_a^T s_b / N, K_a = s_a s_a^T / N. Over
pairs of views

    sum ||C_ab||_F^2 = sum over processes of sum over a < b of <K_a, K_b> in own rows,
    d/ds_a (own rows) = (2/N) (sum over b != a of K_b in own rows) s_a    (gathered), or (2/N) sum over b of s_b C_ab^T
    with C_ab summed over processes.
"""

from __future__ import annotations

from itertools import combinations
from typing import Any, cast

import torch
from torch import Tensor

from eigenview.functional.fused.centring import deviations, two_means
from eigenview.functional.fused.cross_correlation import columns
from eigenview.functional.fused.first_order import first_order
from eigenview.functional.moments import in_range
from eigenview.functional.sharded.processes import (
    gather_samples,
    global_deviations,
    own_rows,
    sum_is_cheaper,
)
from eigenview.records import Processes


def _gathered(z: Tensor, eps: float, processes: Processes) -> tuple[Tensor, ...]:
    """(own s, rate, diagonals, off-diagonal squared norm, own slope, mean of s times slope), from the gathered rows.

    The slope is that of the squared norm with the diagonal.
    """
    everyone, rows = gather_samples(z, processes), own_rows(z.shape[1], processes)
    count = everyone.shape[1]
    first, left = two_means(everyone, torch.empty_like(everyone[0]))
    for a, view in enumerate(everyone):
        deviations(view, first[a], left[a], out=view)
    rate = (in_range(everyone.square().mean(dim=1, keepdim=True)) + eps).rsqrt()
    s = everyone.mul_(rate)
    own = s[:, rows]
    diagonals = torch.stack([(s[a] * s[b]).mean(dim=0) for a, b in combinations(range(len(z)), 2)])
    grams = torch.stack([part @ view.mT for part, view in zip(own, s, strict=True)]).mul_(1 / count)
    others = grams.sum(dim=0) - grams
    sq_norm = processes.sum((grams * others).sum().double()) / 2  # each pair is met twice
    slope = (others @ s).mul_(2 / count)
    along = processes.sum((own * slope).sum(dim=1)) / count
    return own, rate, diagonals, sq_norm - diagonals.double().square().sum(), slope, along


def _summed(z: Tensor, eps: float, processes: Processes) -> tuple[Tensor, ...]:
    """The same from own rows and sums over processes, the squared norm and its slope without the diagonals."""
    count = z.shape[1] * processes.size
    _, _, y = global_deviations(z, processes)
    rate = (in_range(processes.sum(y.square().sum(dim=1, keepdim=True)) / count) + eps).rsqrt()
    own = y.mul_(rate)
    pairs = list(combinations(range(len(z)), 2))
    C = processes.sum(torch.stack([own[a].mT @ own[b] for a, b in pairs]).div_(count))
    diagonals = C.diagonal(dim1=1, dim2=2).clone()
    C.diagonal(dim1=1, dim2=2).zero_()
    slope = torch.zeros_like(own)
    for (a, b), c in zip(pairs, C, strict=True):
        slope[a].addmm_(own[b], c.mT, alpha=2 / count)
        slope[b].addmm_(own[a], c, alpha=2 / count)
    along = processes.sum((own * slope).sum(dim=1)) / count
    return own, rate, diagonals, C.square().sum(), slope, along


class _ShardedCorrelations(torch.autograd.Function):
    """z (V n D) -> (diagonals of C_ab (P D), mean over pairs of the off-diagonal squared norm)."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, eps: float, processes: Processes) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        views, own, width = z.shape
        count = own * processes.size
        pairs = views * (views - 1) // 2
        # the variances are one more sum
        by_sum = sum_is_cheaper(views, own, width, processes.size, pairs * width**2 + views * width)
        form = _summed if by_sum else _gathered
        s, rate, diagonals, sq_norm, slope, along = form(z, eps, processes)
        ctx.save_for_backward(z, s, rate, diagonals, slope, along)
        ctx.by_sum, ctx.processes, ctx.count = by_sum, processes, count
        ctx.set_materialize_grads(False)
        return diagonals, (sq_norm / pairs).to(z.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> Any:
        z, s, rate, diagonals, slope, along = cast(tuple[Tensor, ...], ctx.saved_tensors)
        for_diagonals, for_sq_norm = grads
        pairs = list(combinations(range(len(z)), 2))
        with torch.no_grad():
            pull = torch.zeros_like(diagonals) if for_diagonals is None else for_diagonals
            if for_sq_norm is not None and not ctx.by_sum:
                pull = pull - diagonals * (2 * for_sq_norm / len(pairs))
            column = columns(pull, diagonals, pairs, len(z), ctx.count)
            out = torch.zeros_like(s)
            if for_sq_norm is not None:
                weight = for_sq_norm / len(pairs)
                out.addcmul_(slope, rate * weight)
                column.diagonal().sub_((along * weight).mT)
            for a in range(len(z)):
                for b in range(len(z)):
                    out[a].addcmul_(s[b], column[a, b] * rate[a, 0])
            out = out * ctx.processes.size  # DDP divides by it
        return first_order(out, "a sharded cross-correlation term", z, *grads), None, None


def sharded_cross_correlations(z: Tensor, eps: float, processes: Processes) -> tuple[Tensor, Tensor]:
    """`fused.cross_correlation.cross_correlations` of the global batch; the same values on every process.

    The gradient is `size` times that of the global statistics with respect to the own rows, which DDP's average over
    processes turns into the global gradient; it assumes that all processes hold the same loss. Differentiable once.
    Sends the smaller of V N D and V (V-1) D^2 numbers, and a few vectors, all in the forward pass.
    """
    return cast(tuple[Tensor, Tensor], _ShardedCorrelations.apply(z, eps, processes))
