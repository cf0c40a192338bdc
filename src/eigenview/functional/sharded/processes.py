"""What a sharded function asks of the processes that share its batch, and the choice of what to send."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from eigenview.functional.fused.centring import about_mean_view

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

    def exchange(self, parts: Tensor) -> Tensor:
        """Part r of (size ...) goes to process r; what all have sent here comes back, in rank order, no gradient."""
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


def cheapest(views: int, own: int, width: int, size: int, summed: int) -> Literal["gather", "columns", "sum"]:
    """What sends least, for V views of `own` rows and D features on each of `size` processes.

    gather: all rows to everyone, V N D numbers. sum: `summed` numbers a process, and two means a feature. columns: rows
    become columns and back (`columns.py`), V n D each time, and N x N a view is summed. A ring sends each number of a
    sum twice: it is added up, then handed round.
    """
    count, padded = own * size, size * -(-width // size)
    numbers = {
        "gather": views * count * width,
        "sum": 2 * (summed + 2 * views * width),
        "columns": 2 * views * (own * padded + symmetric_size(count)) + views * padded,
    }
    return min(numbers, key=numbers.__getitem__)  # type: ignore[return-value]


def summed_products(x: Float[Tensor, "V K M"], scale: float, processes: Processes) -> Float[Tensor, "V M M"]:
    """scale times the sum over processes of x^T x of each view.

    Only strips from the diagonal on are computed and sent.
    """
    views, _, side = x.shape
    flat = x.new_empty(views, symmetric_size(side))
    at = 0
    for start, stop in symmetric_strips(side):
        strip = flat[:, at : at + (stop - start) * (side - start)].view(views, stop - start, side - start)
        torch.mul(x[:, :, start:stop].mT @ x[:, :, start:], scale, out=strip)
        at += strip[0].numel()
    flat = processes.sum(flat)
    whole, at = x.new_empty(views, side, side), 0
    for start, stop in symmetric_strips(side):
        strip = flat[:, at : at + (stop - start) * (side - start)].view(views, stop - start, side - start)
        whole[:, start:stop, start:] = strip
        whole[:, start:, start:stop] = strip.mT
        at += strip[0].numel()
    return whole


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
    return torch.stack([view.square_().sum().double() for view in about_mean_view(z)]).sum()
