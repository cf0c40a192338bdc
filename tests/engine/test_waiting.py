"""A training step never waits for the device: neither its arithmetic nor anything around it reads a value back."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from benchmarks.pictures import noise_file
from torch import Tensor

from eigenview.distributed import Pretend
from eigenview.functional.contrast import contrast
from eigenview.methods import METHODS
from eigenview.methods.directcopy import DirectCopyConfig
from eigenview.methods.directset import DirectSet
from eigenview.methods.isoloss import IsoLoss, IsoLossConfig
from eigenview.methods.parts.closed_form import ClosedFormPredictor
from eigenview.methods.parts.isoloss_values import cosine_value, euclidean_value
from eigenview.methods.parts.method import Objective
from eigenview.records import ALONE, Clock, Processes
from eigenview.views import Views
from tests.contract.building import objective_of
from tests.engine.stepping import Stepper, module_of
from tests.waiting import META, no_waiting

# torch's eigh waits to see whether it converged: no predictor but a multiple of F itself can do without
DECOMPOSING = {"directpred", "isoloss"}


def directcopy_as_its_authors(width: int, views: int) -> Objective:
    config = DirectCopyConfig()
    predictor = ClosedFormPredictor(config, width, normalise_by="frobenius", centre=True)
    return DirectSet(config, predictor=predictor)


def isoloss_from_zero(width: int, views: int) -> Objective:
    config = IsoLossConfig()
    return IsoLoss(config, predictor=ClosedFormPredictor(config, width, eps_inside=True, initial="zero"))


def made(method: str, **options: Any) -> Callable[[int, int], Objective]:
    return partial(objective_of, method, **options)


VARIANTS: list[tuple[str, Callable[[int, int], Objective]]] = [
    *((method, made(method)) for method in METHODS),
    ("simclr mean-view", made("simclr", multiview="mean-view")),
    ("vicreg mean-view", made("vicreg", multiview="mean-view")),
    ("barlow-twins mean-view", made("barlow-twins", multiview="mean-view")),
    ("barlow-twins unbiased", made("barlow-twins", estimator="unbiased")),
    ("unbiased-vicreg dual identity", made("unbiased-vicreg", hinge="dual", form="identity")),
    ("unbiased-vicreg square", made("unbiased-vicreg", hinge="square")),
    ("directclr random", made("directclr", subset="random", d0=5)),
    ("directclr low-rank", made("directclr", subset="low-rank", d0=5)),
    ("byol regularised", made("byol", variance=1.0, covariance=1.0)),
    ("directcopy frobenius centred", directcopy_as_its_authors),
    ("isoloss from zero", isoloss_from_zero),
]


class Third(Pretend):
    """The third of four processes, of which the others have the same."""

    def __init__(self) -> None:
        super().__init__(4)
        self.rank = 2


def allowed(name: str) -> tuple[str, ...]:
    return ("_linalg_eigh",) if name.split()[0] in DECOMPOSING else ()


@pytest.mark.parametrize(("name", "make"), [pytest.param(*each, id=each[0]) for each in VARIANTS])
@pytest.mark.parametrize("shape", [(2, 24, 8), (3, 6, 40)], ids=str)
@pytest.mark.parametrize("processes", [ALONE, Third()], ids=["alone", "third"])
def test_value_gradient_and_update_do_not_wait(
    name: str, make: Callable[[int, int], Objective], shape: tuple[int, int, int], processes: Processes
) -> None:
    objective = make(shape[2], shape[0]).to(META)
    fields = {name: torch.randn(shape, device=META, requires_grad=True) for name in ("h", "z", "p")}
    views = Views(**fields, z_target=torch.randn(shape, device=META))
    with no_waiting(*allowed(name)):
        for step in range(2):  # the first one may be special
            clock = Clock(step=step, processes=processes)
            loss = objective(views, clock)
            loss.total.backward()
            objective.update(loss.carry, clock)


@pytest.mark.parametrize("processes", [ALONE, Third()], ids=["alone", "third"])
@pytest.mark.parametrize("shape", [(2, 24, 8), (3, 6, 40)], ids=str)
def test_forms_of_published_programs_do_not_wait(shape: tuple[int, int, int], processes: Processes) -> None:
    z, p = (torch.randn(shape, device=META, requires_grad=True) for _ in range(2))
    W = torch.randn(shape[2], shape[2], device=META)
    with no_waiting():
        statistics = contrast(z, 0.5, processes, positives="inside")
        (statistics.log_denominator - statistics.positive).backward()
        (euclidean_value(z[0], p[0], z[1]) + cosine_value(z[0], p[0], z[1], W)).backward()
    assert z.grad is not None


@pytest.mark.parametrize(
    ("method", "fields"),
    [
        ("vicreg", {"local_views": 2, "augmentation": "asymmetric"}),
        ("simclr", {"optim": {"name": "lars"}}),
        ("barlow-twins", {"grad_cache_chunk": 8, "optim": {"name": "lars-clip"}}),
        ("barlow-twins", {"optim": {"clip_norm": 1.0}}),
        ("byol", {"grad_accum_steps": 2, "optim": {"name": "sgd"}}),
        ("directcopy", {"encoder": "resnet18"}),
        ("directpred", {"method": {"refresh_every": 2}}),
    ],
    ids=str,
)
def test_a_whole_step_does_not_wait(method: str, fields: dict[str, Any], tmp_path: Path) -> None:
    """The engine's training step: views, network, target, objective, backward pass, the watch over terms that are not
    finite, optimiser and updates."""
    data = str(noise_file(tmp_path, 120, 32))
    common = {"precision": "fp32", "monitor": {"images": 8}, "data": data, "batch_size": 16, "image_size": 32}
    stepper = Stepper(module_of(method, device=META, **common, **fields))
    with no_waiting(*allowed(method)):
        for step in range(2):
            stepper.step(step)


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
def test_what_waits_is_seen(waits: Callable[[Tensor], Any]) -> None:
    x = torch.randn(3, 3, device=META)
    with pytest.raises((RuntimeError, AssertionError, NotImplementedError)), no_waiting():
        waits(x)
