"""What the sharded functions share: rows and sums over processes, and the choice of what to send."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor

from eigenview.functional.fused.centring import about_mean_view
from eigenview.records import Processes

SYMMETRIC_STRIPS = 16
"""A symmetric D x D sum is sent in strips from the diagonal on: 17/32 of it."""


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


def sum_is_cheaper(views: int, own: int, width: int, size: int, summed: int) -> bool:
    """Whether a sum over processes sends less than a gather, for V views of `own` rows and D features on each.

    Gather: all rows to every process, V N D numbers. Sum: `summed` numbers a process, and two means a feature; a ring
    sends each number of a sum twice, once to add it up and once to distribute the result.
    """
    return 2 * (summed + 2 * views * width) < views * own * size * width


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
