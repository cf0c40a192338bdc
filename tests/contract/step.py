"""One loss and gradient of a small network on any number of ranks, for the comparison of 1, 2 and 4 processes."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from eigenview import distributed
from eigenview.methods import config_class, objective_class
from eigenview.methods.base import total
from eigenview.views import Views

SAMPLES, INPUTS = 8, 6


class Network(nn.Module):
    """Encoder, projector and, where asked, predictor, without normalisation: ranks meet only in the objective."""

    def __init__(self, width: int, predicts: bool) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(INPUTS, 7), nn.Tanh(), nn.Linear(7, width))
        # a predictor that no objective reads would be an unused parameter to DDP
        self.predictor = nn.Sequential(nn.Linear(width, 5), nn.Tanh(), nn.Linear(5, width)) if predicts else None

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        z = self.encoder(x)
        return z, self.predictor(z) if self.predictor is not None else None


def loss_and_gradients(
    method: str, num_views: int, width: int, options: dict[str, Any] | None = None, targets: int | None = None
) -> tuple[float, dict[str, np.ndarray]]:
    """The loss of the global batch, every parameter's gradient after DDP's average, and the objective's state.

    The state is moved before the loss, so that a closed-form predictor is made from this very batch.
    """
    generator = torch.Generator().manual_seed(11)
    batch = torch.randn(1, SAMPLES, INPUTS, generator=generator, dtype=torch.float64)
    x = batch + 0.3 * torch.randn(num_views, SAMPLES, INPUTS, generator=generator, dtype=torch.float64)
    torch.manual_seed(5)
    config = config_class(method)(**(options or {}), **({"d0": 3} if method == "directclr" else {}))
    objective = objective_class(method).build(config, representation=width, width=width, views=num_views).double()
    network = Network(width, "p" in objective.reads).double()
    target = Network(width, False).double()

    mine = SAMPLES // distributed.world_size()
    x = x[:, distributed.rank() * mine : (distributed.rank() + 1) * mine]
    trained = DistributedDataParallel(network) if distributed.is_initialized() else network
    z, p = trained(x)
    with torch.no_grad():
        z_target = target(x)[0][:targets]
    views = Views(h=z, z=z, p=p, z_target=z_target, targets=targets)
    if objective.gathers:
        views = distributed.global_batch(views, reads=objective.reads, takes_shards=objective.takes_shards)
    objective.update(views)
    loss = total(objective(views))
    loss.backward()
    found = {n: p.grad.numpy() for n, p in network.named_parameters() if p.grad is not None}
    return loss.item(), found | {f"state {n}": b.numpy() for n, b in objective.state_dict().items()}
