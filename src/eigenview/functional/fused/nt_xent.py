"""NT-Xent whose V N x V N matrix of similarities exists one strip of rows at a time, forward and backward.

u the M = V N unit rows, S = u u^T / temperature, l_i = log sum over k != i of exp S_ik:

    d (mean_i l_i) / du_i = 1/(M temperature) sum over k != i of [exp(S_ik - l_i) + exp(S_ik - l_k)] u_k.

The weights are symmetric, so two sweeps over the strips on and above the diagonal (one for l, one for the gradient)
cost 2 M^2 D multiply-adds and M^2 exponentials; the plain form holds S and needs 3 M^2 D. A cosine is at most 1, so
exp S cannot leave the range of numbers unless the temperature is tiny, and the largest entry of a row need not be
sought.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor

from eigenview.functional.fused.first_order import first_order
from eigenview.functional.fused.strips import strips
from eigenview.functional.similarity import inverse_length


def _upper_strips(rows: Tensor, temperature: float) -> Iterator[tuple[int, int, Tensor]]:
    """(start, stop, S in the rows start:stop from column start on); all strips share one piece of memory."""
    count = len(rows)
    scaled = rows / temperature
    buffer = rows.new_empty(0)
    for start, stop in strips(count, count, rows.device):
        size = (stop - start, count - start)
        if not len(buffer):  # the first strip is the largest
            buffer = rows.new_empty(size[0] * size[1])
        yield start, stop, torch.mm(scaled[start:stop], rows[start:].mT, out=buffer[: size[0] * size[1]].view(size))


def is_bounded(temperature: float, dtype: torch.dtype) -> bool:
    """Whether exp S, of exponents up to 1/temperature, stays far inside the range of numbers: no maximum is needed."""
    return 1 / temperature < 0.4 * math.log(torch.finfo(dtype).max)


def log_denominators(rows: Float[Tensor, "M D"], temperature: float) -> Float[Tensor, " M"]:
    """l_i = log sum over k != i of exp(u_i . u_k / temperature), `rows` of length 1 or 0."""
    if is_bounded(temperature, rows.dtype):
        sums = rows.new_zeros(len(rows))
        for start, stop, strip in _upper_strips(rows, temperature):
            strip.exp_().diagonal().zero_()
            sums[start:stop] += strip.sum(dim=1)
            sums[stop:] += strip[:, stop - start :].sum(dim=0)
        return sums.log_()
    logs = rows.new_empty(len(rows))
    for start, stop in strips(len(rows), len(rows), rows.device):
        strip = (rows[start:stop] / temperature) @ rows.mT
        strip.diagonal(start).fill_(-torch.inf)
        logs[start:stop] = strip.logsumexp(dim=1)
    return logs


def log_denominators_gradient(
    rows: Float[Tensor, "M D"], logs: Float[Tensor, " M"], temperature: float
) -> Float[Tensor, "M D"]:
    """Gradient of the mean of `log_denominators` with respect to `rows`."""
    out = torch.empty_like(rows)
    scale = 1 / (temperature * len(rows))
    bounded = is_bounded(temperature, rows.dtype)
    inverse = (-logs).exp()  # used where it is finite and not 0, that is where S is bounded
    weights = rows.new_empty(0)
    for start, stop, strip in _upper_strips(rows, temperature):
        if bounded:
            # exp(S - l_i) + exp(S - l_k) = exp S (exp(-l_i) + exp(-l_k)): one exponential instead of two
            weights = weights if len(weights) else torch.empty_like(strip).flatten()
            pair = weights[: strip.numel()].view_as(strip)
            strip.exp_().mul_(torch.add(inverse[start:stop, None], inverse[start:], out=pair))
        else:
            strip = (strip - logs[start:stop, None]).exp_().add_((strip - logs[start:]).exp_())
        strip.diagonal().zero_()
        beta = float(start > 0)  # the first strip reaches every row
        out[start:stop].addmm_(strip, rows[start:], beta=beta, alpha=scale)
        out[stop:].addmm_(strip[:, stop - start :].mT, rows[start:stop], beta=beta, alpha=scale)
    return out


def inside_shares(u: Float[Tensor, "V N D"], temperature: float) -> tuple[Float[Tensor, ""], Float[Tensor, "V V N"]]:
    """-(mean of log sum over positives of exp S) and w_ab = p_ab + p_ba, p_ab the share of view b among a's positives.

    The gradient with respect to u_a is -1/(M temperature) sum_b w_ab u_b.
    """
    own = torch.einsum("and,bnd->abn", u, u) / temperature
    itself = torch.eye(len(u), dtype=torch.bool, device=u.device)[:, :, None]
    own = own.masked_fill_(itself, -torch.inf)
    shares = own.softmax(dim=1)
    return -own.logsumexp(dim=1).mean(), shares + shares.transpose(0, 1)


class _NTXent(torch.autograd.Function):
    """z (V N D) -> (pull of the positives, mean log-denominator)."""

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any, z: Tensor, temperature: float, is_inside: bool, is_differentiated: bool
    ) -> tuple[Tensor, Tensor]:
        views, samples = z.shape[:2]
        square = z.square().sum(dim=-1, keepdim=True)
        inverse = inverse_length(square)
        u = z * inverse
        shares = None
        if is_inside:
            pull, shares = inside_shares(u, temperature)
        else:
            # sum over b != a of u_a . u_b, from the sum over all views
            pull = -(u * (u.sum(dim=0) - u)).sum() / (temperature * views * samples * (views - 1))
        rows = u.flatten(0, 1)
        logs = log_denominators(rows, temperature)
        push = log_denominators_gradient(rows, logs, temperature) if is_differentiated else None
        ctx.save_for_backward(z, inverse, shares, push)
        ctx.temperature = temperature
        ctx.set_materialize_grads(False)
        return pull, logs.mean()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> Any:
        z, inverse, shares, push = cast(tuple[Tensor, Tensor, Tensor | None, Tensor], ctx.saved_tensors)
        for_pull, for_push = grads
        views, samples = z.shape[:2]
        with torch.no_grad():
            u = z * inverse
            out = push.view_as(z) * for_push if for_push is not None else torch.zeros_like(u)
            if for_pull is not None:
                scale = for_pull / (-ctx.temperature * views * samples)
                if shares is None:
                    out.addcmul_(u.sum(dim=0) - u, scale * (2 / (views - 1)))
                else:
                    out.addcmul_(torch.einsum("abn,bnd->and", shares, u), scale)
            # u = z / |z| takes a gradient g back as (g - u (u . g)) / |z|
            out.addcmul_(u, (u * out).sum(dim=-1, keepdim=True), value=-1).mul_(inverse)
        return first_order(out, "the fused NT-Xent", z, *grads), None, None, None


def nt_xent(z: Tensor, temperature: float, is_inside: bool) -> tuple[Tensor, Tensor]:
    """(minus the mean similarity of positives, mean log-denominator); differentiable once, under any weights.

    `contrast.contrast` is the public form and has the definition.
    """
    is_differentiated = z.requires_grad and torch.is_grad_enabled()
    return cast(tuple[Tensor, Tensor], _NTXent.apply(z, temperature, is_inside, is_differentiated))
