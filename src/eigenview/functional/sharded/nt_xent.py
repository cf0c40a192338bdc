"""NT-Xent of a batch spread over processes; formulas as in `fused/nt_xent.py`.

u the unit rows of all processes (M D), of which this one has m. It computes S = u_own u^T / temperature, m x M, strip
by strip and never whole: first the log-denominators l of its rows, which are gathered, then with everyone's l

    d (mean of l) / du_i = 1/(M temperature) sum over k != i of (exp(S_ik - l_i) + exp(S_ik - l_k)) u_k.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor

from eigenview.functional.fused.first_order import first_order
from eigenview.functional.fused.nt_xent import inside_shares
from eigenview.functional.fused.strips import strips
from eigenview.functional.sharded.processes import gather_samples, own_rows
from eigenview.functional.similarity import inverse_length
from eigenview.records import Processes


def _similarities(
    own: Float[Tensor, "m D"], everyone: Float[Tensor, "M D"], itself: Int[Tensor, " m"], temperature: float
) -> Iterator[tuple[slice, Tensor]]:
    """(rows, S of these rows with -inf where a row meets itself), a strip at a time."""
    for start, stop in strips(len(own), len(everyone), own.device):
        strip = (own[start:stop] / temperature) @ everyone.mT
        strip.scatter_(1, itself[start:stop, None], -torch.inf)
        yield slice(start, stop), strip


class _ShardedNTXent(torch.autograd.Function):
    """z (V n D) -> (pull of the positives, mean log-denominator) over all processes' rows."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, temperature: float, is_inside: bool, processes: Processes) -> Any:  # type: ignore[override]
        views, own, width = z.shape
        count = own * processes.size
        square = z.square().sum(dim=-1, keepdim=True)
        inverse = inverse_length(square)
        u = z * inverse
        shares = None
        if is_inside:
            pull, shares = inside_shares(u, temperature)  # a mean over own rows
        else:
            pull = -(u * (u.sum(dim=0) - u)).sum() / (temperature * views * own * (views - 1))
        everyone, mine = gather_samples(u, processes).view(-1, width), u.reshape(-1, width)
        here = torch.arange(count, device=z.device)[own_rows(own, processes)]
        itself = (torch.arange(views, device=z.device)[:, None] * count + here).flatten()
        logs = z.new_empty(len(mine))
        for rows, strip in _similarities(mine, everyone, itself, temperature):
            logs[rows] = strip.logsumexp(dim=1)
        all_logs = gather_samples(logs.view(views, own, 1), processes).flatten()
        push = torch.empty_like(mine)
        for rows, strip in _similarities(mine, everyone, itself, temperature):
            weight = (strip - logs[rows, None]).exp_().add_((strip - all_logs).exp_())
            torch.mm(weight, everyone, out=push[rows])
        push.mul_(1 / (temperature * len(everyone)))
        ctx.save_for_backward(z, inverse, shares, push)
        ctx.temperature, ctx.processes = temperature, processes
        ctx.set_materialize_grads(False)
        return processes.sum(pull) / processes.size, all_logs.mean()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> Any:
        z, inverse, shares, push = cast(tuple[Tensor, Tensor, Tensor | None, Tensor], ctx.saved_tensors)
        for_pull, for_push = grads
        views, own = z.shape[:2]
        size = ctx.processes.size
        with torch.no_grad():
            u = z * inverse
            # times size, which DDP divides by
            out = push.view_as(z) * (for_push * size) if for_push is not None else torch.zeros_like(u)
            if for_pull is not None:
                scale = for_pull / (-ctx.temperature * views * own)  # size / (V N) = 1 / (V n)
                if shares is None:
                    out.addcmul_(u.sum(dim=0) - u, scale * (2 / (views - 1)))
                else:
                    out.addcmul_(torch.einsum("abn,bnd->and", shares, u), scale)
            # u = z / |z| takes a gradient g back as (g - u (u . g)) / |z|
            out.addcmul_(u, (u * out).sum(dim=-1, keepdim=True), value=-1).mul_(inverse)
        return first_order(out, "the sharded NT-Xent", z, *grads), None, None, None


def sharded_nt_xent(z: Tensor, temperature: float, is_inside: bool, processes: Processes) -> tuple[Tensor, Tensor]:
    """`fused.nt_xent.nt_xent` of the global batch; the same values on every process.

    The gradient is `size` times that of the global statistics with respect to the own rows, which DDP's average over
    processes turns into the global gradient; it assumes that all processes hold the same loss. Differentiable once.
    Sends V N (D + 1) numbers, all in the forward pass. Each row's maximum is subtracted, so any temperature works.
    Memory: the unit rows of all processes and two strips.
    """
    return cast(tuple[Tensor, Tensor], _ShardedNTXent.apply(z, temperature, is_inside, processes))
