"""A run's own module and optimiser, stepped by the engine's training step, without the loop around it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from eigenview.config import RunConfig, with_fields
from eigenview.engine.module import PretrainModule
from eigenview.engine.plan import make_plan
from eigenview.engine.step import train_step
from eigenview.engine.train import build_module
from eigenview.methods.parts.joint_embedding import JointEmbedding
from eigenview.recipes import default
from eigenview.records import Batch
from eigenview.views import Loss

FEW = {"monitor": {"images": 16}}


def config_of(name: str, /, **fields: Any) -> RunConfig[Any]:
    """The recipe of a method, on the built-in digits by default, with a small held-out batch and fields replaced."""
    return with_fields(default(name, fields.get("data", "digits")), {**FEW, **fields})


def module_of(name: str, /, *, device: torch.device | None = None, **fields: Any) -> PretrainModule:
    """What a run of that configuration trains; on `device` if it is given, whatever else the machine has."""
    plan = make_plan(config_of(name, **fields))
    if device is not None:
        plan = replace(plan, device=device)
    return build_module(plan).to(plan.device)


def joint_embedding(module: PretrainModule) -> JointEmbedding:
    """Its method, all parts of which tests may look at."""
    assert isinstance(module.method, JointEmbedding)
    return module.method


def all_images(module: PretrainModule, count: int) -> Tensor:
    """The first `count` resident training images, uint8."""
    assert module._pixels is not None
    return module._pixels[:count]


class Stepper:
    """Takes whole training steps: the views are drawn, or given as a batch."""

    def __init__(self, module: PretrainModule) -> None:
        self.module = module
        self.optimizer: Any = module.configure_optimizers()

    def step(self, step: int = 0, *, batch: Batch | None = None, images: int | None = None) -> Loss:
        """The step of this number; the non-finite watch looks at the terms as in a run."""
        module = self.module
        clock = module.clock(step)
        if batch is None:
            batch = module.make_batch(all_images(module, images or module.config.batch_size), step)
        return train_step(
            module.method,
            batch,
            clock,
            self.optimizer,
            module.options,
            inspect=lambda terms: module._inspect_terms(terms, clock),
        )


def gradients(module: PretrainModule) -> dict[str, Tensor]:
    """What a step left in the parameters that received a gradient."""
    return {name: p.grad.clone() for name, p in module.method.named_parameters() if p.grad is not None}
