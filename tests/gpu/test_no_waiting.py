"""On a GPU a training step never waits for the device (the host would fall behind at every step)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from benchmarks.bare_step import BareStep
from benchmarks.pictures import noise_file

from eigenview.methods import config_class, objective_class
from eigenview.methods.base import total
from eigenview.views import Views

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
    objective = objective_class(method).build(config_class(method)(), representation=128, width=128, views=2).cuda()
    fields = {name: torch.randn(2, 64, 128, device="cuda", requires_grad=True) for name in ("h", "z", "p")}
    views = Views(**fields, z_target=torch.randn(2, 64, 128, device="cuda"))

    def loss_gradient_and_update() -> None:
        objective.update(views)
        total(objective(views)).backward()

    loss_gradient_and_update()  # warms up
    with no_waiting():
        loss_gradient_and_update()


@pytest.mark.gpu
@pytest.mark.parametrize("method", METHODS)
def test_a_step_of_the_engine_does_not_wait(method: str, tmp_path: Path) -> None:
    """Views, network, target, objective, backward pass and optimiser, as the benchmark of a step runs them."""
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    images = noise_file(tmp_path, 200, 32)
    bare = BareStep(method, images, torch.device("cuda"), batch_size=64, size=32)

    def step() -> None:
        bare.backward()
        bare.optimizer.step()

    step()  # warms up
    with no_waiting():
        step()
