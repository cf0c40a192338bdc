"""The estimate before training: memory beside the allocator's count, time on a replaced clock, nothing changed."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from eigenview import runfiles
from eigenview.cli import run
from eigenview.config import with_fields
from eigenview.data.views import augment
from eigenview.durations import rough_duration
from eigenview.engine import cost_estimate as estimate
from eigenview.engine import probe_estimate
from eigenview.engine.cost_estimate import Timing, make_estimate, show_estimate
from eigenview.engine.memory import process_bytes
from eigenview.engine.module import PretrainModule
from eigenview.engine.plan import Plan, make_plan
from eigenview.engine.train import build_module
from eigenview.probes.linear import MAX_ITERATIONS
from eigenview.recipes import default
from eigenview.terminal import Console
from tests.engine.stepping import Stepper, joint_embedding
from tests.engine.test_fake_step import FEW, parts_of, planned


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
    out = io.StringIO()
    show_estimate(Console(file=out), plan, module, make_estimate(plan, module, steps))
    return out.getvalue()


def test_the_line_names_the_parts_and_their_sum() -> None:
    line = shown(*planned(**FEW), steps=estimate.SHORT_RUN)
    found = re.fullmatch(
        r"estimate  about ([\d.]+) GB of memory \(libraries .*, probes and report 250 MB, activations (\d+) MB.*\)"
        r" and (\d+) (?:second|minute)s? of training \((?:a step was timed|from a step of \d+ of 128 images)\)\n",
        line,
    )
    assert found is not None, line
    assert 1 < int(found[2]) < 1000 * float(found[1])
    assert "training" not in shown(*planned(**FEW))  # too short a run to be timed


def test_mapped_images_are_named_apart_and_libraries_count(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros((100_000, 3, 32, 32), np.uint8))
    config = with_fields(default("vicreg", "a.npy"), {"data": str(tmp_path / "a.npy"), "batch_size": 32, **FEW})
    plan = make_plan(config)
    assert plan.held_out.pixels is plan.train.pixels  # nothing was copied
    module = build_module(plan)
    found = make_estimate(plan, module, 1)
    assert found.mapped == 100_000 * 3 * 32 * 32
    resident = process_bytes()
    assert resident is not None
    assert 0.8 < (found.process + found.present) / resident < 1.25
    assert found.nbytes == sum(found.parts.values()) + found.process + found.later
    printed = shown(plan, module)
    assert printed.endswith("          beside 307 MB of images in a mapped file, kept in memory while there is room\n")


def test_too_little_memory_is_reported_with_an_option_that_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    plan, module = planned(encoder="conv-small", image_size=32, **FEW)
    found = make_estimate(plan, module, 1)
    more = found.more
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
    assert found.parts["diagnosis"] > 0.5 * sum(found.parts.values())
    monkeypatch.setattr(estimate, "free_bytes", lambda device: found.more // 2)
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
    assert found.record()["estimated_memory_gb"] is None
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
    monkeypatch.setattr(estimate, "free_bytes", lambda device: found.more // 4)
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


def test_the_time_of_large_probes_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three k-NN readings, three linear fits and the features of two encoders, in proportion to what was tried."""
    plan, module = planned(**FEW, batch_size=32, image_size=16)
    assert plan.probes is not None
    assert probe_estimate.probe_seconds(plan, module.method.widths["h"], lambda images: images) is None, "seconds"
    monkeypatch.setattr(probe_estimate, "LEAST_PRODUCTS", 1.0)
    monkeypatch.setattr(probe_estimate, "_seconds", lambda work: work() is None or 0.5)
    train, test = map(len, plan.probes)
    knn = 3 * train * test / (probe_estimate.BANK * probe_estimate.QUERIES)
    linear = 3 * MAX_ITERATIONS * (train + 5 * (2 * train // 3)) / probe_estimate.BANK
    features = 2 * (train + test) / probe_estimate.TRIED_IMAGES
    before = {name: value.clone() for name, value in module.state_dict().items()}
    found = make_estimate(plan, module, 1)
    assert found.probe_seconds is not None
    assert found.probe_seconds == pytest.approx(0.5 * (knn + linear + features))
    out = io.StringIO()
    show_estimate(Console(file=out), plan, module, found)
    text = f"and up to {rough_duration(found.probe_seconds)} of probes afterwards ({train:,} x {test:,} images)"
    assert text in " ".join(out.getvalue().split())
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert all(part.training for part in joint_embedding(module).network.modules())
