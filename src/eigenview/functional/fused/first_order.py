"""Raises on double backward, for functions that keep their gradient as numbers."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor

from eigenview.errors import UserError


class _Refuse(torch.autograd.Function):
    """The identity on its first argument; going backward through it is an error."""

    @staticmethod
    def forward(ctx: Any, gradient: Tensor, name: str, *sources: Tensor | None) -> Tensor:  # type: ignore[override]
        ctx.name = name
        return gradient.view_as(gradient)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        raise UserError(
            f"{ctx.name} is differentiated twice; allowed: once, because its gradient is kept as numbers. "
            "Use the plain functions of eigenview.functional.moments and similarity, which have every derivative."
        )


def first_order(gradient: Tensor, name: str, *sources: Tensor | None) -> Tensor:
    """`gradient`, made so that differentiating it with respect to any of `sources` raises UserError.

    For the end of a `backward`. `torch.autograd.function.once_differentiable` refuses only where the incoming gradient
    itself needs a gradient. That of a loss is the constant 1, and then a gradient penalty, say, would silently lose
    this function's part. Here the graph leads back to the inputs, so whoever follows it meets the error.
    """
    if not torch.is_grad_enabled():  # create_graph=False, the usual case
        return gradient
    return cast(Tensor, _Refuse.apply(gradient, name, *sources))
