"""The only file that imports torch.distributed: processes as methods see them, and a few collectives for the engine.

Why gradients are right on several processes: the loss of a run is the mean over processes of their losses, and DDP
averages parameter gradients. `Ranks.sum` and `Ranks.gather` therefore send the gradients of all processes back, a sum
over processes. Where all processes hold the same loss this sum is `size` times the own gradient, and nothing need be
sent: the providers in `functional/` use that (`functional/whole_batch.py`).
"""

from __future__ import annotations

import atexit
import inspect
from datetime import timedelta
from typing import Any, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed import TCPStore  # pyright: ignore[reportPrivateImportUsage]
from torch.nn.parallel import DistributedDataParallel

from eigenview.errors import require
from eigenview.records import ALONE, Processes


def is_initialized() -> bool:
    """True inside a process group of any size."""
    return dist.is_available() and dist.is_initialized()


def world_size() -> int:
    """Number of processes; 1 outside a process group."""
    return dist.get_world_size() if is_initialized() else 1


def rank() -> int:
    """This process's number; 0 outside a process group."""
    return dist.get_rank() if is_initialized() else 0


class _Sum(torch.autograd.Function):
    """Sum over processes; its gradient is again a sum over processes."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        out = x.detach().clone(memory_format=torch.contiguous_format)
        dist.all_reduce(out)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        return _Sum.apply(grads[0])


class _Gather(torch.autograd.Function):
    """Concatenate equal shards on axis 0; backward sums the gradients of all processes and takes the own rows."""

    @staticmethod
    def forward(ctx: Any, shard: Tensor) -> Tensor:
        ctx.rows = shard.shape[0]
        out = shard.new_empty((world_size() * shard.shape[0], *shard.shape[1:]))
        dist.all_gather_into_tensor(out, shard.detach().contiguous())
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        # gloo has no reduce_scatter
        return cast(Tensor, _Sum.apply(grads[0])).narrow(0, rank() * ctx.rows, ctx.rows)


class Ranks:
    """The default process group as `records.Processes`. `is_checked`: shapes are compared before each loss."""

    def __init__(self, *, is_checked: bool = True) -> None:
        self.rank, self.size, self.is_checked = rank(), world_size(), is_checked

    def sum(self, x: Tensor) -> Tensor:
        """Sum over processes, with gradient."""
        return cast(Tensor, _Sum.apply(x))

    def gather(self, x: Tensor) -> Tensor:
        """(n ...) on each process -> (size n ...) in rank order, with gradient."""
        return cast(Tensor, _Gather.apply(x))

    def max(self, x: Tensor) -> Tensor:
        """Maximum over processes, without gradient."""
        out = x.detach().clone(memory_format=torch.contiguous_format)
        dist.all_reduce(out, op=dist.ReduceOp.MAX)
        return out

    def check_shape(self, shape: tuple[int, ...]) -> None:
        """Raise UserError, on every process, if they hold different shapes. Otherwise gloo aborts, or the loss of the
        run, a mean over processes, would weigh rows by where they are."""
        if not self.is_checked:
            return
        shapes = gather_lists([shape])
        for number, theirs in enumerate(shapes):
            allowed = (
                f"{shapes[0]}, as on process 0. Give every process as many rows (drop_last=True in the DataLoader)"
            )
            require(theirs == shapes[0], f"the shape (views, samples, width) on process {number}", theirs, allowed)


class Pretend:
    """`size` processes with equal rows, in one: for memory estimates, and tests of sharded code without processes."""

    def __init__(self, size: int) -> None:
        self.rank, self.size = 0, size

    def sum(self, x: Tensor) -> Tensor:
        """`size` times x."""
        return x * self.size

    def gather(self, x: Tensor) -> Tensor:
        """`size` copies of x."""
        return torch.cat([x] * self.size)

    def max(self, x: Tensor) -> Tensor:
        """x."""
        return x.detach()

    def check_shape(self, shape: tuple[int, ...]) -> None:
        """The shapes are equal."""


def processes(*, is_checked: bool = True) -> Processes:
    """The processes of torch's default group; one process if there is no group.

    In a training loop of one's own: `objective(z1, z2, clock=ev.Clock(processes=ev.processes()))` is the loss of the
    rows of all processes. Every process calls it with as many rows. The gradients are right after their mean over
    processes, which DistributedDataParallel takes.

    is_checked: compare the shapes of all processes before each loss, which sends a few bytes; an engine that has made
    the shares itself need not.
    """
    return Ranks(is_checked=is_checked) if world_size() > 1 else ALONE


def ddp_options() -> dict[str, Any]:
    """Options of DistributedDataParallel, which differ between versions of torch: no copying of rank 0's buffers.

    Buffers are the same on all processes by construction; copying them would hide a difference and cost a transfer.
    """
    known = inspect.signature(DistributedDataParallel.__init__).parameters
    return {"forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers": False}


def wrapped(method: nn.Module, device: torch.device) -> DistributedDataParallel:
    """The method in torch's DDP, which averages gradients over the processes of the group."""
    return DistributedDataParallel(method, device_ids=[device] if device.type == "cuda" else None, **ddp_options())


def join_group(address: str, port: int, number: int, size: int, device: torch.device) -> None:
    """Enter the process group of a run, as process `number` of `size`; waits for the others."""
    if is_initialized():  # of an earlier run of this program
        return
    backend = "nccl" if device.type == "cuda" else "gloo"
    dist.init_process_group(backend, init_method=f"tcp://{address}:{port}", rank=number, world_size=size)
    atexit.register(leave_group)


class StoreConnection:
    """A connection to the key-value store of a process group, which lives in the first process or in torchrun.

    An operation that waits longer than `timeout` counts as no answer; the next one connects again.
    """

    def __init__(self, address: str, port: int, timeout: timedelta) -> None:
        self._store: TCPStore | None = None
        self._address, self._port, self._timeout = address, port, timeout

    def exchange(self, key: str, value: str, others: list[str]) -> list[bytes | None]:
        """Set `key`, and read the values of other keys: None if there is none, or if the store does not answer."""
        try:
            if self._store is None:
                options = {"is_master": False, "wait_for_workers": False, "timeout": self._timeout}
                self._store = TCPStore(self._address, self._port, **options)
            self._store.set(key, value)
            return [self._store.get(other) if self._store.check([other]) else None for other in others]
        except RuntimeError:  # no answer in time, or the first process is gone
            self._store = None
            return [None] * len(others)


def leave_group() -> None:
    """Leave the process group, if there still is one."""
    if is_initialized():
        dist.destroy_process_group()


def gather_lists(own: list[Any]) -> list[Any]:
    """The lists of all ranks one after another; every rank has to call it."""
    if world_size() == 1:
        return own
    lists: list[Any] = [None] * world_size()
    dist.all_gather_object(lists, own)
    return [each for found in lists for each in found]


def broadcast_text(text: str) -> str:
    """Rank 0's string, on every rank."""
    if world_size() == 1:
        return text
    box = [text]
    dist.broadcast_object_list(box, src=0)
    return box[0]


def is_connection_lost(error: BaseException) -> bool:
    """Whether a collective raised this because another process is gone. gloo raises a plain RuntimeError."""
    signs = ("Connection closed by peer", "Connection reset by peer", "Broken pipe", "remote process exited")
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in signs)


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
