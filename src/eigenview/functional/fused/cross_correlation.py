"""Cross-correlations of one process's batch over all pairs of views; the gradient keeps neither a D x D nor an N x N
matrix.

s_a the standardised view a (N D), C_ab = s_a^T s_b / N, K_a = s_a s_a^T / N. Over the P = V (V-1) / 2 pairs

    sum ||C_ab||_F^2 = sum over a < b of <K_a, K_b>,
    d/ds_a = (2/N) sum over b != a of s_b C_ab^T = (2/N) (sum over b != a of K_b) s_a.

The cheaper matrix is used. Through C_ab with zeros on its diagonal the off-diagonal sum is one of
squares; through K the squares of the diagonal are subtracted.
"""

from __future__ import annotations

from itertools import combinations
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor

from eigenview.functional.fused.centring import deviations
from eigenview.functional.fused.first_order import first_order
from eigenview.functional.fused.strips import strips
from eigenview.functional.moments import in_range


def gram_is_cheaper(views: int, samples: int, width: int) -> bool:
    """Whether V Gram matrices and their products cost less than the three products of each pair of views.

    2 V N^2 D multiply-adds against 3 P N D^2. (Half of one Gram product is saved by symmetry: not counted.)
    """
    return 4 * samples < 3 * (views - 1) * width


def sq_norm_by_grams(s: Float[Tensor, "V N D"], slope: Float[Tensor, "V N D"] | None) -> Float[Tensor, ""]:
    """Sum over pairs of ||C_ab||_F^2, in float64; `slope` is overwritten with its gradient with respect to s."""
    samples = s.shape[1]
    sq_norm = torch.zeros((), dtype=torch.float64, device=s.device)
    for start, stop in strips(samples, samples, s.device):
        grams = (s[:, start:stop] @ s[:, start:].mT).mul_(1 / samples)
        others = grams.sum(dim=0) - grams if len(s) > 2 else grams.flip(0)
        # each pair is met twice; right of the diagonal block each entry stands for its mirror image too
        met = grams.mul_(others)
        sq_norm += met.sum().double() - met[:, :, : stop - start].sum().double() / 2
        if slope is not None:
            beta = float(start > 0)
            slope[:, start:stop].baddbmm_(others, s[:, start:], beta=beta, alpha=2 / samples)
            if stop < samples:
                right = others[:, :, stop - start :].mT
                slope[:, stop:].baddbmm_(right, s[:, start:stop], beta=beta, alpha=2 / samples)
    return sq_norm


def off_diagonal_by_correlations(s: Float[Tensor, "V N D"], slope: Float[Tensor, "V N D"] | None) -> Float[Tensor, ""]:
    """Sum over pairs of ||C_ab||_F^2 off the diagonal, in float64; `slope` as in `sq_norm_by_grams`."""
    views, samples, width = s.shape
    sq_norm = torch.zeros((), dtype=torch.float64, device=s.device)
    if slope is not None:
        slope.zero_()
    for a, b in combinations(range(views), 2):
        for start, stop in strips(width, width, s.device):
            strip = (s[a, :, start:stop].mT @ s[b]).mul_(1 / samples)
            strip.diagonal(start).zero_()
            sq_norm += strip.square().sum().double()
            if slope is not None:
                slope[a, :, start:stop].addmm_(s[b], strip.mT, alpha=2 / samples)
                slope[b].addmm_(s[a, :, start:stop], strip, alpha=2 / samples)
    return sq_norm


class _CrossCorrelations(torch.autograd.Function):
    """z (V N D) -> (diagonals of C_ab (P D), mean over pairs of the off-diagonal squared norm)."""

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any, z: Tensor, eps: float, is_differentiated: bool
    ) -> tuple[Tensor, Tensor]:
        views, samples, width = z.shape
        pairs = list(combinations(range(views), 2))
        s, first, left = _deviations(z)
        scratch = s.square()
        rate = (in_range(scratch.mean(dim=1, keepdim=True)) + eps).rsqrt()  # biased variance, as batch norm
        s.mul_(rate)
        diagonals = torch.stack([torch.mul(s[a], s[b], out=scratch[0]).mean(dim=0) for a, b in pairs])
        slope = scratch if is_differentiated else None
        through_gram = gram_is_cheaper(views, samples, width)
        if through_gram:
            sq_norm = sq_norm_by_grams(s, slope) - diagonals.double().square().sum()
        else:
            sq_norm = off_diagonal_by_correlations(s, slope)
        along = s.mul_(slope).mean(dim=1) if slope is not None else None
        ctx.save_for_backward(z, first, left, rate, diagonals, slope, along)
        ctx.through_gram = through_gram
        ctx.set_materialize_grads(False)
        return diagonals, (sq_norm / len(pairs)).to(z.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> Any:
        z, first, left, rate, diagonals, slope, along = cast(tuple[Tensor, ...], ctx.saved_tensors)
        for_diagonals, for_sq_norm = grads
        pairs = list(combinations(range(len(z)), 2))
        with torch.no_grad():
            pull = torch.zeros_like(diagonals) if for_diagonals is None else for_diagonals
            if for_sq_norm is not None and ctx.through_gram:
                pull = pull - diagonals * (2 * for_sq_norm / len(pairs))
            column = columns(pull, diagonals, pairs, len(z), z.shape[1])
            new = torch.zeros if for_sq_norm is None else torch.empty
            out = new(z.shape, dtype=z.dtype, device=z.device)
            if for_sq_norm is not None:
                weight = for_sq_norm / len(pairs)
                torch.mul(slope, rate * weight, out=out)
                column.diagonal().sub_((along * weight).mT)
            y = torch.empty(z.shape[1:], dtype=z.dtype, device=z.device)
            for b in range(len(z)):
                deviations(z[b], first[b], left[b], out=y)
                for a in range(len(z)):
                    out[a].addcmul_(y, column[a, b] * rate[a, 0] * rate[b, 0])
        return first_order(out, "a fused cross-correlation term", z, *grads), None, None


def _deviations(z: Float[Tensor, "V N D"]) -> tuple[Tensor, Tensor, Tensor]:
    """(z less both of its means, contiguous; the means, as `centring.two_means` has them).

    One operation for all views: at N = 256, thread synchronisation costs as much as a pass over one view.
    """
    first = z.mean(dim=1, keepdim=True)
    y = (z - first).contiguous()
    left = y.mean(dim=1, keepdim=True)
    return y.sub_(left), first, left


def columns(pull: Tensor, diagonals: Tensor, pairs: list[tuple[int, int]], views: int, samples: int) -> Tensor:
    """k (V V D) with dL/dz_a = rate_a sum_b k_ab s_b, for a loss of the diagonals whose derivatives are `pull`.

    c_ab = mean(s_a s_b) has the gradient s_b / N with respect to s_a. Standardising, s = rate (z - mean), takes a
    gradient g back as rate (g - mean(g) - s mean(g s)): s_b has the mean 0, and mean(s_b s_a) = c_ab.
    """
    column = pull.new_zeros(views, views, pull.shape[1])
    for p, (a, b) in enumerate(pairs):
        share = pull[p] / samples
        for to, other in ((a, b), (b, a)):
            column[to, other] += share
            column[to, to] -= share * diagonals[p]
    return column


def cross_correlations(z: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """(diagonals of C_ab (P D), mean over pairs of the off-diagonal squared norm); differentiable once.

    `cross_moments.cross_moments` is the public form and has the definition.
    """
    is_differentiated = z.requires_grad and torch.is_grad_enabled()
    return cast(tuple[Tensor, Tensor], _CrossCorrelations.apply(z, eps, is_differentiated))
