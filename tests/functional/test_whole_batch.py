"""Own rows of a batch that is spread over processes: what is gathered, and which gradient the own rows receive."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from eigenview.distributed import Pretend
from eigenview.functional.batch_moments import batch_moments, unbiased_batch_moments
from eigenview.functional.contrast import contrast
from eigenview.functional.cross_moments import cross_moments, unbiased_cross_moments
from eigenview.functional.whole_batch import whole_batch
from eigenview.methods.parts import mean_view
from eigenview.records import ALONE, Processes
from tests.draws import random


@dataclass(frozen=True)
class OneOf:
    """One of several processes, which knows what the others would send: all shards of one tensor (size n ...)."""

    rank: int
    shards: Tensor

    @property
    def size(self) -> int:
        return len(self.shards)

    def check_shape(self, x: Tensor) -> None:
        assert x.shape == self.shards[self.rank].shape

    def gather(self, x: Tensor) -> Tensor:
        """The shards in rank order; this process's must be what it sends."""
        assert torch.equal(x.detach(), self.shards[self.rank])
        return self.shards.flatten(0, 1)

    def sum(self, x: Tensor) -> Tensor:
        raise AssertionError("nothing is summed")

    max = sum


def test_on_one_process_it_is_the_batch_itself() -> None:
    z = random(2, 3, 4).requires_grad_()
    assert whole_batch(z) is z
    assert whole_batch(z, ALONE) is z


@pytest.mark.parametrize("rank", [0, 1, 2])
def test_rows_come_in_rank_order_and_the_own_gradient_counts_for_every_process(rank: int) -> None:
    """Three processes of two rows. Of a loss that all compute, the own rows receive their part times 3: DDP's average
    over processes divides by it."""
    whole = random(2, 6, 4)
    shards = whole.transpose(0, 1).unflatten(0, (3, 2))  # (process, row, view, width)
    rows = slice(2 * rank, 2 * rank + 2)
    own = whole[:, rows].clone().requires_grad_()
    found = whole_batch(own, OneOf(rank, shards))
    assert torch.equal(found, whole)
    weights = random(2, 6, 4, seed=1)
    (gradient,) = torch.autograd.grad((weights * found).sum(), own)
    assert torch.equal(gradient, 3 * weights[:, rows])


PROVIDERS: dict[str, Callable[[Tensor, Processes], tuple[Tensor, ...]]] = {
    "whole_batch": lambda z, processes: (whole_batch(z, processes),),
    "batch_moments": batch_moments,
    "unbiased_batch_moments": unbiased_batch_moments,
    "cross_moments": lambda z, processes: cross_moments(z, 1e-3, processes),
    "unbiased_cross_moments": lambda z, processes: unbiased_cross_moments(z, 1e-3, processes),
    "contrast outside": lambda z, processes: contrast(z, 0.3, processes),
    "contrast inside": lambda z, processes: contrast(z, 0.3, processes, positives="inside"),
    "mean-view batch_moments": mean_view.batch_moments,
    "mean-view cross_moments": lambda z, processes: mean_view.cross_moments(z, 1e-3, processes),
    "mean-view contrast": lambda z, processes: mean_view.contrast(z, 0.3, processes),
}


@pytest.mark.parametrize("size", [2, 4])
@pytest.mark.parametrize("shape", [(2, 5, 3), (3, 2, 20)])
@pytest.mark.parametrize("name", PROVIDERS)
def test_processes_with_equal_rows_are_one_process_with_copies(name: str, shape: tuple[int, ...], size: int) -> None:
    """Every provider: the statistics of the repeated batch, and of its gradient the first copy's rows times `size`."""
    provider, z = PROVIDERS[name], random(*shape).requires_grad_()
    copies = torch.cat([z.detach()] * size, dim=1).requires_grad_()
    found, expected = provider(z, Pretend(size)), provider(copies, ALONE)
    torch.testing.assert_close(tuple(found), tuple(expected), rtol=1e-11, atol=1e-12)
    weights = [random(*value.shape, seed=k) for k, value in enumerate(expected)]
    ours, theirs = (
        torch.autograd.grad(sum((w * v).sum() for w, v in zip(weights, values, strict=True)), at)[0]  # type: ignore[arg-type]
        for values, at in ((found, z), (expected, copies))
    )
    torch.testing.assert_close(ours, size * theirs[:, : shape[1]], rtol=1e-10, atol=1e-11)
