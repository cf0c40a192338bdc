"""Second moments of a batch spread over processes; formulas as in `fused/moments.py`.

For one view with centred rows Y (N D), of which this process has y (n D), S = Y^T Y / (N-1), v its diagonal:

    ||S||_F^2 = sum over processes of ||y Y^T||_F^2 / (N-1)^2,   d ||S||_F^2 / dy = 4/(N-1)^2 (y Y^T) Y   (gathered), or
    S = sum over processes of y^T y / (N-1),                     d ||S||_F^2 / dy = 4/(N-1) y S            (summed).
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor

from eigenview.functional.fused.centring import about_mean_view, deviations, two_means
from eigenview.functional.fused.first_order import first_order
from eigenview.functional.sharded.processes import (
    gather_samples,
    global_deviations,
    own_rows,
    scatter_of,
    sum_is_cheaper,
    summed_products,
    symmetric_size,
)
from eigenview.records import Processes

TERM = "a sharded covariance term"


class _ShardedStatistics(torch.autograd.Function):
    """z (V n D) -> (scatter, variances (V D), off-diagonal sq_norms (V)) of all processes' rows."""

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any, z: Tensor, processes: Processes, by_sum: bool
    ) -> tuple[Tensor, Tensor, Tensor]:
        views, own, width = z.shape
        count = own * processes.size
        if by_sum:
            first, left, y = global_deviations(z, processes)
            matrices = summed_products(y, 1 / (count - 1), processes)
            variances = matrices.diagonal(dim1=1, dim2=2).clone()
            matrices.diagonal(dim1=1, dim2=2).zero_()
            everyone = z
            scatter = processes.sum(scatter_of(z))
            sq_norms = matrices.square().sum(dim=(1, 2))
        else:
            everyone, rows = gather_samples(z, processes), own_rows(own, processes)
            y = torch.empty(count, width, dtype=z.dtype, device=z.device)
            first, left = two_means(everyone, y)
            variances, partial = z.new_empty(views, width), z.new_empty(views + 1, dtype=torch.float64)
            matrices = z.new_empty(views, own, count)
            for a in range(views):
                deviations(everyone[a], first[a], left[a], out=y)
                variances[a] = y.square().sum(dim=0) / (count - 1)
                torch.mm(y[rows], y.mT, out=matrices[a]).mul_(1 / (count - 1))
                partial[a] = matrices[a].square().sum().double()
            partial[views] = scatter_of(z)
            partial = processes.sum(partial)
            scatter = partial[views]
            sq_norms = (partial[:views] - variances.double().square().sum(dim=1)).to(z.dtype)
        ctx.save_for_backward(z, everyone, first, left, variances, matrices)
        ctx.processes, ctx.by_sum, ctx.count = processes, by_sum, count
        ctx.set_materialize_grads(False)
        return scatter.to(z.dtype), variances, sq_norms

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> Any:
        z, everyone, first, left, variances, matrices = cast(tuple[Tensor, ...], ctx.saved_tensors)
        for_scatter, for_variances, for_sq_norms = grads
        size, scale = ctx.processes.size, 1 / (ctx.count - 1)
        rows = slice(None) if ctx.by_sum else own_rows(z.shape[1], ctx.processes)
        with torch.no_grad():
            # all terms that are a factor per column times y
            column = torch.zeros_like(variances) if for_variances is None else for_variances * (2 * scale)
            if for_sq_norms is not None and not ctx.by_sum:
                column = column - for_sq_norms[:, None] * variances * (4 * scale)
            out = torch.empty_like(z)
            y = torch.empty(everyone.shape[1:], dtype=z.dtype, device=z.device)
            for a, matrix in enumerate(matrices):
                deviations(everyone[a], first[a], left[a], out=y)
                torch.mul(y[rows], column[a], out=out[a])
                if for_sq_norms is not None:
                    out[a].addcmul_(y @ matrix if ctx.by_sum else matrix @ y, for_sq_norms[a] * (4 * scale))
            if for_scatter is not None:
                out.addcmul_(about_mean_view(z), 2 * for_scatter)
            out.mul_(size)  # DDP divides by it
        return first_order(out, TERM, z, *grads), None, None


def sharded_statistics(z: Tensor, processes: Processes) -> tuple[Tensor, Tensor, Tensor]:
    """(scatter of the views about their mean, variances (V D), off-diagonal squared norms (V)) of the global batch.

    The gradient is `size` times that of the global statistics with respect to the own rows, which DDP's average over
    processes turns into the global gradient; it assumes that all processes hold the same loss. Differentiable once.
    Sends the smaller of V N D numbers and about 1.06 V D^2 (`processes.sum_is_cheaper`). Time: 2 V n N D multiply-adds
    gathered, 1.5 V n D^2 summed.
    """
    views, own, width = z.shape
    by_sum = sum_is_cheaper(views, own, width, processes.size, views * symmetric_size(width))
    return cast(tuple[Tensor, Tensor, Tensor], _ShardedStatistics.apply(z, processes, by_sum))
