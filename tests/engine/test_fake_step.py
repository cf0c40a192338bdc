"""Memory of a step on fake tensors, beside what torch's allocator counts of a real one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile

from eigenview.config import with_fields
from eigenview.engine.fake_step import (
    ACTIVATIONS,
    IMAGES,
    OBJECTIVE,
    PARAMETERS,
    STATE_COPIES,
    MemoryTracker,
    fake_step,
)
from eigenview.engine.module import PretrainModule
from eigenview.engine.optim import build_optimizer
from eigenview.engine.plan import Plan, make_plan
from eigenview.engine.train import build_module
from eigenview.methods.parts.method import Method
from eigenview.recipes import default
from eigenview.records import Needs
from tests.engine.stepping import Stepper

FEW = {"monitor": {"images": 8}}


def planned(method: str = "vicreg", /, **fields: Any) -> tuple[Plan, PretrainModule]:
    plan = make_plan(with_fields(default(method, "digits"), {"precision": "fp32", **fields}))
    return plan, build_module(plan)


def parts_of(method: str = "vicreg", /, **fields: Any) -> dict[str, int]:
    plan, module = planned(method, **fields)
    return fake_step(module, chunk=plan.config.grad_cache_chunk, held_out=8, resident=0)


def test_live_bytes_counts_each_storage_from_birth_to_death() -> None:
    live = MemoryTracker()
    with live:
        with live.counting("a"):
            first = torch.ones(1000)  # 4000 bytes
            first.mul_(2)
            part = first[:10]
        with live.counting("b"):
            second = first + 1  # 4000
        assert live.now == {"a": 4000, "b": 4000}
        del first
        assert live.now.total() == 8000  # a view keeps its storage alive
        del part
        third = torch.ones(500, dtype=torch.float64)  # 4000
        live.hold(third, "b")
        fourth = torch.ones(100)  # 400, for nothing in particular
    assert live.now == {"a": 0, "b": 8000, PARAMETERS: 400}
    assert live.fullest == live.now
    del second, third, fourth
    assert live.now.total() == 0
    assert live.fullest.total() == 8400


def allocated_in_a_step(plan: Plan, module: PretrainModule) -> int:
    """Bytes above the start that torch's allocator held at the fullest moment of a real step, by torch's profiler."""
    stepper = Stepper(module)
    stepper.step(0)
    stepper.optimizer.zero_grad()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        stepper.step(1)
    assert recorded.profiler is not None
    events = recorded.profiler.kineto_results.events()
    changes = sorted((event.start_ns(), event.nbytes()) for event in events if event.name() == "[memory]")
    held = fullest = 0
    for _, change in changes:
        held += change
        fullest = max(fullest, held)
    return fullest


@pytest.mark.parametrize(
    ("method", "fields"),
    [
        ("vicreg", {"batch_size": 32}),
        ("vicreg", {"batch_size": 128}),
        ("vicreg", {"encoder": "conv-small", "image_size": 32, "batch_size": 32}),
        ("vicreg", {"encoder": "conv-small", "image_size": 32, "batch_size": 96}),
        ("directpred", {"encoder": "conv-small", "image_size": 16, "batch_size": 64, "precision": "bf16"}),
        ("vicreg", {"encoder": "conv-small", "image_size": 24, "batch_size": 64, "grad_cache_chunk": 8}),
        ("unbiased-vicreg", {"encoder": "conv-small", "image_size": 24, "batch_size": 64, "grad_accum_steps": 4}),
        ("simclr", {"batch_size": 512, "local_views": 1}),
    ],
)
def test_memory_is_what_the_allocator_counts(method: str, fields: dict[str, Any]) -> None:
    if method == "unbiased-vicreg":
        fields = {**fields, "method": {"hinge": "dual"}}
    plan, module = planned(method, **fields)
    parts = fake_step(module, chunk=plan.config.grad_cache_chunk, held_out=2, resident=0)
    weights = [*module.parameters(), *module.buffers()]
    state = STATE_COPIES[plan.config.optim.name] * sum(p.nbytes for p in weights if p.requires_grad)
    measured = sum(p.nbytes for p in weights) + state + allocated_in_a_step(plan, module)
    # kernels' workspaces and the augmentation's buffers are not simulated, freeing may come an operation earlier
    assert sum(parts.values()) == pytest.approx(measured, rel=0.15)


def test_images_count_at_their_own_sizes() -> None:
    two = parts_of(batch_size=64)
    # all that an image leaves behind, twice; the gradients of a layer's weights are there once
    assert parts_of(batch_size=128)[ACTIVATIONS] / two[ACTIVATIONS] == pytest.approx(2, rel=0.05)
    assert parts_of(views=4, batch_size=64)[ACTIVATIONS] / two[ACTIVATIONS] == pytest.approx(2, rel=0.05)
    # local crops have half the side: a quarter of a view's pixels, in a net whose heads hardly weigh
    small = {"encoder": "conv-small", "image_size": 32, "batch_size": 32}
    views, local = parts_of(**small), parts_of(**small, local_views=8)
    assert local[ACTIVATIONS] / views[ACTIVATIONS] == pytest.approx((2 + 8 / 4) / 2, rel=0.1)
    pixels = 4 * 3 * 32 * (2 * 32**2 + 8 * 16**2)
    assert local[IMAGES] == pixels + 4 * 3 * 8 * 2 * 32**2  # and the eight watched images' two views


def test_gradient_caching_needs_the_activations_of_one_chunk_of_one_view() -> None:
    fields = {"encoder": "conv-small", "image_size": 32, "batch_size": 128}
    whole, some, few = (parts_of(**fields, **part) for part in ({}, {"grad_cache_chunk": 32}, {"grad_cache_chunk": 16}))
    heads = 2 * few[ACTIVATIONS] - some[ACTIVATIONS]  # what does not shrink with the chunk
    assert few[ACTIVATIONS] - heads == pytest.approx(whole[ACTIVATIONS] * 16 / (2 * 128), rel=0.2)
    assert 0 < heads < 0.1 * whole[ACTIVATIONS]
    assert few[PARAMETERS] >= whole[PARAMETERS]


def test_several_processes_share_the_images() -> None:
    alone, shared = parts_of(batch_size=128), parts_of(batch_size=128, devices=2)
    # the activations of half of the images, and the same few gradients of weights
    assert shared[ACTIVATIONS] == pytest.approx(alone[ACTIVATIONS] / 2, rel=0.05)
    assert shared[PARAMETERS] > alone[PARAMETERS]  # DDP's buckets


@pytest.mark.parametrize("method", ["simclr", "vicreg", "barlow-twins", "unbiased-vicreg"])
def test_what_an_objective_gathers_from_other_processes_counts(method: str) -> None:
    """A small encoder and a wide embedding: memory is fullest in the objective, which needs the whole batch."""
    wide = {"image_size": 8, "batch_size": 128, "network": {"projector_width": 2048, "projector_layers": 1}}
    alone, shared = parts_of(method, **wide), parts_of(method, **wide, devices=2)
    assert alone[OBJECTIVE] > 10**5
    assert shared[OBJECTIVE] > 0.9 * alone[OBJECTIVE]
    if method == "unbiased-vicreg":
        own_rows = parts_of(method, **wide, devices=2, method={"statistics": "local"})
        assert shared[OBJECTIVE] - own_rows[OBJECTIVE] > 4 * 2 * 128 * 2048  # all rows of both views


@pytest.mark.parametrize("name", list(STATE_COPIES))
def test_optimisers_keep_what_is_counted(name: Any) -> None:
    config = replace(default("vicreg", "digits").optim, name=name)
    layer = nn.Linear(30, 20)
    method = Method(Needs())
    method.layer = layer
    optimizer = build_optimizer(config, method, batch_size=64)
    layer(torch.randn(4, 30)).sum().backward()
    optimizer.step()
    kept = sum(value.nbytes for state in optimizer.state.values() for value in state.values() if value.ndim > 0)
    assert kept == STATE_COPIES[name] * sum(p.nbytes for p in layer.parameters())
