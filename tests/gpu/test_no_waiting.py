"""On a GPU a training step's objective never waits for the device (the host would fall behind at every step)."""

from __future__ import annotations

import pytest
import torch

from eigenview.objectives import config_class, objective_class
from eigenview.objectives.base import total
from eigenview.views import Views

# methods that decompose F wait where they do it: torch's eigh does. DirectCopy takes only the norm of F.
METHODS = ["simclr", "vicreg", "barlow-twins", "byol", "simsiam", "directcopy", "directclr", "infonce"]


@pytest.mark.gpu
@pytest.mark.parametrize("method", METHODS)
def test_loss_gradient_and_update_do_not_wait(method: str) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    objective = objective_class(method).build(config_class(method)(), representation=128, width=128, views=2).cuda()
    fields = {name: torch.randn(2, 64, 128, device="cuda", requires_grad=True) for name in ("h", "z", "p")}
    views = Views(**fields, z_target=torch.randn(2, 64, 128, device="cuda"))
    for mode in ("default", "error"):  # once to warm up
        torch.cuda.set_sync_debug_mode(mode)
        try:
            objective.update(views)
            total(objective(views)).backward()
        finally:
            torch.cuda.set_sync_debug_mode("default")
