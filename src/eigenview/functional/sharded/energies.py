"""VICReg's three terms of a batch spread over processes; formulas as in `fused/energies.py`.

For one view with centred rows Y (N D), of which this process has y (n D), S = Y^T Y / (N-1), v its diagonal:

    ||S||_F^2 = sum over processes of ||y Y^T||_F^2 / (N-1)^2,   d ||S||_F^2 / dy = 4/(N-1)^2 (y Y^T) Y   (gathered), or
    S = sum over processes of y^T y / (N-1),                     d ||S||_F^2 / dy = 4/(N-1) y S            (summed),

or, from all rows x (N d) of this process's share of the features (by columns, `columns.py`),

    G = sum over processes of x x^T / (N-1), ||S||_F^2 = ||G||_F^2, d ||S||_F^2 / dx = 4/(N-1) G x.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor

from eigenview.errors import require
from eigenview.functional.fused.centring import about_mean_view, deviations, two_means
from eigenview.functional.fused.energies import hinge
from eigenview.functional.fused.first_order import first_order
from eigenview.functional.sharded.columns import centred_columns, gather_columns, own_columns, to_rows
from eigenview.functional.sharded.processes import (
    Processes,
    cheapest,
    gather_samples,
    global_deviations,
    own_rows,
    scatter_of,
    summed_products,
    symmetric_size,
)

TERM = "a sharded covariance term"


class _ShardedStatistics(torch.autograd.Function):
    """z (V n D) -> (scatter, variances (V D), off-diagonal energies (V)) of all processes' rows."""

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
            energies = matrices.square().sum(dim=(1, 2))
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
            energies = (partial[:views] - variances.double().square().sum(dim=1)).to(z.dtype)
        ctx.save_for_backward(z, everyone, first, left, variances, matrices)
        ctx.processes, ctx.by_sum, ctx.count = processes, by_sum, count
        ctx.set_materialize_grads(False)
        return scatter.to(z.dtype), variances, energies

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> Any:
        z, everyone, first, left, variances, matrices = cast(tuple[Tensor, ...], ctx.saved_tensors)
        for_scatter, for_variances, for_energies = grads
        size, scale = ctx.processes.size, 1 / (ctx.count - 1)
        rows = slice(None) if ctx.by_sum else own_rows(z.shape[1], ctx.processes)
        with torch.no_grad():
            # whatever is a column times y
            column = torch.zeros_like(variances) if for_variances is None else for_variances * (2 * scale)
            if for_energies is not None and not ctx.by_sum:
                column = column - for_energies[:, None] * variances * (4 * scale)
            out = torch.empty_like(z)
            y = torch.empty(everyone.shape[1:], dtype=z.dtype, device=z.device)
            for a, matrix in enumerate(matrices):
                deviations(everyone[a], first[a], left[a], out=y)
                torch.mul(y[rows], column[a], out=out[a])
                if for_energies is not None:
                    out[a].addcmul_(y @ matrix if ctx.by_sum else matrix @ y, for_energies[a] * (4 * scale))
            if for_scatter is not None:
                out.addcmul_(about_mean_view(z), 2 * for_scatter)
            out.mul_(size)  # DDP divides by it
        return first_order(out, TERM, z, *grads), None, None


class _ColumnStatistics(torch.autograd.Function):
    """As `_ShardedStatistics`, by columns."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, processes: Processes) -> tuple[Tensor, Tensor, Tensor]:  # type: ignore[override]
        count, width = z.shape[1] * processes.size, z.shape[2]
        x = centred_columns(z, processes)
        variances = gather_columns(x.square().sum(dim=1) / (count - 1), width, processes)
        grams = summed_products(x.mT, 1 / (count - 1), processes)
        energies = grams.square().sum(dim=(1, 2)).double() - variances.double().square().sum(dim=1)
        ctx.save_for_backward(z, x, variances, grams)
        ctx.processes = processes
        ctx.set_materialize_grads(False)
        return processes.sum(scatter_of(z)).to(z.dtype), variances, energies.to(z.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> Any:
        z, x, variances, grams = cast(tuple[Tensor, ...], ctx.saved_tensors)
        for_scatter, for_variances, for_energies = grads
        scale = 1 / (x.shape[1] - 1)
        with torch.no_grad():
            column = torch.zeros_like(variances) if for_variances is None else for_variances * (2 * scale)
            if for_energies is not None:
                column = column - for_energies[:, None] * variances * (4 * scale)
            slope = x * own_columns(column, ctx.processes)[:, None]
            if for_energies is not None:
                slope.baddbmm_(grams * (for_energies[:, None, None] * (4 * scale)), x)
            out = to_rows(slope, z.shape[2], ctx.processes)
            if for_scatter is not None:
                out = out.addcmul(about_mean_view(z), 2 * for_scatter)
            out = out * ctx.processes.size  # DDP divides by it
        return first_order(out, TERM, z, *grads), None


def sharded_vicreg_terms(
    z: Float[Tensor, "V n D"], gamma: float, eps: float, processes: Processes
) -> tuple[Float[Tensor, ""], Float[Tensor, ""], Float[Tensor, ""]]:
    """`fused_vicreg_terms` of the batch whose rows lie on `processes`, n on each; the same values on every one.

    The gradient is `size` times that of the global terms with respect to the rows at hand, which DDP's average over
    processes turns into the global gradient. Differentiable once.

    Sends what is least (`processes.cheapest`): V N D numbers; or about 1.06 V D^2 (N above 1.1 D or so); or, beyond two
    processes, 2 V n D + 1.06 V N^2, half of the first part in the backward pass, where otherwise nothing is sent. Time:
    2 V n N D multiply-adds gathered, 1.5 V n N D by columns, 1.5 V n D^2 summed.

    Raises: UserError for fewer than 2 views or 2 samples over all processes, and where it is differentiated twice.
    """
    views, own, width = z.shape
    count = own * processes.size
    require(views >= 2, "views", views, "2 or more", "One view has nothing to agree with.")
    require(count >= 2, "samples in the batch", count, "2 or more", "Use a larger batch.")
    way = cheapest(views, own, width, processes.size, views * symmetric_size(width))
    if way == "columns":
        found = _ColumnStatistics.apply(z, processes)
    else:
        found = _ShardedStatistics.apply(z, processes, way == "sum")
    scatter, variances, energies = cast(tuple[Tensor, Tensor, Tensor], found)
    invariance = scatter * (2 / (views - 1) / (count * width))
    return invariance, hinge(variances, gamma, eps), energies.mean() / width
