"""All samples of a batch that is spread over processes, for losses that need every row."""

from __future__ import annotations

from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor

from eigenview.records import ALONE, Processes


class _WholeBatch(torch.autograd.Function):
    """Backward takes this process's rows of the gradient, times the number of processes: see `whole_batch`."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, processes: Processes) -> Tensor:  # type: ignore[override]
        ctx.rows, ctx.processes = z.shape[1], processes
        return processes.gather(z.transpose(0, 1)).transpose(0, 1)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        own = grads[0].narrow(1, ctx.processes.rank * ctx.rows, ctx.rows)
        return own * ctx.processes.size, None


def whole_batch(z: Float[Tensor, "V n D"], processes: Processes = ALONE) -> Float[Tensor, "V N D"]:
    """Rows of all processes in rank order; z itself on one process.

    Every process must compute the same loss from the result. Then the loss of the run, the mean over processes, has for
    this process's rows the gradient that the process knows already, and nothing is sent in the backward pass: it is the
    process's own gradient, which is returned times `size` because DDP's average divides by it. For a loss that differs
    between processes use `processes.gather`, whose backward pass sums over processes.
    """
    return z if processes.size == 1 else cast(Tensor, _WholeBatch.apply(z, processes))
