"""Second moments of one process's batch, with gradients from the smaller of the Gram matrix and the covariance.

For one view with centred rows Y (N D), S = Y^T Y / (N-1), v its diagonal:

    d ||S||_F^2 / dY = 4/(N-1) Y S = 4/(N-1)^2 (Y Y^T) Y,      d v_j / dY_ij = 2/(N-1) Y_ij.

The columns of all of them have mean zero, so that they are the gradients with respect to z as well. Off the diagonal:
below N = D through the Gram matrix, less |v|^2; else through S with zeros on its diagonal, where nothing is
subtracted. For the backward pass the smaller matrix M is kept: it has at most as many entries as Y, usually far fewer,
and the gradient M Y would be the larger thing to keep. `functional/batch_moments.py`
says what they are for; the tests compare them with float64 loops.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor

from eigenview.functional.fused.centring import about_mean_view, deviations, two_means
from eigenview.functional.fused.first_order import first_order
from eigenview.functional.fused.strips import blocks, gram


class _Statistics(torch.autograd.Function):
    """z (V N D) -> (scatter of the views about their mean, variances (V D), off-diagonal squared norms (V), Q (V)).

    Q = 1/(N-1) sum_a (|y_a|^4 - sum_j y_aj^4), of the U-statistics, is zero unless `with_fourth`.
    """

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any, z: Tensor, is_differentiated: bool, with_fourth: bool
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        views, samples, width = z.shape
        y = torch.empty(samples, width, dtype=z.dtype, device=z.device)  # one view, reused
        first, left = two_means(z, y)
        through_gram = samples < width
        variances, sq_norms, matrices = z.new_empty(views, width), z.new_empty(views), list[Tensor | None]()
        rows = views * with_fourth
        fourth, lengths, thirds = z.new_zeros(views), z.new_empty(rows, samples), z.new_empty(rows, width)
        for a in range(views):
            deviations(z[a], first[a], left[a], out=y)
            x = y if through_gram else y.mT
            matrix, sq_norm = gram(x, 1 / (samples - 1), keep_diagonal=through_gram, is_kept=is_differentiated)
            if with_fourth:
                # the Gram matrix has the lengths on its diagonal
                known = matrix.diagonal() * (samples - 1) if through_gram and matrix is not None else None
                fourth[a], lengths[a], thirds[a], variances[a] = _fourth(y, known)
            else:
                for part in blocks(width, samples, z.device):
                    variances[a, part] = y[:, part].square().sum(dim=0) / (samples - 1)
            sq_norms[a] = sq_norm - variances[a].double().square().sum() if through_gram else sq_norm
            matrices.append(matrix)
        ctx.save_for_backward(z, first, left, variances, lengths, thirds, *matrices)
        ctx.set_materialize_grads(False)
        return _scatter(z), variances, sq_norms, fourth

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> Any:
        z, first, left, variances, lengths, thirds, *matrices = cast(tuple[Tensor, ...], ctx.saved_tensors)
        for_scatter, for_variances, for_sq_norms, for_fourth = grads
        _, samples, width = z.shape
        through_gram = samples < width
        with torch.no_grad():
            # all terms that are a factor per column times y
            column = torch.zeros_like(variances) if for_variances is None else for_variances * (2 / (samples - 1))
            if for_sq_norms is not None and through_gram:
                column = column - for_sq_norms[:, None] * variances * (4 / (samples - 1))
            out = torch.empty(z.shape, dtype=z.dtype, device=z.device)
            weights = None if for_sq_norms is None else for_sq_norms * (4 / (samples - 1))
            quartic = for_fourth * (4 / (samples - 1)) if for_fourth is not None and len(lengths) else None
            scatter_weight = None if for_scatter is None else 2 * for_scatter
            if through_gram and weights is not None:
                matrices = [matrix * weight for matrix, weight in zip(matrices, weights, strict=True)]
                if quartic is not None:
                    # |y_a|^2 y is a diagonal matrix times Y, and joins the one that is multiplied anyway
                    for matrix, length, q in zip(matrices, lengths, quartic, strict=True):
                        matrix.diagonal().addcmul_(length, q)
            # M Y needs whole columns of Y, Y M whole rows
            count, across = (width, samples) if through_gram else (samples, width)
            for part in blocks(count, across, z.device):
                rows, columns = (slice(None), part) if through_gram else (part, slice(None))
                piece = out[:, rows, columns]
                y = torch.empty(piece.shape[1:], dtype=z.dtype, device=z.device)
                product = torch.empty_like(y)
                for a, matrix in enumerate(matrices):
                    deviations(z[a, rows, columns], first[a, :, columns], left[a, :, columns], out=y)
                    factor = column[a, columns]
                    if quartic is None:
                        torch.mul(y, factor, out=piece[a])
                    else:
                        # y (|y_a|^2 - y^2) less its column means, which are not zero
                        torch.mul(y, -quartic[a], out=product)
                        torch.addcmul(factor, product, y, out=product)
                        if not through_gram or weights is None:
                            product.addcmul_(lengths[a, rows, None], quartic[a])
                        torch.addcmul(thirds[a, columns] * -quartic[a], product, y, out=piece[a])
                    if weights is not None and through_gram:
                        piece[a].addmm_(matrix, y)
                    elif weights is not None:
                        piece[a].addmm_(y.mul_(weights[a]), matrix)
                if scatter_weight is not None and len(z) > 1:  # one view is its own mean
                    _add_scatter(z[:, rows, columns], scatter_weight, piece, y, product)
        return first_order(out, "a fused covariance term", z, *grads), None, None


def _fourth(y: Tensor, known: Tensor | None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Of centred rows y (N D): (Q, |y_a|^2 (N), column means of y (|y_a|^2 - y^2) (D), variances (D)).

    `known` are the lengths |y_a|^2 where they have been computed.
    """
    samples, width = y.shape
    lengths = y.new_zeros(samples) if known is None else known
    quarts = torch.zeros((), dtype=torch.float64, device=y.device)
    variances, cubes = y.new_empty(width), y.new_empty(width)
    for part in blocks(width, samples, y.device):
        piece = y[:, part]
        square = piece.square()
        if known is None:
            lengths += square.sum(dim=1)
        variances[part] = square.sum(dim=0) / (samples - 1)
        quarts += square.flatten().dot(square.flatten()).double()
        cubes[part] = square.mul_(piece).sum(dim=0)
    fourth = (lengths.double().square().sum() - quarts) / (samples - 1)
    return fourth, lengths, (lengths @ y - cubes) / samples, variances


def _add_scatter(z: Tensor, weight: Tensor, out: Tensor, scratch: Tensor, other: Tensor) -> None:
    """out += weight (z - mean view): d sum_a |z_a - mean|^2 / dz_a = 2 (z_a - mean). As `about_mean_view`, in place."""
    centre = torch.sub(z[1], z[0], out=other)
    for view in z[2:]:
        centre.add_(torch.sub(view, z[0], out=scratch))
    centre.div_(len(z))
    out[0].addcmul_(centre, -weight)
    for a in range(1, len(z)):
        out[a].addcmul_(torch.sub(z[a], z[0], out=scratch).sub_(centre), weight)


def _scatter(z: Tensor) -> Tensor:
    """sum_a |z_a - mean over views|^2, some samples at a time."""
    total = torch.zeros((), dtype=torch.float64, device=z.device)
    for part in blocks(z.shape[1], z.shape[2], z.device, least=1):
        for view in about_mean_view(z[:, part]):
            total += view.square_().sum().double()
    return total.to(z.dtype)


def statistics(z: Tensor, *, with_fourth: bool = False) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """(scatter of the views about their mean, variances (V D), off-diagonal squared norms (V), Q (V)) of z (V N D).

    scatter = sum over views and samples of |z_a - mean view|^2. Differentiable once, under any weights of the results.
    """
    is_differentiated = z.requires_grad and torch.is_grad_enabled()
    return cast(tuple[Tensor, Tensor, Tensor, Tensor], _Statistics.apply(z, is_differentiated, with_fourth))
