"""The only file that imports torch.distributed: an autograd-aware gather, means over ranks, rank and world size.

Why the gradients are right: every rank computes the same global loss L from the same gathered batch, and so knows dL/dz
of all rows. The gather's backward, a sum over ranks, is therefore world * dL/dz of the rank's own rows, and nothing is
sent; DDP then averages parameter gradients, (1/world) sum_r world * dL/dz_r dz_r/dtheta = dL/dtheta. That is a third of
the bytes of a gather whose backward is summed over ranks. It rests on the loss being the same everywhere: an objective
sees the global batch and knows nothing of ranks.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from eigenview.views import FIELDS, Views


def is_initialized() -> bool:
    """True inside a process group of any size."""
    return dist.is_available() and dist.is_initialized()


def world_size() -> int:
    """Number of processes; 1 outside a process group."""
    return dist.get_world_size() if is_initialized() else 1


def rank() -> int:
    """This process's number; 0 outside a process group."""
    return dist.get_rank() if is_initialized() else 0


def gather_lists(own: list[Any]) -> list[Any]:
    """The lists of all ranks one after another; every rank has to call it."""
    if world_size() == 1:
        return own
    lists: list[Any] = [None] * world_size()
    dist.all_gather_object(lists, own)
    return [each for found in lists for each in found]


class _Gather(torch.autograd.Function):
    """Concatenate equal shards of all ranks on axis 0; backward is the sum of all ranks' gradients for our rows, which
    are equal, and so needs none but ours."""

    @staticmethod
    def forward(ctx: Any, shard: Tensor) -> Tensor:
        ctx.rows = shard.shape[0]
        out = shard.new_empty((world_size() * shard.shape[0], *shard.shape[1:]))
        dist.all_gather_into_tensor(out, shard.contiguous())
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        return grads[0].narrow(0, rank() * ctx.rows, ctx.rows) * world_size()


def gather(shard: Tensor) -> Tensor:
    """Rows of all ranks on axis 0, in rank order, with gradient; identity alone.

    Shards must have equal shapes. Every rank must make the same loss of the result: the gradient is its own times their
    number.
    """
    return _Gather.apply(shard) if world_size() > 1 else shard  # type: ignore[no-any-return]


def gather_views(views: Views, reads: frozenset[str]) -> Views:
    """The global batch of the fields an objective reads, in ONE collective: (V n D) on each rank -> (V world*n D)."""
    names = [name for name in FIELDS if name in reads]
    fields = [views.read(name) for name in names]
    if world_size() == 1:
        return _views(dict(zip(names, fields, strict=True)), views.targets)
    # samples first, widths concatenated: one buffer (n, sum of V*width) for one all-gather
    shapes = [(f.shape[0], f.shape[2]) for f in fields]
    flat = torch.cat([f.transpose(0, 1).flatten(1) for f in fields], dim=1)
    parts = gather(flat).split([v * d for v, d in shapes], dim=1)
    restored = [part.unflatten(1, shape).transpose(0, 1) for part, shape in zip(parts, shapes, strict=True)]
    return _views(dict(zip(names, restored, strict=True)), views.targets)


def _views(fields: dict[str, Tensor], targets: int | None) -> Views:
    get = fields.get
    return Views(h=get("h"), z=get("z"), p=get("p"), z_target=get("z_target"), targets=targets)


class Ranks:
    """The process group as sharded functions see it (`functional.sharded.processes.Processes`)."""

    @property
    def rank(self) -> int:
        """This process's number."""
        return rank()

    @property
    def size(self) -> int:
        """Number of processes."""
        return world_size()

    def gather(self, shard: Tensor) -> Tensor:
        """Rows of all ranks on axis 0, without gradient."""
        out = shard.new_empty((world_size() * shard.shape[0], *shard.shape[1:]))
        dist.all_gather_into_tensor(out, shard.detach().contiguous())
        return out

    def sum(self, values: Tensor) -> Tensor:
        """Sum over ranks, without gradient."""
        out = values.detach().clone(memory_format=torch.contiguous_format)
        dist.all_reduce(out)
        return out

    def exchange(self, parts: Tensor) -> Tensor:
        """Part r of (size ...) goes to rank r; what all have sent here, in rank order, without gradient."""
        parts = parts.detach().contiguous()
        out = torch.empty_like(parts)
        dist.all_to_all_single(out, parts)
        return out


def global_batch(views: Views, *, reads: frozenset[str], takes_shards: bool) -> Views:
    """What an objective sees of each rank's `views`: all rows of the fields it reads, or its own and whom to ask."""
    if world_size() > 1 and takes_shards:
        return replace(views, processes=Ranks())
    return gather_views(views, reads)


def mean_over_ranks(value: Tensor) -> Tensor:
    """Mean over ranks, without gradient."""
    if world_size() == 1:
        return value
    value = value.detach().clone()
    dist.all_reduce(value)
    return value / world_size()


def broadcast_text(text: str) -> str:
    """Rank 0's string, on every rank."""
    if world_size() == 1:
        return text
    box = [text]
    dist.broadcast_object_list(box, src=0)
    return box[0]


def barrier() -> None:
    """Wait for all ranks."""
    if world_size() > 1:
        dist.barrier()


def any_rank(flags: list[bool], device: torch.device) -> list[bool]:
    """For each flag, whether it is set on any rank: how processes agree to stop or to save."""
    if world_size() == 1:
        return flags
    votes = torch.tensor(flags, dtype=torch.int32, device=device)
    dist.all_reduce(votes, op=dist.ReduceOp.MAX)
    return [bool(vote) for vote in votes.tolist()]
