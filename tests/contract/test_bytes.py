"""What a step sends between processes, counted: one gather, and nothing on the way back."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch import Tensor

from eigenview import distributed
from eigenview.objectives.base import total
from eigenview.objectives.vicreg import VICReg
from eigenview.views import Views
from tests.process_pool import ProcessPool

VIEWS, SAMPLES, WIDTH = 2, 8, 24


class _SummedGather(torch.autograd.Function):
    """The usual way: gather, and in the backward pass the sum of all processes' gradients."""

    @staticmethod
    def forward(ctx: Any, shard: Tensor) -> Tensor:  # type: ignore[override]
        ctx.rows = len(shard)
        out = shard.new_empty((dist.get_world_size() * len(shard), *shard.shape[1:]))
        dist.all_gather_into_tensor(out, shard.contiguous())
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        summed = grads[0].contiguous().clone()
        dist.all_reduce(summed)
        return summed.narrow(0, dist.get_rank() * ctx.rows, ctx.rows)


def bytes_and_gradient(usual: bool) -> tuple[float, np.ndarray]:
    """Bytes this rank sends in one step, by ring algorithms, and the gradient of its own embeddings."""
    sent = 0.0
    share = (dist.get_world_size() - 1) / dist.get_world_size()
    gather_all, reduce_all = dist.all_gather_into_tensor, dist.all_reduce

    def counted_gather(out: Tensor, shard: Tensor, *args: Any, **kwargs: Any) -> Any:
        nonlocal sent
        sent += share * out.numel() * out.element_size()
        return gather_all(out, shard, *args, **kwargs)

    def counted_reduce(x: Tensor, *args: Any, **kwargs: Any) -> Any:
        nonlocal sent
        sent += 2 * share * x.numel() * x.element_size()
        return reduce_all(x, *args, **kwargs)

    dist.all_gather_into_tensor, dist.all_reduce = counted_gather, counted_reduce
    try:
        z = torch.randn(VIEWS, SAMPLES, WIDTH, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        mine = SAMPLES // dist.get_world_size()
        own = z[:, dist.get_rank() * mine : (dist.get_rank() + 1) * mine].clone().requires_grad_()
        if usual:
            whole = _SummedGather.apply(own.transpose(0, 1)).transpose(0, 1)  # type: ignore[attr-defined]
        else:
            whole = distributed.gather_views(Views(z=own), frozenset({"z"})).read("z")
        total(VICReg()(Views(z=whole))).backward()
    finally:
        dist.all_gather_into_tensor, dist.all_reduce = gather_all, reduce_all
    assert own.grad is not None
    return sent, own.grad.numpy()


@pytest.mark.ddp
@pytest.mark.parametrize("size", [2, 4])
def test_three_times_fewer_bytes_and_the_same_gradient(processes: ProcessPool, size: int) -> None:
    ours, usual = (processes.run(size, bytes_and_gradient, way) for way in (False, True))
    once = (size - 1) / size * VIEWS * SAMPLES * WIDTH * 8
    for (sent, gradient), (sent_usually, expected) in zip(ours, usual, strict=True):
        assert sent == pytest.approx(once)  # the embeddings, once
        assert sent_usually >= 3 * sent - 1e-9
        np.testing.assert_allclose(gradient, expected, rtol=1e-12, atol=1e-15)
