"""The estimate before training: memory beside the allocator's count, time on a replaced clock, nothing changed."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from eigenview import runfiles
from eigenview.cli import run
from eigenview.config import with_fields
from eigenview.data.views import augment
from eigenview.engine import cost_estimate as estimate
from eigenview.engine.cost_estimate import Timing, make_estimate, show_estimate
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
from tests.engine.stepping import Stepper, joint_embedding

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


@pytest.mark.parametrize("method", ["byol", "directpred", "unbiased-vicreg"])
def test_an_estimate_leaves_everything_as_it_was(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    plan, module = planned(method, **FEW, batch_size=32, grad_cache_chunk=8)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    generator = torch.get_rng_state()
    found = make_estimate(plan, module, steps=estimate.SHORT_RUN)
    assert found.timing is not None
    assert found.nbytes > 0
    assert torch.equal(torch.get_rng_state(), generator)
    for name, value in module.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert all(p.grad is None for p in module.parameters())
    network = joint_embedding(module).network
    assert all(part.training for part in network.modules())
    assert network.chunk == 8
    assert make_estimate(plan, module, steps=estimate.SHORT_RUN - 1).timing is None


def test_a_run_is_the_same_to_the_bit_without_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(estimate, "SHORT_RUN", 1)
    monkeypatch.setattr(estimate, "free_bytes", lambda device: 2 * 10**7)
    args = ["pretrain", "--epochs", "1", "--method", "byol", "--monitor.log-every-steps", "1"]
    args += ["--monitor.images", "16", "--probe.few-label-draws", "1", "--probe.images", "100"]
    assert run([*args, "--out", str(tmp_path / "with")]) == 0
    printed = capsys.readouterr().out
    assert 0 < printed.index("\nestimate") < printed.index("\nwarning") < printed.index("epoch 1/1")

    @contextmanager
    def nothing(*args: Any, **kwargs: Any) -> Iterator[None]:
        yield

    monkeypatch.setattr("eigenview.engine.train.estimated", nothing)
    assert run([*args, "--out", str(tmp_path / "without")]) == 0
    rows = [runfiles.read_rows(tmp_path / name / runfiles.METRICS) for name in ("with", "without")]
    assert len(rows[0]) == 11
    assert [(row["loss"], row["terms"]) for row in rows[0]] == [(row["loss"], row["terms"]) for row in rows[1]]
    weights = [(tmp_path / name / runfiles.ENCODER).read_bytes() for name in ("with", "without")]
    assert weights[0] == weights[1]
    noted = runfiles.read_json(tmp_path / "with" / runfiles.ENVIRONMENT)
    assert noted["estimated_memory_gb"] > 0.01
    assert noted["estimated_seconds"] > 0
    assert "measured_memory_gb" in noted
    assert noted["torch"] == torch.__version__


def shown(plan: Plan, module: PretrainModule, steps: int = 1) -> str:
    console = Console(file=io.StringIO(), width=1000)
    show_estimate(console, plan, module, make_estimate(plan, module, steps))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_the_line_names_the_parts_and_their_sum() -> None:
    line = shown(*planned(**FEW), steps=estimate.SHORT_RUN)
    found = re.fullmatch(
        r"estimate  about (\d+) MB of memory \(activations (\d+) MB, .*parameters and optimiser \d+ MB.*\)"
        r" and (\d+) (?:second|minute)s? of training \((?:a step was timed|from a step of \d+ of 128 images)\)\n",
        line,
    )
    assert found is not None, line
    assert 1 < int(found[2]) < int(found[1])
    assert "training" not in shown(*planned(**FEW))  # too short a run to be timed


def test_too_little_memory_is_reported_with_an_option_that_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    plan, module = planned(encoder="conv-small", image_size=32, **FEW)
    found = make_estimate(plan, module, 1)
    more = found.nbytes - found.present
    monkeypatch.setattr(estimate, "free_bytes", lambda device: int(more / estimate.USABLE * 1.01))
    assert "warning" not in shown(plan, module)
    monkeypatch.setattr(estimate, "free_bytes", lambda device: int(more / 2))
    printed = shown(plan, module)
    part = re.search(
        r"warning   training needs about \d+ MB more, .* Use --grad-cache-chunk (\d+), which needs", printed
    )
    assert part is not None, printed
    smaller = parts_of(encoder="conv-small", image_size=32, **FEW, grad_cache_chunk=int(part[1]))
    assert sum(smaller.values()) - found.present < more / 2
    monkeypatch.setattr(estimate, "free_bytes", lambda device: 1000)
    assert "--grad-cache-chunk" not in shown(plan, module)
    assert "smaller --batch-size" in shown(plan, module)
    monkeypatch.setattr(estimate, "free_bytes", lambda device: None)
    assert "warning" not in shown(plan, module)


def test_fewer_watched_images_are_suggested_if_the_diagnosis_is_largest(monkeypatch: pytest.MonkeyPatch) -> None:
    plan, module = planned(encoder="conv-small", image_size=32, batch_size=16, monitor={"images": 400})
    found = make_estimate(plan, module, 1)
    assert found.parts["diagnosis"] > 0.5 * found.nbytes
    monkeypatch.setattr(estimate, "free_bytes", lambda device: (found.nbytes - found.present) // 2)
    assert f"Use --monitor.images {len(plan.held_out) // 4}, which needs" in shown(plan, module)


class Decides(nn.Module):
    """An encoder whose program depends on values."""

    def forward(self, x: Tensor) -> Tensor:
        h = x.mean(dim=(2, 3)).repeat(1, 43)[:, :128]
        return h if bool(h.sum() > 0) else -h


def test_what_cannot_be_simulated_is_left_out() -> None:
    plan, module = planned(**FEW)
    joint_embedding(module).network.encoder = Decides()
    found = make_estimate(plan, module, estimate.SHORT_RUN)
    assert found.parts == {}
    assert found.timing is not None
    assert found.record(None)["estimated_memory_gb"] is None
    line = shown(plan, module, estimate.SHORT_RUN)
    assert line.startswith("estimate  about ")
    assert "memory" not in line


def test_time_beyond_the_largest_trial_is_what_more_images_add(monkeypatch: pytest.MonkeyPatch) -> None:
    each = 0.1  # seconds an image
    spent: list[float] = []

    def seconds(plan: Plan, twin: PretrainModule, optimizer: torch.optim.Optimizer, images: int) -> float:
        spent.append(0.05 + each * images)
        return spent[-1]

    monkeypatch.setattr(estimate, "_seconds", seconds)
    plan, module = planned(**FEW)
    timing = make_estimate(plan, module, 10**6).timing
    assert timing is not None
    assert 8 < timing.images < 20  # two seconds are spent on a trial at the most
    assert max(spent) <= 2
    assert timing.seconds == pytest.approx(12.85)
    each = 0.001
    found = make_estimate(plan, module, 100)
    assert found.timing == Timing(128, pytest.approx(0.178))
    assert found.seconds == pytest.approx(17.8)
    # half of the free memory is enough for a part of the images only
    monkeypatch.setattr(estimate, "free_bytes", lambda device: (found.nbytes - found.present) // 4)
    timing = make_estimate(plan, module, 100).timing
    assert timing is not None
    assert timing.images in (15, 16)
    assert timing.seconds == pytest.approx(0.178)


def test_a_trial_compiles_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each number of images would be compiled again, for most of a minute."""
    monkeypatch.setattr(augment, "_compiled", lambda device_type: pytest.fail("compiled"))
    plan, module = planned(**FEW, compile_augmentation=True)
    assert make_estimate(plan, module, 200).timing is not None
    assert module.config.compile_augmentation


def test_a_trial_has_whole_chunks_and_computes_activations_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[tuple[int, int]] = []

    def seconds(plan: Plan, twin: PretrainModule, optimizer: torch.optim.Optimizer, images: int) -> float:
        chunk = joint_embedding(twin).network.chunk
        assert chunk is not None
        tried.append((images, chunk))
        return 0.01 * images

    monkeypatch.setattr(estimate, "_seconds", seconds)
    timing = make_estimate(*planned(**FEW, grad_cache_chunk=32), 200).timing
    assert timing == Timing(128, pytest.approx(1.28))
    assert tried[:2] == [(4, 2), (4, 2)]
    assert tried[-1] == (128, 32)
    assert all(images % chunk == 0 and images >= 2 * chunk for images, chunk in tried)


@pytest.mark.gpu
def test_memory_is_what_a_gpus_allocator_counts() -> None:
    plan, module = planned(encoder="resnet18", image_size=64, batch_size=128, precision="bf16")
    parts = make_estimate(plan, module, 1).parts
    module.to(plan.device)
    stepper = Stepper(module)
    torch.cuda.reset_peak_memory_stats()
    for number in range(2):
        stepper.step(number)
    measured = torch.cuda.max_memory_allocated()
    assert 0.5 < sum(parts.values()) / measured < 2
