"""DDP and the training loop around the training step: the same gradient, state and bits as a plain loop."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.parallel import DistributedDataParallel

from eigenview import distributed
from eigenview.engine.loop import Callback, fit
from eigenview.engine.module import PretrainModule
from eigenview.engine.plan import make_plan
from eigenview.engine.step import train_step
from eigenview.engine.train import build_module, make_batches
from eigenview.records import Clock
from tests.contract.building import method_of
from tests.engine.stepping import config_of
from tests.engine.test_step import SAMPLES, WIDTH, batch_of, optimizer_of, options_of
from tests.process_pool import ProcessPool


def two_steps(name: str, parts: int, is_wrapped: bool) -> dict[str, np.ndarray]:
    """Gradients of the second step, and the weights and state after it, of this process's rows."""
    torch.manual_seed(5)
    method = method_of(name, WIDTH).double()
    optimizer, processes = optimizer_of(method), distributed.processes()
    ddp = DistributedDataParallel(method, **distributed.ddp_options()) if is_wrapped else None
    for step in range(2):
        batch, n = batch_of(step), SAMPLES // processes.size
        own = batch.part(processes.rank, processes.size)
        assert own.start == processes.rank * n
        train_step(
            method,
            own,
            Clock(step=step, steps=10, processes=processes),
            optimizer,
            options_of(parts=parts),
            wrapped=ddp,
            **({} if ddp is None else {"no_sync": ddp.no_sync}),
        )
    found = {f"gradient {n}": p.grad.numpy() for n, p in method.named_parameters() if p.grad is not None}
    return found | {n: v.numpy() for n, v in method.state_dict().items()}


@pytest.mark.ddp
@pytest.mark.parametrize("size", [1, 2])
@pytest.mark.parametrize(("name", "parts"), [("vicreg", 1), ("byol", 1), ("byol", 2), ("directpred", 2)])
def test_a_wrapped_method_steps_like_a_plain_loop(processes: ProcessPool, name: str, parts: int, size: int) -> None:
    """Parts before the last are not averaged over processes; the sum of all is, once."""
    plain = two_steps(name, 1, False)
    for found in processes.run(size, two_steps, name, parts, True):
        assert found.keys() == plain.keys()
        assert any(np.abs(value).max() > 1e-4 for n, value in plain.items() if n.startswith("gradient"))
        for key, value in plain.items():
            np.testing.assert_allclose(found[key], value, rtol=1e-9, atol=1e-10, err_msg=key)


@pytest.mark.parametrize(
    ("method", "fields"),
    [
        ("vicreg", {}),
        ("byol", {"optim": {"name": "sgd", "clip_norm": 0.5}}),
        ("directpred", {"grad_accum_steps": 2, "method": {"refresh_every": 2}}),
    ],
    ids=str,
)
def test_the_loop_and_a_plain_one_end_in_the_same_bits(method: str, fields: dict[str, Any]) -> None:
    """Three steps on the digits: what the loop adds is counting and placing, no arithmetic."""
    steps, size = 3, 400
    plan = make_plan(config_of(method, precision="fp32", epochs=1, batch_size=size, **fields))
    assert plan.steps_per_epoch == steps
    shell, plain = build_module(plan), build_module(plan)

    calls: list[str] = []

    class Look(Callback):
        def start(self, module: PretrainModule) -> None:
            calls.append(f"start at {module.step}")

        def after_step(self, module: PretrainModule) -> None:
            calls.append(f"after step {module.step}")

        def end(self) -> None:
            calls.append("end")

    batches = list(make_batches(plan))
    fit(shell, batches, [Look()])
    assert shell.step == steps == len(batches)
    assert calls == ["start at 0", *(f"after step {k}" for k in (1, 2, 3)), "end"]

    optimizer: Any = plain.configure_optimizers()
    for step, rows in enumerate(batches):
        index = rows["index"]
        assert index is not None
        batch = plain.make_batch(plain.resident_images(index), step, index)
        loss = train_step(plain.method, batch, plain.clock(step), optimizer, plain.options)
    ours, theirs, start = (each.method.state_dict() for each in (shell, plain, build_module(plan)))
    assert ours.keys() == theirs.keys()
    for name, value in theirs.items():
        assert torch.equal(ours[name], value), name
    assert sum(not torch.equal(start[name], value) for name, value in ours.items()) > 4
    assert {name: value.item() for name, value in loss.terms.items()} == shell.logged_terms()
