"""Bytes that a process sends in one step for the loss, counted: ours against gathers whose backward pass sums all
processes' gradients. Ours gathers the embeddings once, or sums D x D matrices if that sends less, and sends next to
nothing in the backward pass.

Real processes of a gloo group compute an objective on their shares of one batch; the collectives they call are counted
by what a ring sends. Before anything is reported, every way must give each process the gradient that one process finds
for its rows (times the number of processes: DDP averages).
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from benchmarks.contest import OURS, Disagreement, Goal, Row, Section, Settings, require_agreement
from benchmarks.peers import peer
from eigenview.distributed import Ranks
from eigenview.functional.whole_batch import whole_batch
from eigenview.methods.barlow_twins import BarlowTwins
from eigenview.methods.parts.method import Objective
from eigenview.methods.simclr import SimCLR
from eigenview.methods.vicreg import VICReg
from eigenview.records import Clock
from eigenview.views import Views

Shape = tuple[int, int, int]
"""Views, samples of the global batch, width."""

SECTION = "bytes"
OUR_GATHER = "our gather alone"  # of methods whose objective needs every row
SUMMED, LIGHTLY = "gather, gradients summed", "lightly's gather"
METHODS: dict[str, Callable[[], Objective]] = {"vicreg": VICReg, "barlow-twins": BarlowTwins, "simclr": SimCLR}
# few samples of many dimensions, many of few: tiny, quick, full
SHAPES: tuple[tuple[Shape, ...], ...] = (((2, 8, 24), (2, 64, 4)), ((2, 32, 128),), ((2, 256, 2048), (2, 2048, 256)))
Run = Callable[..., list[Any]]
"""`run(processes, function, *arguments)`: the results of all ranks."""

# bytes that one of `world` processes sends for a collective, over its share (world - 1) / world: from its arguments
_RING: dict[str, Callable[..., int]] = {
    "all_gather_into_tensor": lambda out, shard, *_, **__: out.nbytes,
    "all_gather": lambda outs, shard, *_, **__: sum(out.nbytes for out in outs),
    "reduce_scatter_tensor": lambda out, whole, *_, **__: whole.nbytes,
    "all_reduce": lambda x, *_, **__: 2 * x.nbytes,  # a reduce-scatter and a gather
}


class Sent:
    """A counter."""

    def __init__(self) -> None:
        self.bytes = 0.0


@contextmanager
def counted() -> Iterator[Sent]:
    """Count what torch.distributed's collectives send inside, by ring algorithms."""
    sent = Sent()
    share = (dist.get_world_size() - 1) / dist.get_world_size()
    originals = {name: getattr(dist, name) for name in _RING}

    def counting(name: str) -> Callable[..., Any]:
        def collective(*args: Any, **kwargs: Any) -> Any:
            sent.bytes += share * _RING[name](*args)
            return originals[name](*args, **kwargs)

        return collective

    for name in _RING:
        setattr(dist, name, counting(name))
    try:
        yield sent
    finally:
        for name, original in originals.items():
            setattr(dist, name, original)


class SummedGather(torch.autograd.Function):
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


def batch_of(shape: Shape) -> Tensor:
    """The global batch (V N D)."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def gathered(way: str, own: Tensor) -> Tensor:
    """The global batch (V N D) on every rank."""
    if way == OUR_GATHER:
        return whole_batch(own, Ranks())
    rows = own.transpose(0, 1).contiguous()
    if way == SUMMED:
        return SummedGather.apply(rows).transpose(0, 1)  # type: ignore[attr-defined,no-any-return]
    from lightly.utils.dist import gather

    return torch.cat(gather(rows)).transpose(0, 1)


def bytes_and_gradient(way: str, method: str, shape: Shape) -> tuple[float, np.ndarray]:
    """On a rank: bytes it sends in one step, and the gradient of the own embeddings."""
    objective = METHODS[method]()
    mine = shape[1] // dist.get_world_size()
    start = dist.get_rank() * mine
    own = batch_of(shape)[:, start : start + mine].clone().requires_grad_()
    with counted() as sent:
        if way == OURS:
            loss = objective(Views(z=own), Clock(processes=Ranks()))
        else:
            loss = objective(Views(z=gathered(way, own)))
        loss.total.backward()
    assert own.grad is not None
    return sent.bytes, own.grad.numpy()


def count_bytes(run: Run, processes: int, method: str, shape: Shape, ways: list[str]) -> dict[str, float]:
    """Bytes by the name of the way; Disagreement where a gradient is not one process's."""
    alone = batch_of(shape).requires_grad_()
    METHODS[method]()(Views(z=alone)).total.backward()
    assert alone.grad is not None
    found: dict[str, float] = {}
    for way in ways:
        answers = run(processes, bytes_and_gradient, way, method, shape)
        gradient = torch.cat([torch.from_numpy(each) for _, each in answers], dim=1)
        what = f"bytes, {method} {shape}, {processes} processes, {way}"
        require_agreement(what, {"gradient": gradient}, {"gradient": processes * alone.grad})
        found[way] = max(sent for sent, _ in answers)
        if found[way] == 0:
            raise Disagreement(f"{what}: no collective was counted, yet the gradient is the whole batch's.")
    return found


def ways_of(settings: Settings) -> list[str]:
    """Ours, our gather, the usual gather, lightly's where it is installed."""
    return [OURS, OUR_GATHER, SUMMED, *([LIGHTLY] if peer("lightly.utils.dist", settings) is not None else [])]


@contextmanager
def pool(size: int) -> Iterator[Run]:
    """Processes of a group, as the tests use them."""
    from tests.process_pool import ProcessPool

    with tempfile.TemporaryDirectory() as folder, ProcessPool(size, Path(folder)) as processes:
        yield processes.run


def check(settings: Settings) -> list[str]:
    """The gradients of two processes by every way."""
    with pool(2) as run:
        return [
            f"bytes, {method} {shape}: {way} sends {sent:,.0f}"
            for method in METHODS
            for shape in SHAPES[0]
            for way, sent in count_bytes(run, 2, method, shape, ways_of(settings)).items()
        ]


def measure(settings: Settings) -> list[Row]:
    """Count, for two and for four processes."""
    rows: list[Row] = []
    ways, sizes = ways_of(settings), settings.pick((2,), (2,), (2, 4))
    with pool(max(sizes)) as run:
        plan = [(method, shape, size) for method in METHODS for shape in settings.pick(*SHAPES) for size in sizes]
        for method, shape, processes in plan:
            found = count_bytes(run, processes, method, shape, ways)
            compared = [(way, OURS) for way in ways[2:]] + [(SUMMED, OUR_GATHER)]
            for way, own in compared:
                rows.append(
                    Row(
                        section=SECTION,
                        case=f"{method}, {processes} processes, {shape[0]} x {shape[1]} rows of width {shape[2]}",
                        contestant=way,
                        quantity="bytes sent" if own == OURS else f"bytes sent, over {OUR_GATHER}",
                        ours=found[own] / 1e6,
                        theirs=found[way] / 1e6,
                        unit="MB",
                        figure=found[way] / found[own],
                        goal=Goal(3) if settings.scale == "full" else None,
                    )
                )
    return rows


BYTES = Section(check, measure)
