"""A batch computed in parts has the whole batch's gradient and state; methods for which it has not refuse it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from eigenview import runfiles
from eigenview.commands.grouped import field_docs
from eigenview.config import RunConfig, with_fields
from eigenview.engine.config_checks import check_combinations
from eigenview.engine.module import PretrainModule
from eigenview.errors import UserError
from eigenview.methods import METHODS, config_class
from eigenview.methods.unbiased_vicreg import UnbiasedVICReg
from eigenview.recipes import default
from eigenview.records import Batch
from eigenview.views import Loss
from tests.engine.stepping import Stepper, joint_embedding
from tests.engine.stepping import module_of as module_on_digits

UNCOUPLED = {"encoder_norm": "group", "head_norm": "layer", "projector_hidden": 24, "projector_width": 6}
SAMPLES = 8
EXACT = ("byol", "simsiam", "directcopy", "directpred", "directset", "isoloss")
"""Methods whose loss is a mean over images. State that they keep is a mean over images too."""


def test_the_help_names_the_methods_whose_parts_have_the_gradient_of_the_batch() -> None:
    help_text = field_docs(RunConfig)["grad_accum_steps"]
    assert {m for m in METHODS if config_class(m)().needs.parts == "exact"} == set(EXACT)
    named = {m for m in METHODS if re.search(rf"[ (]{m}[,) ]", help_text)}
    assert named == {*EXACT, "unbiased-vicreg"}
    for hinge in ("dual", "square"):
        assert config_class("unbiased-vicreg")(hinge=hinge).needs.parts == "expected"  # type: ignore[call-arg]


def module_of(method: str, options: dict[str, Any], **fields: Any) -> PretrainModule:
    """A real module on digits without batch norm, so that only the loss ties images together; in float64."""
    small = {"batch_size": SAMPLES, "encoder": "conv-tiny", "network": {**UNCOUPLED, "predictor_hidden": 12}}
    torch.manual_seed(0)
    return module_on_digits(method, **small, method=options, **fields).double()


def random_views(seed: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(SAMPLES, 3, 16, 16, generator=generator, dtype=torch.float64) for _ in range(2)]


def step(module: PretrainModule, views: list[Tensor], number: int = 0, stepper: Stepper | None = None) -> Loss:
    """One training step with these views."""
    batch = Batch(views=tuple(views), whole=2, total=SAMPLES)
    return (stepper or Stepper(module)).step(number, batch=batch)


def network_gradient(module: PretrainModule) -> Tensor:
    """What a step left in .grad of the network."""
    found = [p.grad.flatten() for p in joint_embedding(module).network.parameters() if p.grad is not None]
    return torch.cat(found)


def gradient(module: PretrainModule, views: list[Tensor]) -> Tensor:
    """The gradient of a step with these views. At step 0 the rate is 0: weights stay; the state is put back."""
    before = {name: value.clone() for name, value in module.method.state_dict().items()}
    step(module, views)
    module.method.load_state_dict(before)
    return network_gradient(module)


def test_the_methods_whose_parts_are_exact_are_those_tested_here() -> None:
    assert {method for method in METHODS if config_class(method)().needs.parts == "exact"} == set(EXACT)


@pytest.mark.parametrize("method", EXACT)
def test_of_a_mean_over_images_parts_give_loss_gradient_and_state_exactly(method: str) -> None:
    """Three steps at the full rate, so that what the first ones left (target network, F, W_p) is in the last loss."""
    runs = []
    for parts in (1, 4):
        module = module_of(method, {}, grad_accum_steps=parts)
        stepper, losses = Stepper(module), []
        first = 2 * module.steps_per_epoch  # past the warm-up
        for k in range(3):
            losses.append(step(module, random_views(k), first + k, stepper))
        runs.append((losses, network_gradient(module), module.method.state_dict()))
    (whole, expected, state), (parts, ours, ours_state) = runs
    assert expected.abs().max() > 1e-3
    torch.testing.assert_close(ours, expected, rtol=1e-10, atol=1e-10)
    for loss, other in zip(whole, parts, strict=True):
        assert other.terms.keys() == loss.terms.keys()
        for name, value in loss.terms.items():
            torch.testing.assert_close(other.terms[name], value, rtol=1e-10, atol=1e-12)
    assert ours_state.keys() == state.keys()
    for name, value in state.items():
        torch.testing.assert_close(ours_state[name], value, rtol=1e-10, atol=1e-10)
    if method not in ("byol", "simsiam"):
        assert state["objective.predictor.F"].abs().max() > 1e-3
        assert int(state["objective.predictor._extra_state"]) == 3  # once a step, not once a part
    if method != "simsiam":
        initial = module_of(method, {}).method.state_dict()
        moved = [n for n in state if n.startswith("target.") and not torch.equal(state[n], initial[n])]
        assert len(moved) > 3


@pytest.mark.parametrize(
    "options", [{"hinge": "square"}, {"hinge": "dual"}, {"hinge": "square", "form": "identity"}, {"variance": 0.0}]
)
def test_of_the_unbiased_vicreg_the_mean_over_all_partitions_is_the_gradient(options: dict[str, Any]) -> None:
    """The expected gradient of two parts is that of the batch: all 35 ways to halve eight images."""
    views = random_views()
    whole = module_of("unbiased-vicreg", options)
    parts = module_of("unbiased-vicreg", options, grad_accum_steps=2)
    for module in (whole, parts):
        if options.get("hinge") == "dual":
            objective = joint_embedding(module).objective
            assert isinstance(objective, UnbiasedVICReg)
            objective.running.fill_(0.25)
            objective.updates = 1
    expected = gradient(whole, views)
    found = []
    for half in combinations(range(1, SAMPLES), SAMPLES // 2 - 1):
        first = [0, *half]
        order = first + [i for i in range(SAMPLES) if i not in first]
        found.append(gradient(parts, [view[order] for view in views]))
    assert len(found) == 35
    torch.testing.assert_close(torch.stack(found).mean(dim=0), expected, rtol=1e-9, atol=1e-10)
    assert (found[0] - expected).abs().max() > 1e-3 * expected.abs().max()  # one partition alone is another estimate


def test_the_state_moves_once_a_step_by_the_mean_over_the_parts() -> None:
    """The running variance of dual: the first step takes the mean of the parts' own variances."""
    module = module_of("unbiased-vicreg", {"hinge": "dual"}, grad_accum_steps=2)
    method, views = joint_embedding(module), random_views()
    objective = method.objective
    assert isinstance(objective, UnbiasedVICReg)
    halves = [method.embed(Batch(views=tuple(v[k : k + 4] for v in views), whole=2)).read("z") for k in (0, 4)]
    assert objective.updates == 0
    loss = step(module, views)
    assert not loss.carry  # it has been used
    assert objective.updates == 1
    expected = torch.stack([z.var(dim=1) for z in halves]).mean(dim=0)
    torch.testing.assert_close(objective.running, expected.detach(), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("method", METHODS)
def test_methods_that_couple_a_batch_refuse_it_with_the_alternatives(method: str) -> None:
    config = with_fields(default(method, "digits"), {"grad_accum_steps": 2})
    needs = config.method.needs
    if needs.parts != "no":
        assert method in EXACT
        check_combinations(config)
        return
    with pytest.raises(
        UserError, match=r"--grad-accum-steps 2\b.*--grad-cache-chunk 64.*--grad-accum-coupled"
    ) as error:
        check_combinations(config)
    assert needs.parts_why in str(error.value)
    check_combinations(with_fields(config, {"grad_accum_coupled": True}))


def test_regularised_byol_and_the_plugin_hinge_are_coupled() -> None:
    for method, options in (("byol", {"variance": 1.0}), ("unbiased-vicreg", {"hinge": "plugin"})):
        assert config_class(method)(**options).needs.parts == "no"


def test_parts_too_small_for_the_statistics_are_refused() -> None:
    config = with_fields(default("unbiased-vicreg", "digits"), {"grad_accum_steps": 64, "batch_size": 128})
    with pytest.raises(UserError, match=r"--batch-size is 128\b.*\b256\b.*\b4 images.*\b64 parts"):
        check_combinations(with_fields(config, {"method": {"hinge": "dual"}}))
    with pytest.raises(UserError, match=r"--grad-accum-steps is 3\b.*\b64 images"):
        RunConfig(batch_size=128, devices=2, grad_accum_steps=3)
    with pytest.raises(UserError, match=r"--grad-cache-chunk is 64\b.*\b32 images"):
        RunConfig(batch_size=128, devices=2, grad_accum_steps=2, grad_cache_chunk=64)


@pytest.mark.ddp
@pytest.mark.slow
def test_two_processes_train_alike_in_parts_and_whole(tmp_path: Path) -> None:
    """Under DDP too: the gradient of no part is lost or counted twice."""
    options = {"method": "simsiam", "devices": 2, "epochs": 1, "precision": "fp32", "encoder": "conv-tiny"}
    options |= {"network.encoder-norm": "group", "network.head-norm": "layer", "monitor.log-every-steps": 1}
    given = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    runs = []
    for parts in (1, 2):
        command = [sys.executable, "-m", "eigenview", "pretrain", *given, "--grad-accum-steps", str(parts)]
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
