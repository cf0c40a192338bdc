"""What a step sends between processes, counted; and that sharded terms equal those of the whole batch."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from benchmarks.sections.sent_bytes import SummedGather, counted
from torch import Tensor

from eigenview import distributed
from eigenview.distributed import Ranks
from eigenview.functional.contrast import contrast
from eigenview.methods import card, config_class
from eigenview.records import ALONE, Clock, Processes
from eigenview.views import Loss, Views
from tests.contract.building import objective_of
from tests.process_pool import ProcessPool

Shape = tuple[int, int, int]
SHARDED = ("vicreg", "barlow-twins", "simclr")
"""Methods whose statistics of the global batch are computed from own rows."""
ROW_BY_ROW = ("byol", "simsiam", "directset", "directpred", "directcopy", "isoloss")
"""Methods whose loss is a mean over rows, so that it needs no other process."""
COMPUTED = ("directset", "directpred", "directcopy", "isoloss")
"""Those of them whose predictor is computed from the second moment of the global batch."""
# (views, samples, width): a gather sends less, a sum sends less, more views of few samples, few of many dimensions
SHAPES = [(2, 8, 24), (2, 160, 12), (3, 8, 6), (3, 96, 10), (2, 40, 32), (2, 16, 250), (3, 8, 130)]


def embeddings(shape: Shape) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    common = torch.randn(1, *shape[1:], generator=generator, dtype=torch.float64)
    noise = torch.randn(shape, generator=generator, dtype=torch.float64)
    return (common + 0.5 * noise) * torch.linspace(0.5, 1.5, shape[2], dtype=torch.float64) + 3


def own_rows(z: Tensor) -> Tensor:
    """This process's rows of the global batch."""
    mine = z.shape[1] // distributed.world_size()
    return z[:, distributed.rank() * mine : (distributed.rank() + 1) * mine].clone()


def terms_of(method: str, z: Tensor, processes: Processes = ALONE) -> Mapping[str, Tensor]:
    """The weighted terms; SimCLR's with three views have the positives inside the logarithm."""
    if method == "simclr" and len(z) == 3:
        positive, log_denominator = contrast(z, 0.5, processes, positives="inside")
        return {"alignment": -positive, "logsumexp": log_denominator}
    objective = objective_of(method, z.shape[2], len(z))
    return objective(Views(z=z), Clock(processes=processes)).terms


def bytes_and_gradient(method: str, shape: Shape, usual: bool) -> tuple[float, dict[str, Any]]:
    """Bytes this rank sends in one step, by ring algorithms; the terms and the gradient of the own embeddings."""
    own = own_rows(embeddings(shape)).requires_grad_()
    with counted() as sent:
        if usual:
            z: Tensor = SummedGather.apply(own.transpose(0, 1)).transpose(0, 1)  # type: ignore[attr-defined]
            terms = terms_of(method, z)
        else:
            terms = terms_of(method, own, Ranks())
        Loss(terms).total.backward()
    assert own.grad is not None
    return sent.bytes, {n: t.item() for n, t in terms.items()} | {"gradient": own.grad.numpy()}


@pytest.mark.ddp
@pytest.mark.parametrize("size", [2, 4])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("method", SHARDED)
def test_three_times_fewer_bytes_and_the_same_gradient(
    processes: ProcessPool, method: str, shape: Shape, size: int
) -> None:
    ours, usual = (processes.run(size, bytes_and_gradient, method, shape, way) for way in (False, True))
    once = (size - 1) / size * np.prod(shape) * 8
    for (sent, found), (sent_usually, expected) in zip(ours, usual, strict=True):
        assert sent_usually == pytest.approx(3 * once)
        # the embeddings once, and besides them a few sums, which are small at the sizes of real runs
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
def test_many_samples_are_summed_and_not_gathered(processes: ProcessPool, method: str, shape: Shape) -> None:
    """16 times as many samples as dimensions: sums of D x D send 7 (VICReg) and 8 times less than a gather."""
    ours, usual = (processes.run(2, bytes_and_gradient, method, shape, way) for way in (False, True))
    assert usual[0][0] >= 3 * 7 * ours[0][0]


@pytest.mark.ddp
@pytest.mark.parametrize(("method", "vectors"), [("vicreg", 0), ("barlow-twins", 2)])
def test_few_samples_of_many_dimensions_are_gathered_once(processes: ProcessPool, method: str, vectors: int) -> None:
    """On four processes a gather of the embeddings in the forward pass, and a few numbers a view; nothing more."""
    views, samples, width = 2, 16, 1024
    numbers = views * samples * width + 2 * vectors * width  # a sum sends each number twice
    scalars = 2 * (views + 1)
    for sent, _ in processes.run(4, bytes_and_gradient, method, (views, samples, width), False):
        assert 3 / 4 * 8 * numbers < sent <= 3 / 4 * 8 * (numbers + scalars)


def row_by_row(method: str, shape: Shape) -> dict[str, Any]:
    """Bytes that this rank sends for the loss and its gradient, and for the update; loss, gradient, state after it."""
    torch.manual_seed(6)
    objective = objective_of(method, shape[2], shape[0]).double()
    z, targets = (own_rows(embeddings(shape) + shift) for shift in (0.0, 0.3))
    clock = Clock(processes=distributed.processes())
    z.requires_grad_()
    reads = config_class(method)(**card(method).small).needs.reads
    # the prediction of a learned predictor: any function of z
    fields = {"z": z, "p": z.tanh() + z, "z_target": targets}
    views = Views(**{name: fields[name] for name in reads})
    with counted() as for_loss:
        loss = objective(views, clock)
        loss.total.backward()
    with counted() as for_update:
        objective.update(loss.carry, clock)
    assert z.grad is not None
    return {
        "sent": (for_loss.bytes, for_update.bytes),
        "loss": loss.total.item(),
        "gradient": z.grad.numpy(),
        "state": {name: value.numpy() for name, value in objective.state_dict().items()},
    }


@pytest.mark.ddp
@pytest.mark.parametrize("size", [2, 4])
@pytest.mark.parametrize("method", ROW_BY_ROW)
def test_a_loss_row_by_row_sends_nothing(processes: ProcessPool, method: str, size: int) -> None:
    """Neither for loss nor gradient; the update of a computed predictor sums one D x D moment and a mean."""
    width = 6
    shape = (3, 16, width)
    ours = processes.run(size, row_by_row, method, shape)
    (alone,) = processes.run(1, row_by_row, method, shape)
    moments = 2 * (size - 1) / size * 8 * (width**2 + width) if method in COMPUTED else 0
    for found in ours:
        assert found["sent"] == (0, pytest.approx(moments))
        for name, value in alone["state"].items():
            np.testing.assert_allclose(found["state"][name], value, rtol=1e-10, atol=1e-12)
    assert np.mean([found["loss"] for found in ours]) == pytest.approx(alone["loss"], rel=1e-12)
    gradient = np.concatenate([found["gradient"] for found in ours], axis=1)
    np.testing.assert_allclose(gradient / size, alone["gradient"], rtol=1e-10, atol=1e-14)


def weighted_gradient(method: str, weights: tuple[float, ...], shape: Shape) -> np.ndarray:
    """The gradient at this rank of a weighted sum of the terms, for any weights."""
    own = own_rows(embeddings(shape)).requires_grad_()
    terms = terms_of(method, own, distributed.processes()).values()
    sum(w * t for w, t in zip(weights, terms, strict=True) if w).backward()  # type: ignore[union-attr]
    assert own.grad is not None
    return own.grad.numpy() / distributed.world_size()


@pytest.mark.ddp
@pytest.mark.parametrize(("size", "shape"), [(2, (2, 8, 24)), (3, (2, 9, 100)), (4, (2, 160, 12))])
@pytest.mark.parametrize(
    ("method", "weights"),
    [("vicreg", w) for w in ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0), (0.3, -1.0, 2.0))]
    + [(m, w) for m in ("barlow-twins", "simclr") for w in ((1.0, 0.0), (0.0, 1.0), (0.3, -2.0))],
    ids=str,
)
def test_any_weights_of_the_terms(
    processes: ProcessPool, method: str, weights: tuple[float, ...], size: int, shape: Shape
) -> None:
    shards = processes.run(size, weighted_gradient, method, weights, shape)
    alone = weighted_gradient(method, weights, shape)
    np.testing.assert_allclose(np.concatenate(shards, axis=1), alone, rtol=1e-10, atol=1e-14)
