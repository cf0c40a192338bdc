"""A batch in parts, one optimiser step: the whole batch's gradient in the mean, and refused where it is not."""

from __future__ import annotations

import os
import subprocess
import sys
from itertools import combinations
from pathlib import Path

import pytest
import torch

from eigenview import runfiles
from eigenview.config import RunConfig
from eigenview.engine.config_checks import refuse_contradictions
from eigenview.engine.module import PretrainModule
from eigenview.engine.plan import make_plan
from eigenview.engine.train import build_module
from eigenview.errors import UserError
from eigenview.methods import OBJECTIVES, config_class, objective_class
from eigenview.recipes import default
from eigenview.run import with_fields

UNCOUPLED = {"encoder_norm": "group", "head_norm": "layer", "projector_hidden": 24, "projector_width": 6}
SAMPLES = 8


def module_of(method: str, objective: dict[str, object], **fields: object) -> PretrainModule:
    """A real module on digits without anything that ties images together, in float64."""
    config = with_fields(
        default(method, "digits"),
        {
            "monitor": {"images": 16},
            "batch_size": SAMPLES,
            "encoder": "conv-tiny",
            "network": {**UNCOUPLED, "predictor_hidden": 12},
            "objective": objective,
            **fields,
        },
    )
    torch.manual_seed(0)
    return build_module(make_plan(config)).double()


def gradient(module: PretrainModule, views: list[torch.Tensor]) -> torch.Tensor:
    """What a step leaves in .grad when its views are these."""
    module.zero_grad()
    module._records.clear()
    module.make_views = lambda images, seed, **_: views  # type: ignore[method-assign]
    module.training_step({"index": torch.arange(SAMPLES)}, 0).backward()
    return torch.cat([p.grad.flatten() for p in module.network.parameters() if p.grad is not None])


@pytest.mark.parametrize("method", ["byol", "simsiam"])
def test_of_a_mean_over_images_parts_give_the_gradient_exactly(method: str) -> None:
    views = [torch.randn(SAMPLES, 3, 16, 16, dtype=torch.float64) for _ in range(2)]
    whole = module_of(method, {})
    parts = module_of(method, {}, accumulate=4)
    expected, ours = gradient(whole, views), gradient(parts, views)
    assert expected.abs().max() > 1e-3
    torch.testing.assert_close(ours, expected, rtol=1e-10, atol=1e-12)
    assert parts.terms.keys() == whole.terms.keys()
    for name, value in whole.terms.items():
        torch.testing.assert_close(parts.terms[name], value, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(
    "objective", [{"hinge": "square"}, {"hinge": "dual"}, {"hinge": "square", "form": "identity"}, {"variance": 0.0}]
)
def test_of_the_unbiased_vicreg_the_mean_over_all_partitions_is_the_gradient(objective: dict[str, object]) -> None:
    """The expected gradient of two micro-batches is that of the batch: all 35 ways to halve eight images."""
    views = [torch.randn(SAMPLES, 3, 16, 16, dtype=torch.float64) for _ in range(2)]
    whole = module_of("unbiased-vicreg", objective)
    parts = module_of("unbiased-vicreg", objective, accumulate=2)
    for module in (whole, parts):
        if objective.get("hinge") == "dual":
            module.objective.running.fill_(0.25)
            module.objective.updates = 1
    expected = gradient(whole, views)
    found = []
    for half in combinations(range(1, SAMPLES), SAMPLES // 2 - 1):
        first = [0, *half]
        order = first + [i for i in range(SAMPLES) if i not in first]
        found.append(gradient(parts, [view[order] for view in views]))
    assert len(found) == 35
    torch.testing.assert_close(torch.stack(found).mean(dim=0), expected, rtol=1e-9, atol=1e-10)
    assert (found[0] - expected).abs().max() > 1e-3 * expected.abs().max()  # one partition alone is another estimate


def test_the_state_moves_once_for_each_part_after_the_step() -> None:
    module = module_of("unbiased-vicreg", {"hinge": "dual"}, accumulate=2)
    gradient(module, [torch.randn(SAMPLES, 3, 16, 16, dtype=torch.float64) for _ in range(2)])
    assert [record.read("z").shape[1] for record in module._records] == [4, 4]
    assert not any(record.read("z").requires_grad for record in module._records)
    assert module.objective.updates == 0


@pytest.mark.parametrize("method", list(OBJECTIVES))
def test_objectives_that_couple_a_batch_refuse_it_with_the_ways_out(method: str) -> None:
    config = with_fields(default(method, "digits"), {"accumulate": 2})
    coupled = objective_class(method).coupled_by(config.objective)
    if coupled is None:
        assert method in ("byol", "simsiam")
        refuse_contradictions(config)
        return
    with pytest.raises(UserError, match=r"--accumulate 2: .* another gradient than the whole.*--micro-batch") as error:
        refuse_contradictions(config)
    assert coupled in str(error.value)


def test_regularised_byol_and_the_plugin_hinge_are_coupled() -> None:
    for method, fields in (("byol", {"variance": 1.0}), ("unbiased-vicreg", {"hinge": "plugin"})):
        assert objective_class(method).coupled_by(config_class(method)(**fields)) is not None


def test_parts_too_small_for_the_statistics_are_refused() -> None:
    config = with_fields(default("unbiased-vicreg", "digits"), {"accumulate": 64, "batch_size": 128})
    with pytest.raises(UserError, match=r"--batch-size is 128; allowed: 256 or more .* 4 images at once, in 64 parts"):
        refuse_contradictions(with_fields(config, {"objective": {"hinge": "dual"}}))
    with pytest.raises(UserError, match="--accumulate is 3; allowed: a divisor of the 64 images"):
        RunConfig(batch_size=128, devices=2, accumulate=3)
    with pytest.raises(UserError, match="--micro-batch is 64; allowed: a divisor of the 32 images"):
        RunConfig(batch_size=128, devices=2, accumulate=2, micro_batch=64)


@pytest.mark.ddp
@pytest.mark.slow
def test_two_processes_train_alike_in_parts_and_whole(tmp_path: Path) -> None:
    """Lightning's loop and DDP's averaging are what they are without parts: no gradient is lost, none counted twice."""
    options = {"method": "simsiam", "devices": 2, "epochs": 1, "precision": "fp32", "encoder": "conv-tiny"}
    options |= {"network.encoder-norm": "group", "network.head-norm": "layer", "monitor.log-every-steps": 1}
    given = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    runs = []
    for parts in (1, 2):
        command = [sys.executable, "-m", "eigenview", "pretrain", *given, "--accumulate", str(parts)]
        command += ["--out", str(tmp_path / str(parts))]
        runs.append(subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, stderr=subprocess.PIPE))
    for each in runs:
        _, problems = each.communicate(timeout=200)
        assert each.returncode == 0, problems.decode()[-3000:]
    whole, parts = (runfiles.read_rows(tmp_path / name / runfiles.METRICS) for name in ("1", "2"))
    assert [row["step"] for row in parts] == [row["step"] for row in whole]
    assert abs(whole[-1]["loss"] - whole[0]["loss"]) > 0.02
    for row, expected in zip(parts, whole, strict=True):
        assert row["loss"] == pytest.approx(expected["loss"], abs=2e-4)
