"""What every objective is: named, weighted terms of a global batch, from a module whose forward changes nothing."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from eigenview.errors import UserError, require
from eigenview.functional.sharded.processes import Processes
from eigenview.views import Views


class Objective(nn.Module):
    """Interface of all objectives.

    `forward(views)` returns `{term name: weighted scalar}`; the loss is their sum (`total`) and the names are the log
    keys. It computes in float32 or better whatever comes in, and never changes state. State moves only in
    `update(views)`, once per training step, without gradient: before `forward`, or after the optimiser's step for
    objectives with `updates_last`.

    Its terms are those of the global batch. On several processes put what it is to see through
    `eigenview.distributed.global_batch` first (our engine does), and average gradients as DDP does: it gathers the
    fields that are read, or leaves that to the formulas which need less (`takes_shards`). No objective calls
    torch.distributed.
    """

    reads: frozenset[str] = frozenset({"z"})
    """The fields of Views it needs: h, z, p (asks for a learned predictor), z_target (asks for a target network)."""
    updates_last: bool = False
    """`update` comes after the optimiser's step instead of before `forward`."""
    gathers: bool = True
    """It sees the global batch. Off: each process's own shard, where a mean over shards estimates the same."""
    takes_shards: bool = False
    """It can compute the global batch's terms from `Views` that hold a process's own rows and name the `processes`."""
    one_network: str | None = None
    """Why both views must pass through one network, for an objective that does not work with two; else None."""

    @classmethod
    def reads_of(cls, config: Any) -> frozenset[str]:
        """`reads` of an instance with this config, before there is one: the network is built from it."""
        return cls.reads

    @classmethod
    def least_samples_of(cls, config: Any) -> int:
        """Samples without which the statistics of an instance with this config do not exist."""
        return 2

    @classmethod
    def coupled_by(cls, config: Any) -> str | None:
        """Why a batch cannot be taken in parts with this config; None where the mean over parts of loss and gradient
        estimates the same as the whole batch."""
        return "its statistics are those of the whole batch"

    @classmethod
    def build(cls, config: Any, *, representation: int, width: int, views: int) -> Objective:
        """An instance for a network with these widths H and D and number of views V; most need none of them."""
        return cls(config)  # type: ignore[call-arg]

    def __call__(self, views: Any) -> dict[str, Tensor]:
        """`forward`, and a plain error for what is easily given in place of Views: a tensor."""
        if not isinstance(views, Views):
            raise UserError(
                f"{type(self).__name__} was called with {type(views).__name__}; allowed: Views. For two batches of "
                "embeddings (samples, width): objective(Views(z=torch.stack([z1, z2])))."
            )
        return super().__call__(views)

    def update(self, views: Views) -> None:
        """Move buffers from this batch (no gradient). Objectives without state do nothing."""

    def forward(self, views: Views) -> dict[str, Tensor]:
        """The weighted terms of one global batch."""
        raise TypeError(f"{type(self).__name__} defines no forward.")


def total(terms: dict[str, Tensor]) -> Tensor:
    """The loss: the sum of the weighted terms."""
    return torch.stack(list(terms.values())).sum()


def promote(x: Tensor) -> Tensor:
    """float32 for half precision, unchanged for float32 and float64: the dtype in which every objective computes."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def without_autocast(x: Tensor) -> torch.autocast:
    """Context in which no autocast lowers the precision of matrix products, on the device of `x`.

    It covers the forward pass. Call `backward()` outside autocast, as torch asks: inside, its products are lowered too.
    """
    return torch.autocast(x.device.type, enabled=False)


def require_samples(x: Tensor, least: int, processes: Processes | None = None) -> None:
    """Refuse a batch (V N D) with too few samples, over all processes, for the statistics an objective takes of it."""
    count = x.shape[1] * (processes.size if processes is not None else 1)
    require(count >= least, "samples in the batch", count, f"{least} or more", "Use a larger batch.")
