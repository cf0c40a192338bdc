"""A training step never waits for the device: neither its arithmetic nor anything around it reads a value back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from benchmarks.bare_step import BareStep
from benchmarks.pictures import noise_file
from torch import Tensor

from eigenview.functional.sharded.processes import Processes
from eigenview.methods import OBJECTIVES, config_class, objective_class
from eigenview.methods.base import total
from eigenview.views import Views
from tests.waiting import META, no_waiting

# torch's eigh waits to see whether it converged: no predictor but a multiple of F itself can do without
DECOMPOSING = {"directpred", "isoloss"}
VARIANTS: list[tuple[str, dict[str, Any]]] = [
    *((method, {}) for method in OBJECTIVES),
    ("simclr", {"multiview": "mean-view"}),
    ("simclr", {"positives": "inside"}),
    ("vicreg", {"multiview": "mean-view"}),
    ("barlow-twins", {"multiview": "mean-view"}),
    ("barlow-twins", {"estimator": "unbiased"}),
    ("unbiased-vicreg", {"hinge": "dual", "form": "identity"}),
    ("unbiased-vicreg", {"hinge": "square"}),
    ("directclr", {"subset": "random"}),
    ("directclr", {"subset": "low-rank"}),
    ("byol", {"variance": 1.0, "covariance": 1.0}),
    ("directcopy", {"normalise_by": "frobenius", "order": "before", "centre": True}),
    ("isoloss", {"form": "value", "order": "before", "initial": "zero"}),
]


class Third(Processes):
    """The third of four processes, of which the others have the same."""

    rank, size = 2, 4

    def gather(self, shard: Tensor) -> Tensor:
        return torch.cat([shard.detach()] * self.size)

    def sum(self, values: Tensor) -> Tensor:
        return values.detach() * self.size

    def exchange(self, parts: Tensor) -> Tensor:
        return parts.detach().clone()


def allowed(method: str) -> tuple[str, ...]:
    return ("_linalg_eigh",) if method in DECOMPOSING else ()


@pytest.mark.parametrize(("method", "options"), VARIANTS, ids=str)
@pytest.mark.parametrize("shape", [(2, 24, 8), (3, 6, 40)], ids=str)
def test_value_gradient_and_update_do_not_wait(
    method: str, options: dict[str, Any], shape: tuple[int, int, int]
) -> None:
    options = {"d0": 5, **options} if method == "directclr" else options
    objective = objective_class(method).build(
        config_class(method)(**options), representation=shape[2], width=shape[2], views=shape[0]
    )
    objective.to(META)
    for processes in (None, Third()) if objective.takes_shards else (None,):
        fields = {name: torch.randn(shape, device=META, requires_grad=True) for name in ("h", "z", "p")}
        views = Views(**fields, z_target=torch.randn(shape, device=META), processes=processes)
        with no_waiting(*allowed(method)):
            for _ in range(2):  # the first one may be special
                objective.update(views.detach())
                total(objective(views)).backward()


@pytest.mark.parametrize(
    ("method", "fields"),
    [
        ("vicreg", {"local_views": 2, "augmentation": "asymmetric"}),
        ("simclr", {"optim": {"name": "lars"}}),
        ("barlow-twins", {"micro_batch": 8, "optim": {"name": "lars-clip"}}),
        ("byol", {"accumulate": 2, "optim": {"name": "sgd"}}),
        ("directcopy", {"encoder": "resnet18"}),
        ("directpred", {"objective": {"refresh_every": 2}}),
    ],
    ids=str,
)
def test_a_whole_step_does_not_wait(method: str, fields: dict[str, Any], tmp_path: Path) -> None:
    """Views, network, target, objective, backward pass, optimiser and updates, as the engine has them."""
    bare = BareStep(method, noise_file(tmp_path, 120, 32), META, "fp32", batch_size=16, size=32, **fields)
    with no_waiting(*allowed(method)):
        for _ in range(2):
            bare.step()


@pytest.mark.parametrize(
    "waits",
    [
        lambda x: x.sum().item(),
        lambda x: bool(x.sum() > 0),
        lambda x: x[x > 0],
        lambda x: x.cpu(),
        lambda x: x[[0, 1]],
        lambda x: x + torch.tensor(1.0, device=x.device),
        lambda x: x + torch.ones(3, 3),
        lambda x: torch.linalg.eigh(x),
        lambda x: x.copy_(torch.ones(3, 3)),
    ],
)
def test_what_waits_is_seen(waits: Any) -> None:
    x = torch.randn(3, 3, device=META)
    with pytest.raises((RuntimeError, AssertionError, NotImplementedError)), no_waiting():
        waits(x)
