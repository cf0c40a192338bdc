"""A run's own module and optimiser, stepped without Lightning: what sections take steps or parts of steps with."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch

from benchmarks.contest import seconds
from eigenview.config import RunConfig
from eigenview.engine.plan import Plan, make_plan
from eigenview.engine.precision import choose_precision
from eigenview.engine.train import build_module
from eigenview.recipes import load_recipe
from eigenview.run import with_fields

Precision = Literal["auto", "bf16", "fp32"]


def configured(method: str, data: Path, fields: dict[str, Any]) -> RunConfig[Any]:
    """The small recipe of a method on `data` with some fields replaced, and the smallest held-out batch."""
    return with_fields(load_recipe(f"small-{method}"), {"monitor": {"images": 8}, **fields, "data": str(data)})


def plan_on(device: torch.device, config: RunConfig[Any]) -> Plan:
    """The plan of a config on this device, whatever else the machine has."""
    plan = make_plan(config)
    precision, note = choose_precision(config.precision, device)
    return replace(plan, device=device, precision=precision, precision_note=note)


class BareStep:
    """A module with its optimiser; every step takes the same images and draws its views anew."""

    def __init__(
        self, method: str, data: Path, device: torch.device, precision: Precision = "auto", **fields: Any
    ) -> None:
        plan = plan_on(device, configured(method, data, {"precision": precision, **fields}))
        self.device, self.batch = device, plan.config.batch_size
        self.module = build_module(plan).to(device)
        self.optimizer = self.module.configure_optimizers()
        self.is_bf16 = "bf16" in plan.precision
        self.rows = {"index": torch.arange(self.batch, device=device), "images": None}
        self.steps = 0
        self.update_seconds = 0.0
        """Of the objective's update in the last step."""

    def autocast(self) -> torch.autocast:
        """The precision of the run."""
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.is_bf16)

    def backward(self) -> torch.Tensor:
        """Loss of the batch; its gradient is left in the parameters."""
        self.optimizer.zero_grad()
        with self.autocast():
            loss = self.module.training_step(self.rows, 0)  # type: ignore[arg-type]
        loss.backward()
        return loss.detach()

    def step(self) -> None:
        """A whole step: views, network, target, objective, backward, optimiser, and the updates after it."""
        self.backward()
        self.optimizer.step()
        records, self.module._records = self.module._records, []
        if records:
            self.update_seconds = seconds(lambda: self.module.update_objective(records[0], self.steps), self.device)
        if self.module.target is not None:
            self.module.target.update(self.module.network.encoder, self.module.network.projector, 0.99)
        self.steps += 1

    def gradient(self) -> torch.Tensor:
        """The gradients of all parameters of the network, one after another."""
        found = [p.grad for p in self.module.network.parameters() if p.grad is not None]
        return torch.cat([each.flatten() for each in found])
