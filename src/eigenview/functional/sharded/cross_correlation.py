"""Barlow Twins' two sums of a batch spread over processes; formulas as in `fused/cross_correlation.py`.

s_a the standardised view a (N D), of which this process has n rows, C_ab = s_a^T s_b / N, K_a = s_a s_a^T / N. Over
pairs of views

    sum ||C_ab||_F^2 = sum over processes of sum over a < b of <K_a, K_b> in own rows,
    d/ds_a (own rows) = (2/N) (sum over b != a of K_b in own rows) s_a    (gathered), or (2/N) sum over b of s_b C_ab^T
    with C_ab summed over processes. By columns (`columns.py`): K_a is summed over processes, from all rows of their
    shares of the features; the gradient is as in the gathered form.
"""

from __future__ import annotations

from itertools import combinations
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor

from eigenview.errors import require
from eigenview.functional.fused.centring import deviations, two_means
from eigenview.functional.fused.cross_correlation import columns
from eigenview.functional.fused.first_order import first_order
from eigenview.functional.moments import in_range
from eigenview.functional.sharded.columns import centred_columns, gather_columns, own_columns, to_rows
from eigenview.functional.sharded.processes import (
    Processes,
    cheapest,
    gather_samples,
    global_deviations,
    own_rows,
    summed_products,
)


def _gathered(z: Tensor, eps: float, processes: Processes) -> tuple[Tensor, ...]:
    """(own s, rate, diagonals, off-diagonal energy, slope in own rows, mean of s times slope), from everyone's rows.

    The slope is that of the energy with the diagonal's.
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
    energy = processes.sum((grams * others).sum().double()) / 2  # each pair is met twice
    slope = (others @ s).mul_(2 / count)
    along = processes.sum((own * slope).sum(dim=1)) / count
    return own, rate, diagonals, energy - diagonals.double().square().sum(), slope, along


def _by_columns(z: Tensor, eps: float, processes: Processes) -> tuple[Tensor, ...]:
    """The same of all rows of this process's share of the features; the diagonals are its own too."""
    count = z.shape[1] * processes.size
    s = centred_columns(z, processes)
    rate = (in_range(s.square().mean(dim=1, keepdim=True)) + eps).rsqrt()
    s.mul_(rate)
    diagonals = torch.stack([(s[a] * s[b]).mean(dim=0) for a, b in combinations(range(len(z)), 2)])
    grams = summed_products(s.mT, 1 / count, processes)
    others = grams.sum(dim=0) - grams
    energy = (grams * others).sum().double() / 2  # each pair is met twice
    slope = (others @ s).mul_(2 / count)
    squares = processes.sum(diagonals.double().square().sum())
    return s, rate, diagonals, energy - squares, slope, (s * slope).mean(dim=1)


def _summed(z: Tensor, eps: float, processes: Processes) -> tuple[Tensor, ...]:
    """The same from own rows and sums over processes, the energy and its slope without the diagonals."""
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
    """z (V n D) -> (diagonals of C_ab (P D), mean over pairs of the off-diagonal energy)."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, eps: float, processes: Processes) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        views, own, width = z.shape
        count = own * processes.size
        pairs = views * (views - 1) // 2
        # the variances are one more sum
        way = cheapest(views, own, width, processes.size, pairs * width**2 + views * width)
        form = {"gather": _gathered, "sum": _summed, "columns": _by_columns}[way]
        s, rate, diagonals, energy, slope, along = form(z, eps, processes)
        ctx.save_for_backward(z, s, rate, diagonals, slope, along)
        ctx.way, ctx.processes, ctx.count = way, processes, count
        ctx.set_materialize_grads(False)
        if way == "columns":
            diagonals = gather_columns(diagonals, width, processes)
        return diagonals, (energy / pairs).to(z.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> Any:
        z, s, rate, diagonals, slope, along = cast(tuple[Tensor, ...], ctx.saved_tensors)
        for_diagonals, for_energy = grads
        pairs = list(combinations(range(len(z)), 2))
        with torch.no_grad():
            if for_diagonals is None:
                pull = torch.zeros_like(diagonals)
            else:
                pull = own_columns(for_diagonals, ctx.processes) if ctx.way == "columns" else for_diagonals
            if for_energy is not None and ctx.way != "sum":
                pull = pull - diagonals * (2 * for_energy / len(pairs))
            column = columns(pull, diagonals, pairs, len(z), ctx.count)
            out = torch.zeros_like(s)
            if for_energy is not None:
                weight = for_energy / len(pairs)
                out.addcmul_(slope, rate * weight)
                column.diagonal().sub_((along * weight).mT)
            for a in range(len(z)):
                for b in range(len(z)):
                    out[a].addcmul_(s[b], column[a, b] * rate[a, 0])
            if ctx.way == "columns":
                out = to_rows(out, z.shape[2], ctx.processes)
            out = out * ctx.processes.size  # DDP divides by it
        return first_order(out, "a sharded cross-correlation term", z, *grads), None, None


def sharded_cross_correlation_terms(
    z: Float[Tensor, "V n D"], eps: float, processes: Processes
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """`fused_cross_correlation_terms` of the batch whose rows lie on `processes`, n on each; everywhere the same.

    The gradient is `size` times that of the global terms with respect to the rows at hand, which DDP's average over
    processes turns into the global gradient. Differentiable once.

    Sends what is least (`processes.cheapest`), and a few vectors: V N D numbers; or V (V-1) D^2; or, beyond two
    processes, 2 V n D + 1.06 V N^2, half of the first part in the backward pass, where otherwise nothing is sent.

    Raises: UserError for fewer than 2 views or 2 samples over all processes, and where it is differentiated twice.
    """
    views, count = z.shape[0], z.shape[1] * processes.size
    require(views >= 2, "views", views, "2 or more", "One view has nothing to be correlated with.")
    require(count >= 2, "samples in the batch", count, "2 or more", "Use a larger batch.")
    diagonals, off = cast(tuple[Tensor, Tensor], _ShardedCorrelations.apply(z, eps, processes))
    return (diagonals - 1).square().sum(dim=1).mean(), off
