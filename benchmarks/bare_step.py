"""A run's own method and optimiser, stepped by the engine's training step in a plain loop."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch

from eigenview.config import RunConfig, with_fields
from eigenview.engine.plan import Plan, make_plan
from eigenview.engine.precision import runs_in_bf16
from eigenview.engine.step import accumulate_gradients, train_step
from eigenview.engine.train import build_module
from eigenview.methods.parts.joint_embedding import JointEmbedding
from eigenview.recipes import load_recipe
from eigenview.records import Batch

Precision = Literal["auto", "bf16", "fp32"]


def configured(method: str, data: Path, fields: dict[str, Any]) -> RunConfig[Any]:
    """The small recipe of a method on `data` with some fields replaced, and the smallest held-out batch."""
    return with_fields(load_recipe(f"small-{method}"), {"monitor": {"images": 8}, **fields, "data": str(data)})


def plan_on(device: torch.device, config: RunConfig[Any]) -> Plan:
    """The plan of a config on this device, also if the machine has a faster one."""
    bf16 = runs_in_bf16(config.precision, device)
    return replace(make_plan(config), device=device, bf16=bf16, precision_note="bf16" if bf16 else "fp32")


class BareStep:
    """A module with its optimiser; every step takes the same images and draws its views anew."""

    def __init__(
        self, method: str, data: Path, device: torch.device, precision: Precision = "auto", /, **fields: Any
    ) -> None:
        plan = plan_on(device, configured(method, data, {"precision": precision, **fields}))
        self.device, self.batch_size, self.bf16 = device, plan.config.batch_size, plan.bf16
        self.module = build_module(plan).to(device)
        assert isinstance(self.module.method, JointEmbedding)
        self.method = self.module.method
        self.optimizer = self.module.configure_optimizers()
        self.index = torch.arange(self.batch_size, device=device)
        self.steps = 0

    def images(self) -> torch.Tensor:
        """The uint8 images of every step (N 3 S S)."""
        return self.module.resident_images(self.index)

    def make_batch(self) -> Batch:
        """Views of the images, drawn for the step to come."""
        return self.module.make_batch(self.images(), self.steps, self.index)

    def step(self) -> None:
        """A whole step: views, network, target, objective, backward, optimiser, and the method's own state."""
        clock = self.module.clock(self.steps)
        train_step(self.method, self.make_batch(), clock, self.optimizer, self.module.options)
        self.steps += 1

    def value_and_gradient(self, batch: Batch) -> dict[str, torch.Tensor]:
        """Loss of a batch, and the gradients of all parameters of the network one after another; nothing moves."""
        self.optimizer.zero_grad()
        loss = accumulate_gradients(self.method, batch, self.module.clock(self.steps), self.module.options)
        found = [p.grad for p in self.method.network.parameters() if p.grad is not None]
        return {"value": loss.total, "gradient": torch.cat([each.flatten() for each in found])}
