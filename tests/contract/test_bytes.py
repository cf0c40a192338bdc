"""What a step sends between processes, counted; and that sharded terms equal those of the whole batch."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
from benchmarks.sections.sent_bytes import SummedGather, counted
from torch import Tensor

from eigenview import distributed
from eigenview.methods.parts.method import Objective
from eigenview.records import Clock
from eigenview.views import Views
from tests.contract.building import objective_of as built
from tests.process_pool import ProcessPool

SHARDED = ("vicreg", "barlow-twins", "simclr")
LOCAL = ("byol", "simsiam", "directcopy", "directpred", "isoloss")
# (views, samples, width): a gather sends less, a sum sends less, more views of few samples, few of many dimensions
SHAPES = [(2, 8, 24), (2, 160, 12), (3, 8, 6), (3, 96, 10), (2, 40, 32), (2, 16, 250), (3, 8, 130)]


def objective_of(method: str, width: int, views: int) -> Objective:
    torch.manual_seed(0)
    return built(method, width, views).double()


def embeddings(shape: tuple[int, int, int]) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    common = torch.randn(1, *shape[1:], generator=generator, dtype=torch.float64)
    noise = torch.randn(shape, generator=generator, dtype=torch.float64)
    return (common + 0.5 * noise) * torch.linspace(0.5, 1.5, shape[2], dtype=torch.float64) + 3


def bytes_and_gradient(method: str, shape: tuple[int, int, int], usual: bool) -> tuple[float, dict[str, Any]]:
    """Bytes this rank sends in one step, by ring algorithms; the terms and the gradient of its own embeddings."""
    objective = objective_of(method, shape[2], shape[0])
    mine = shape[1] // dist.get_world_size()
    own = embeddings(shape)[:, dist.get_rank() * mine : (dist.get_rank() + 1) * mine].clone().requires_grad_()
    with counted() as sent:
        if usual:
            views = Views(z=SummedGather.apply(own.transpose(0, 1)).transpose(0, 1))  # type: ignore[attr-defined]
            loss = objective(views)
        else:
            loss = objective(Views(z=own), Clock(processes=distributed.processes()))
        loss.total.backward()
    assert own.grad is not None
    return sent.bytes, {n: t.item() for n, t in loss.terms.items()} | {"gradient": own.grad.numpy()}


def bytes_of_a_local_loss(method: str, shape: tuple[int, int, int]) -> tuple[float, float]:
    """Bytes this rank sends for loss and gradient, and for the update of the state, of a method whose loss is a mean
    over images."""
    objective, clock = objective_of(method, shape[2], shape[0]), Clock(processes=distributed.processes())
    own = embeddings(shape).requires_grad_()
    with counted() as for_loss:
        loss = objective(Views(z=own, p=own, z_target=own.detach()), clock)
        loss.total.backward()
    with counted() as for_update:
        objective.update(loss.carry, clock)
    return for_loss.bytes, for_update.bytes


@pytest.mark.ddp
@pytest.mark.parametrize("size", [2, 4])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("method", SHARDED)
def test_three_times_fewer_bytes_and_the_same_gradient(
    processes: ProcessPool, method: str, shape: tuple[int, int, int], size: int
) -> None:
    ours, usual = (processes.run(size, bytes_and_gradient, method, shape, way) for way in (False, True))
    once = (size - 1) / size * np.prod(shape) * 8
    for (sent, found), (sent_usually, expected) in zip(ours, usual, strict=True):
        assert sent_usually == pytest.approx(3 * once)
        # the embeddings once, and besides them a few sums, which weigh nothing at real sizes
        views, samples, width = shape
        besides = 2 * 8 * (views + 2 + views * samples + 3 * views * width)
        assert sent <= once + besides
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            np.testing.assert_allclose(found[name], value, rtol=1e-10, atol=1e-12)
    for (_, a), (_, b) in pairwise(ours):  # to the bit: every process logs and stops by the same numbers
        assert all(a[name] == b[name] for name in a if name != "gradient")


@pytest.mark.ddp
@pytest.mark.parametrize(("method", "shape"), [("vicreg", (2, 1024, 64)), ("barlow-twins", (2, 1024, 64))])
def test_many_samples_are_summed_and_not_gathered(
    processes: ProcessPool, method: str, shape: tuple[int, int, int]
) -> None:
    """16 times as many samples as dimensions: sums of D x D send 7 (VICReg) and 8 times less than a gather."""
    ours, usual = (processes.run(2, bytes_and_gradient, method, shape, way) for way in (False, True))
    assert usual[0][0] >= 3 * 7 * ours[0][0]


@pytest.mark.ddp
@pytest.mark.parametrize("method", LOCAL)
def test_a_mean_over_images_sends_nothing(processes: ProcessPool, method: str) -> None:
    """No embedding travels; a closed-form predictor sums its D x D moment and its mean once per step."""
    width = 12
    for for_loss, for_update in processes.run(2, bytes_of_a_local_loss, method, (2, 8, width)):
        assert for_loss == 0
        moments = 8 * (width * width + width)  # a ring of two sends each number of a sum once
        assert for_update == (moments if method in ("directcopy", "directpred", "isoloss") else 0)


def weighted_gradient(method: str, weights: tuple[float, ...], shape: tuple[int, int, int]) -> np.ndarray:
    """The gradient at this rank of a weighted sum of the terms, whatever the weights."""
    size, rank = distributed.world_size(), distributed.rank()
    mine = shape[1] // size
    own = embeddings(shape)[:, rank * mine : (rank + 1) * mine].clone().requires_grad_()
    objective = objective_of(method, shape[2], shape[0])
    terms = objective(Views(z=own), Clock(processes=distributed.processes())).terms.values()
    sum(w * t for w, t in zip(weights, terms, strict=True) if w).backward()  # type: ignore[union-attr]
    assert own.grad is not None
    return own.grad.numpy() / size


@pytest.mark.ddp
@pytest.mark.parametrize(("size", "shape"), [(2, (2, 8, 24)), (3, (2, 9, 100)), (4, (2, 8, 130))])
@pytest.mark.parametrize(
    ("method", "weights"),
    [("vicreg", w) for w in ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0), (0.3, -1.0, 2.0))]
    + [(m, w) for m in ("barlow-twins", "simclr") for w in ((1.0, 0.0), (0.0, 1.0), (0.3, -2.0))],
    ids=str,
)
def test_any_weights_of_the_terms(
    processes: ProcessPool, method: str, weights: tuple[float, ...], size: int, shape: tuple[int, int, int]
) -> None:
    shards = processes.run(size, weighted_gradient, method, weights, shape)
    alone = weighted_gradient(method, weights, shape)
    np.testing.assert_allclose(np.concatenate(shards, axis=1), alone, rtol=1e-10, atol=1e-14)
