"""How time and memory of each method grow with the views, counted and compared with the "Cost" of its docstring."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from itertools import permutations
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeCopyMode, FakeTensorMode
from torch.utils._pytree import tree_leaves

from eigenview.engine.fake_step import MemoryTracker
from eigenview.methods import METHODS, config_class
from eigenview.methods.parts.regression import regression
from eigenview.records import Clock
from eigenview.views import FIELDS, Views
from tests.contract.building import objective_of

SAMPLES, WIDTH = 1024, 128
"""So many samples that Barlow Twins takes the same of its two ways for 2 and 8 views."""
FAKE = FakeTensorMode()
"""Tensors of one fake mode cannot meet those of another."""
MARGIN = 1.2
"""Lower orders may grow faster than the leading one. A loss over pairs grows 6 times from 2 to 4 views, not 2 times."""


class Counter(MemoryTracker):
    """Multiply-adds of matrix products, an operation for each entry of everything else, and peak bytes."""

    def __init__(self) -> None:
        super().__init__()
        self.operations = 0

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        out = super().__torch_dispatch__(func, types, args, kwargs)
        entries = sum(leaf.numel() for leaf in tree_leaves(out) if isinstance(leaf, Tensor))
        name = func.overloadpacket.__name__  # type: ignore[attr-defined]
        if name in ("mm", "bmm", "addmm", "addmm_", "baddbmm"):
            left = args[1] if name in ("addmm", "addmm_", "baddbmm") else args[0]
            entries *= left.shape[-1]
        self.operations += 0 if func.is_view else entries  # type: ignore[attr-defined]
        return out


def counted(loss: Callable[[dict[str, Tensor]], Tensor], views: int) -> dict[str, float]:
    """Operations and peak bytes of a loss and its gradient, by tensors that have shapes alone."""
    with FAKE, Counter() as counter:
        fields = {name: torch.empty(views, SAMPLES, WIDTH).requires_grad_(name != "z_target") for name in FIELDS}
        before = sum(counter.now.values())
        loss(fields).backward()
    return {"time": counter.operations, "memory": sum(counter.fullest.values()) - before}


def stated(doc: str, kind: str, views: int) -> float:
    """The order in a docstring's "Cost", such as "time V N D min(N, (V - 1) D)", at this number of views."""
    cost = re.search(r"^    Cost\n(.*?)\n\n", doc, re.MULTILINE | re.DOTALL)
    assert cost, "no Cost"
    order = re.search(rf"{kind} ((?:min|[-VND123^+() ]|,(?= [D(]))+)", cost[1], re.IGNORECASE)
    assert order, f"no {kind} in {cost[1]!r}"
    product = re.sub(r"(?<=[VND23)]) (?=[VNDm(])", "*", order[1].strip()).replace("^", "**")
    return eval(product, {"V": views, "N": SAMPLES, "D": WIDTH, "min": min})


def test_an_order_is_read() -> None:
    doc = "\n    Cost\n        Time V N D min(N, (V - 1) D), for a reason; memory V N D + V min(N, D)^2.\n\n"
    assert stated(doc, "time", 4) == 4 * SAMPLES * WIDTH * min(SAMPLES, 3 * WIDTH)
    assert stated(doc, "memory", 3) == 3 * SAMPLES * WIDTH + 3 * WIDTH**2


@pytest.mark.parametrize("views", [4, pytest.param(8, marks=pytest.mark.slow)])
@pytest.mark.parametrize("method", METHODS)
def test_time_and_memory_grow_with_the_views_as_stated(method: str, views: int) -> None:
    options = {"d0": WIDTH} if method == "directclr" else {}  # all of the representation
    reads = config_class(method)().needs.reads

    def cost(count: int) -> dict[str, float]:
        with FakeCopyMode(FAKE):
            objective = copy.deepcopy(objective_of(method, WIDTH, count, **options))
        return counted(lambda f: objective(Views(**{n: f[n] for n in reads}), Clock()).total, count)

    doc = type(objective_of(method, 6, 2)).__doc__ or ""
    few, many = cost(2), cost(views)
    for kind in ("time", "memory"):
        grown, expected = many[kind] / few[kind], stated(doc, kind, views) / stated(doc, kind, 2)
        message = f"{kind} of {views} views: {grown:.2f} times that of 2, stated {expected:.2f}"
        assert grown <= MARGIN * expected, message
        assert kind == "memory" or grown >= expected / 1.6, message


def test_a_loss_that_forms_pairs_is_seen() -> None:
    """The published form, a regression for each ordered pair of views: 6 times as much for 4 views as for 2."""

    def pairwise(fields: dict[str, Tensor]) -> Tensor:
        p, target = fields["p"], fields["z_target"]
        return torch.stack([regression(p[a], target[b]) for a, b in permutations(range(len(p)), 2)]).mean()

    few, many = counted(pairwise, 2), counted(pairwise, 4)
    for kind in ("time", "memory"):
        assert many[kind] / few[kind] > 1.25 * MARGIN * 2
