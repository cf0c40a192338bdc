"""Two training steps of a small method on any number of processes, for the comparison of 1, 2 and 4 of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch.nn.parallel import DistributedDataParallel

from eigenview import distributed
from eigenview.config import OptimConfig
from eigenview.engine.optim import build_optimizer
from eigenview.engine.step import StepOptions, train_step
from eigenview.records import Batch, Clock
from tests.contract.building import INPUTS, method_of

SAMPLES, STEPS = 8, 2
OPTIM = OptimConfig(name="sgd", lr_per_256=0.05, batch_scaling="none", weight_decay=0.01, warmup_epochs=0.0)


def global_views(step: int, num_views: int) -> torch.Tensor:
    """(V N INPUTS 1 1) in float64: correlated views of the whole batch."""
    generator = torch.Generator().manual_seed(11 + step)
    common = torch.randn(1, SAMPLES, INPUTS, generator=generator, dtype=torch.float64)
    noise = torch.randn(num_views, SAMPLES, INPUTS, generator=generator, dtype=torch.float64)
    return (common + 0.3 * noise)[..., None, None]


def two_steps(
    name: str,
    num_views: int,
    width: int,
    options: dict[str, Any] | None = None,
    whole: int | None = None,
    parts: int = 1,
) -> tuple[list[float], dict[str, np.ndarray]]:
    """Losses of the global batch at two steps; gradients of the second, and weights and state after it.

    The second step's loss contains whatever the first moved: a closed-form predictor, a target network.
    """
    torch.manual_seed(5)
    method = method_of(name, width, num_views, **(options or {})).double()
    optimizer = build_optimizer(OPTIM, method, batch_size=SAMPLES)
    processes = distributed.processes()
    ddp = DistributedDataParallel(method, **distributed.ddp_options()) if processes.size > 1 else None
    losses: list[float] = []
    for step in range(STEPS):
        n = SAMPLES // processes.size
        own = global_views(step, num_views)[:, processes.rank * n : (processes.rank + 1) * n]
        batch = Batch(views=tuple(own), whole=whole or num_views, start=processes.rank * n, total=SAMPLES)
        loss = train_step(
            method,
            batch,
            Clock(step=step, steps=10, processes=processes),
            optimizer,
            StepOptions(optim=OPTIM, batch_size=SAMPLES, parts=parts),
            wrapped=ddp,
            **({} if ddp is None else {"no_sync": ddp.no_sync}),
        )
        losses.append((processes.sum(loss.total) / processes.size).item())
    found = {f"gradient {n}": p.grad.numpy() for n, p in method.named_parameters() if p.grad is not None}
    return losses, found | {f"state {n}": v.numpy() for n, v in method.state_dict().items()}
