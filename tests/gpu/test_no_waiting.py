"""On a GPU a training step never waits for the device (the host would fall behind at every step)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from benchmarks.pictures import noise_file

from eigenview.records import Clock
from eigenview.views import Views
from tests.contract.building import objective_of
from tests.engine.stepping import Stepper, module_of

# methods that decompose F wait where they do it: torch's eigh does. DirectCopy takes only the norm of F.
METHODS = [
    "simclr",
    "vicreg",
    "unbiased-vicreg",
    "barlow-twins",
    "byol",
    "simsiam",
    "directcopy",
    "directset",
    "directclr",
]
METHODS += ["infonce"]


@contextmanager
def no_waiting() -> Iterator[None]:
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.gpu
@pytest.mark.parametrize("method", METHODS)
def test_loss_gradient_and_update_do_not_wait(method: str) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    objective = objective_of(method, 128).cuda()
    fields = {name: torch.randn(2, 64, 128, device="cuda", requires_grad=True) for name in ("h", "z", "p")}
    views = Views(**fields, z_target=torch.randn(2, 64, 128, device="cuda"))

    def loss_gradient_and_update() -> None:
        loss = objective(views)
        loss.total.backward()
        objective.update(loss.carry, Clock())

    loss_gradient_and_update()  # warms up
    with no_waiting():
        loss_gradient_and_update()


@pytest.mark.gpu
@pytest.mark.parametrize("method", METHODS)
def test_a_step_of_the_engine_does_not_wait(method: str, tmp_path: Path) -> None:
    """The engine's training step: views, network, target, objective, backward pass, optimiser and updates."""
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    images = str(noise_file(tmp_path, 200, 32))
    fields = {"monitor": {"images": 8}, "data": images, "batch_size": 64, "image_size": 32}
    stepper = Stepper(module_of(method, device=torch.device("cuda"), **fields))
    stepper.step(0)  # warms up
    with no_waiting():
        stepper.step(1)
