"""What a sharded function asks of the processes that share its batch, and the choice of what to send."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

SYMMETRIC_STRIPS = 16
"""A symmetric D x D sum is sent in strips from the diagonal on: 17/32 of it."""


@runtime_checkable
class Processes(Protocol):
    """The processes of a batch; all shards are equal in shape, and rank r holds rows r n to (r + 1) n."""

    @property
    def rank(self) -> int:
        """Which of them this is."""
        ...

    @property
    def size(self) -> int:
        """How many there are."""
        ...

    def gather(self, shard: Tensor) -> Tensor:
        """(n ...) on each -> (size n ...) in rank order, without gradient."""
        ...

    def sum(self, values: Tensor) -> Tensor:
        """The sum over processes, without gradient."""
        ...


def gather_samples(z: Float[Tensor, "V n D"], processes: Processes) -> Float[Tensor, "V N D"]:
    """All samples of each view."""
    return processes.gather(z.transpose(0, 1)).transpose(0, 1).contiguous()


def own_rows(samples: int, processes: Processes) -> slice:
    """Where this process's rows lie among all, `samples` to a process."""
    return slice(processes.rank * samples, (processes.rank + 1) * samples)


def symmetric_strips(width: int) -> Iterator[tuple[int, int]]:
    """(start, stop) of the strips in which a symmetric matrix is sent: rows start:stop from column start on."""
    length = -(-width // SYMMETRIC_STRIPS)
    for start in range(0, width, length):
        yield start, min(start + length, width)


def symmetric_size(width: int) -> int:
    """Numbers in all strips of a symmetric matrix."""
    return sum((stop - start) * (width - start) for start, stop in symmetric_strips(width))


def sends_less(views: int, samples: int, width: int, summed: int) -> bool:
    """Whether summing `summed` numbers over processes sends less than gathering z (V N D).

    A ring sends each number of a sum twice (it is added up, then handed round), each number of a gather once. Two
    means a feature are summed besides.
    """
    return 2 * (summed + 2 * views * width) < views * samples * width


def global_deviations(
    z: Float[Tensor, "V n D"], processes: Processes
) -> tuple[Float[Tensor, "V 1 D"], Float[Tensor, "V 1 D"], Float[Tensor, "V n D"]]:
    """(means over all samples, means of what is left after subtracting them, own rows less both).

    In two steps for the reason given in `fused/centring.py`.
    """
    count = z.shape[1] * processes.size
    first = processes.sum(z.sum(dim=1, keepdim=True)) / count
    y = z - first
    left = processes.sum(y.sum(dim=1, keepdim=True)) / count
    return first, left, y.sub_(left)


def scatter_of(z: Float[Tensor, "V n D"]) -> Float[Tensor, ""]:
    """sum_a |z_a - mean over views|^2 of the rows at hand, in float64."""
    centre = z.mean(dim=0)
    return torch.stack([(view - centre).square_().sum().double() for view in z]).sum()
