"""log sum exp over the rows of a product, of which one strip exists at a time, forward and backward.

l_i = log sum_j exp x_ij, x_ij = a_i . b_j / temperature + bias_j. With g the gradient of l, w_ij = g_i exp(x_ij - l_i):

    da = w b / temperature,   db = w^T a / temperature,   dbias = sum_i w_ij.

The forward pass keeps l alone, and the backward pass computes each strip again: 4 products. If `keeps`, a matrix of at
most one strip is kept instead: 3 products, as autograd has them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor

from eigenview.functional.fused.first_order import first_order
from eigenview.functional.fused.strips import LARGEST, SHORTEST


def _strips(
    a: Tensor, b: Tensor, temperature: float, bias: Tensor | None, skips_own: bool
) -> Iterator[tuple[slice, Tensor]]:
    """(rows, exponents of these rows), with -inf where row i meets row i if `skips_own`."""
    kind = "cpu" if a.device.type == "cpu" else "cuda"
    length = max(SHORTEST[kind], LARGEST[kind] // len(b))  # no symmetry that shorter ones would save
    for start in range(0, len(a), length):
        stop = min(start + length, len(a))
        strip = (a[start:stop] / temperature) @ b.mT
        if bias is not None:
            strip += bias
        if skips_own:
            strip.diagonal(start).fill_(-torch.inf)
        yield slice(start, stop), strip


def _shares(
    a: Tensor, b: Tensor, temperature: float, bias: Tensor | None, skips_own: bool, logs: Tensor, kept: Tensor | None
) -> Iterator[tuple[slice, Tensor]]:
    """(rows, exp(x_ij - l_i) of these rows), each to be changed in place."""
    if kept is not None:
        yield slice(0, len(a)), kept.clone()  # the graph may be kept for a second backward pass
        return
    for rows, strip in _strips(a, b, temperature, bias, skips_own):
        yield rows, strip.sub_(logs[rows, None]).exp_()


class _LogSumExp(torch.autograd.Function):
    """a (N D), b (M D), bias (M) -> l (N)."""

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any, a: Tensor, b: Tensor, temperature: float, bias: Tensor | None, skips_own: bool, keeps: bool
    ) -> Tensor:
        logs, kept = a.new_empty(len(a)), None
        for rows, strip in _strips(a, b, temperature, bias, skips_own):
            logs[rows] = strip.logsumexp(dim=1)
            kept = strip if keeps and len(strip) == len(a) else None
        if kept is not None:
            kept = kept.sub_(logs[:, None]).exp_()
        ctx.save_for_backward(a, b, bias, logs, kept)
        ctx.temperature, ctx.skips_own = temperature, skips_own
        return logs

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        a, b, bias, logs, kept = cast(tuple[Tensor, Tensor, Tensor | None, Tensor, Tensor | None], ctx.saved_tensors)
        with torch.no_grad():
            da, db = torch.empty_like(a), torch.zeros_like(b)
            dbias = None if bias is None else torch.zeros_like(bias)
            for rows, share in _shares(a, b, ctx.temperature, bias, ctx.skips_own, logs, kept):
                weight = share.mul_(grads[0][rows, None])
                torch.mm(weight, b, out=da[rows])
                db.addmm_(weight.mT, a[rows])
                if dbias is not None:
                    dbias += weight.sum(dim=0)
            da /= ctx.temperature
            db /= ctx.temperature
        name = "log_sum_exp"
        sources = (a, b, bias, *grads)
        of_bias = None if dbias is None else first_order(dbias, name, *sources)
        return first_order(da, name, *sources), first_order(db, name, *sources), None, of_bias, None, None


def log_sum_exp(
    a: Float[Tensor, "N D"],
    b: Float[Tensor, "M D"],
    temperature: float,
    bias: Float[Tensor, " M"] | None = None,
    *,
    skips_own: bool = False,
    keeps: bool = False,
) -> Float[Tensor, " N"]:
    """log sum over j of exp(a_i . b_j / temperature + bias_j), over j != i with `skips_own`; differentiable once.

    Time 4 N M D multiply-adds, forward and backward together. Memory: the gradients and a strip of the N x M exponents.
    keeps: exponents of at most one strip (2^20 of them on a CPU) are kept for the backward pass; time 3 N M D then.
    """
    return cast(Tensor, _LogSumExp.apply(a, b, temperature, bias, skips_own, keeps))
