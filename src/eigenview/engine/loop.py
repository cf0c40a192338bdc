"""The training loop: batches through the one training step (step.py), with callbacks around it.

On several processes the method is wrapped by torch's DistributedDataParallel, which averages gradients; launch.py
starts the processes. There is one pass over the batches of all epochs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from eigenview.distributed import world_size, wrapped
from eigenview.engine.module import PretrainModule
from eigenview.engine.sync_batch_norm import synchronised


class Callback:
    """What happens around the steps. `module.step` counts the steps that are done."""

    def start(self, module: PretrainModule) -> None:
        """Before the first step of this session."""

    def after_step(self, module: PretrainModule) -> None:
        """After each step; may raise to end the training."""

    def end(self) -> None:
        """After the last step, and also if training was cut short."""


def fit(
    module: PretrainModule,
    batches: Iterable[Mapping[str, Tensor | None]],
    callbacks: Sequence[Callback],
    *,
    device: torch.device = torch.device("cpu"),
    optimizer_state: dict[str, Any] | None = None,
) -> None:
    """Train on the batches, from `module.step` on. Afterwards the module is on the CPU.

    `optimizer_state`: of the checkpoint from which a run is continued; the weights are in the module already.
    """
    if device.type == "cuda":
        torch.cuda.set_device(device)
    module.to(device).train()
    is_shared = world_size() > 1
    with synchronised(module, is_on=is_shared and device.type == "cuda"):
        optimizer = module.configure_optimizers()
        if optimizer_state is not None:
            optimizer.load_state_dict(optimizer_state)
        module.optimizer = optimizer
        averaged = wrapped(module.method, device) if is_shared else None
        try:
            for callback in callbacks:
                callback.start(module)
            for batch in batches:
                module.training_step(_on(device, batch), averaged)
                for callback in callbacks:
                    callback.after_step(module)
        finally:
            for callback in callbacks:
                callback.end()
            module.optimizer = None
    module.cpu()


def _on(device: torch.device, batch: Mapping[str, Tensor | None]) -> dict[str, Tensor | None]:
    """The batch on the device; pinned memory is copied while the host goes on."""
    return {name: None if each is None else each.to(device, non_blocking=True) for name, each in batch.items()}
