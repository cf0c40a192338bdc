"""What is trained: targets, two networks, predictors, and combinations of options that are refused."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from eigenview.config import NetworkConfig, OptimConfig, RunConfig
from eigenview.engine.config_checks import check_combinations
from eigenview.engine.optim import build_optimizer
from eigenview.engine.plan import make_plan, own_device
from eigenview.engine.progress import images_per_pass
from eigenview.engine.step import accumulate_gradients
from eigenview.engine.train import build_module
from eigenview.errors import NonFiniteError, UserError
from eigenview.methods.parts.building import Parts, build_method, parts_of
from eigenview.methods.parts.closed_form import ClosedFormPredictor
from eigenview.methods.parts.joint_embedding import JointEmbedding
from eigenview.methods.parts.method import Objective
from eigenview.models.heads import predictor
from eigenview.models.network import Network
from eigenview.records import Clock, Needs
from eigenview.views import Loss
from tests.engine.stepping import Stepper, all_images, joint_embedding, module_of
from tests.engine.stepping import config_of as config


def method_of(name: str, /, **fields: Any) -> JointEmbedding:
    return joint_embedding(module_of(name, **fields))


def built(config: RunConfig[Any]) -> JointEmbedding:
    """The method of a config, without its images."""
    method = build_method(config, parts_of(config, 16, None))
    assert isinstance(method, JointEmbedding)
    return method


def one_step(name: str, /, *, count: int = 32, **fields: Any) -> tuple[JointEmbedding, Loss]:
    """The method of a run after loss and gradient of one step, before the optimiser."""
    module = module_of(name, **fields)
    batch = module.make_batch(all_images(module, count), 0)
    return joint_embedding(module), accumulate_gradients(module.method, batch, module.clock(0), module.options)


def conv_tiny(seed: int = 0, **network: Any) -> Network:
    return Parts(encoder="conv-tiny", size=16, network=NetworkConfig(**network), seed=seed).build_network(Needs())


def closed_form(method: JointEmbedding) -> ClosedFormPredictor:
    found = method.objective.predictor
    assert isinstance(found, ClosedFormPredictor)
    return found


REFUSED = [
    ("simsiam", {"network": {"target": "ema"}}, r"network\.target is 'ema'.*auto or online.*simsiam"),
    ("vicreg", {"network": {"target": "online"}}, r"network\.target is 'online'.*auto"),
    ("byol", {"method": {"stop_gradient": False}}, r"method\.stop_gradient is False.*--network\.target online"),
    ("byol", {"second_encoder": "conv-small"}, r"--second-encoder\b.*byol.*one network.*vicreg"),
    ("directpred", {"network": {"shared_weights": False}}, r"--network\.no-shared-weights\b.*directpred.*one network"),
    ("isoloss", {"network": {"shared_weights": False}}, r"--network\.no-shared-weights\b.*isoloss.*one network"),
    ("unbiased-vicreg", {"batch_size": 3}, r"--batch-size is 3\b.*\b4 or more"),
    (
        "unbiased-vicreg",
        {"batch_size": 12, "devices": 4, "method": {"statistics": "local"}},
        r"--batch-size is 12\b.*\b16 or more",
    ),
    ("directclr", {"network": {"projector_layers": 2}}, r"network\.projector_layers is 2\b.*\b0\b"),
]


@pytest.mark.parametrize(("method", "fields", "message"), REFUSED)
def test_impossible_combinations_are_refused_with_the_reason(method: str, fields: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        check_combinations(config(method, **fields))


ROW_NORMS = {"encoder_norm": "group", "head_norm": "layer"}
COUPLED = [
    ({"batch_size": 16}, 16),
    ({"batch_size": 16, "network": {"head_norm": "layer"}}, 16),
    ({"batch_size": 128, "grad_accum_steps": 4, "method": {"hinge": "dual"}}, 32),
    ({"batch_size": 128, "devices": 4}, 32),
    ({"batch_size": 128, "grad_cache_chunk": 8}, 8),
    ({"batch_size": 64}, None),
    ({"batch_size": 16, "network": ROW_NORMS}, None),
]


@pytest.mark.parametrize(("fields", "images"), COUPLED)
def test_batch_norm_of_few_images_is_noted_for_the_unbiased_form_alone(
    fields: dict[str, Any], images: int | None
) -> None:
    asked = config("unbiased-vicreg", **{"encoder": "conv-tiny", **fields})
    notes = [n for n in built(asked).warnings(images_per_pass(asked)) if "batch norm" in n]
    assert len(notes) == (images is not None)
    assert all(re.search(rf"\b{images} images.*--network.encoder-norm group", note) for note in notes)
    other = config("vicreg", batch_size=16, encoder="conv-tiny")
    assert not any("batch norm" in note for note in built(other).warnings(16))


@pytest.mark.parametrize("method", ["simclr", "vicreg", "barlow-twins", "infonce"])
def test_two_branches_are_both_trained(method: str) -> None:
    network = one_step(method, network={"shared_weights": False}, second_encoder="conv-small", views=3)[0].network
    second = network.second
    assert second is not None
    for part in (network.encoder, network.projector, second.encoder, second.projector):
        assert any(p.grad is not None and p.grad.abs().max() > 0 for p in part.parameters())


def test_separate_branches_start_apart_and_the_first_is_as_without() -> None:
    alone, pair = conv_tiny(seed=3), conv_tiny(seed=3, shared_weights=False)
    assert pair.second is not None
    for name, weight in alone.encoder.named_parameters():
        assert torch.equal(dict(pair.encoder.named_parameters())[name], weight)
    x = torch.randn(4, 3, 16, 16)
    assert not torch.allclose(pair.embed(x, 0)[1], pair.embed(x, 1)[1])
    assert torch.equal(pair.eval().embed(x, 0)[1], pair.embed(x, 2)[1])


def test_branches_of_unequal_width_cannot_share_coordinates() -> None:
    with pytest.raises(UserError, match=r"--second-encoder is 'torchvision:resnet18'.*width.*projector-layers 1"):
        module_of("vicreg", network={"projector_layers": 0}, second_encoder="torchvision:resnet18")


def test_d0_beyond_the_representation_is_refused() -> None:
    with pytest.raises(UserError, match=r"method\.d0 is 4096"):
        module_of("directclr", method={"d0": 4096})


@pytest.mark.parametrize("method", ["byol", "directcopy", "isoloss"])
def test_the_online_network_can_be_its_own_target(method: str) -> None:
    found, loss = one_step(method, network={"target": "online"})
    assert found.target is None
    assert found.log_values(Clock()) == {}
    assert torch.isfinite(loss.total)
    with_target = method_of(method)
    assert with_target.target is not None
    assert with_target.log_values(Clock(steps=10)) == {"target_momentum": pytest.approx(0.99, abs=0.05)}


@pytest.mark.parametrize("layers", [0, 1, 2])
def test_learned_predictors_of_every_depth_train(layers: int) -> None:
    fields = {"network": {"predictor_layers": layers, "predictor_symmetric": layers > 0}}
    head = one_step("simsiam", **fields)[0].network.predictor
    assert head is not None
    grads = [p.grad for p in head.parameters()]
    assert len(grads) == {0: 0, 1: 2, 2: 4}[layers]
    assert all(g is not None and g.abs().max() > 0 for g in grads)


def test_a_closed_form_predictor_moves_after_the_step_only() -> None:
    fields = {"method": {"refresh_every": 2}}
    before = closed_form(method_of("directpred", **fields)).W.detach()
    method, loss = one_step("directpred", **fields)
    W = closed_form(method).W
    assert torch.equal(W, before)
    assert W.grad is not None  # trained between refreshes
    method.after_step(loss.carry, Clock())
    assert not torch.equal(W, before)


def test_an_overflow_in_the_moment_names_its_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """The loss of such a step may be finite (cosines are): the update after it raises."""
    module = module_of("directcopy")
    computed, stepper, clock = closed_form(joint_embedding(module)), Stepper(module), module.clock(17)
    moments = computed.moments
    monkeypatch.setattr(computed, "moments", lambda z: moments(1e25 * z))
    monkeypatch.setattr(module, "clock", lambda step=17: clock)
    module.optimizer = stepper.optimizer
    with pytest.raises(NonFiniteError, match=r"second moment F .* at step 17\b.*likely cause: the learning rate"):
        module.training_step({"index": torch.arange(32)})


def test_the_predictor_has_a_rate_and_a_decay_of_its_own() -> None:
    head = predictor(4, NetworkConfig(predictor_layers=1))
    network = Network(torch.nn.Linear(3, 4), torch.nn.Identity(), head)
    optim = OptimConfig(
        name="sgd", lr_per_256=1.0, weight_decay=0.5, predictor_weight_decay=0.25, predictor_lr_factor=3
    )
    method = JointEmbedding(Needs(), network, Objective(), predictor_group=(3.0, 0.25))
    groups = build_optimizer(optim, method, batch_size=256).param_groups
    found = {(g["factor"], g["weight_decay"]): sum(p.numel() for p in g["params"]) for g in groups}
    assert found == {(1.0, 0.5): 12, (1.0, 0.0): 4, (3.0, 0.25): 16, (3.0, 0.0): 4}


def test_a_share_of_the_images_is_drawn_with_the_seed() -> None:
    whole, half, again = (make_plan(config("vicreg", data_fraction=f)) for f in (1.0, 0.5, 0.5))
    other = make_plan(config("vicreg", data_fraction=0.5, seed=1))
    assert len(half.train) == round(len(whole.train) / 2)
    first, second, third = (plan.train.read(torch.arange(8).numpy()) for plan in (half, again, other))
    assert (first == second).all()
    assert not (first == third).all()


def test_a_few_probe_images_are_no_batch_to_judge_by(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (10, 16, 16, 3), np.uint8)
    np.savez(tmp_path / "few.npz", x=pixels, y=np.arange(10) % 2)
    plan = make_plan(config("vicreg", probe_data=str(tmp_path / "few.npz")))
    assert plan.probes is not None
    assert len(plan.probes[1]) == 2
    assert len(plan.held_out) == 16
    assert plan.held_out_note == "16 images held out of training"


def test_probes_can_be_fitted_on_fewer_images() -> None:
    plan = make_plan(config("vicreg", probe={"images": 200}))
    assert plan.probes is not None
    assert len(plan.probes[0]) == 200


def test_a_stratified_share_has_the_classes_alike() -> None:
    whole = make_plan(config("vicreg")).train
    part = make_plan(config("vicreg", data_fraction=0.25, stratified=True)).train
    assert whole.labels is not None
    assert part.labels is not None
    shares = 0.25 * np.bincount(whole.labels)
    assert len(part) == round(0.25 * len(whole))
    assert np.abs(np.bincount(part.labels) - shares).max() < 1


def test_a_stratified_share_of_small_classes_is_as_large_as_asked(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", x=np.zeros((300, 16, 16, 3), np.uint8), y=np.arange(300) // 3)
    asked = {"data": str(tmp_path / "x.npz"), "data_fraction": 0.1, "stratified": True, "batch_size": 8}
    whole = make_plan(config("vicreg", **{**asked, "data_fraction": 1.0})).train
    first, second = (make_plan(config("vicreg", **asked, seed=seed)).train for seed in (0, 1))
    assert len(first) == len(second) == round(0.1 * len(whole))
    assert first.labels is not None
    assert second.labels is not None
    assert np.bincount(first.labels).max() == 1
    assert first.labels.tolist() != second.labels.tolist()


def test_a_share_smaller_than_a_batch_names_the_share() -> None:
    with pytest.raises(UserError, match=r"\b144\b.*--data-fraction 0.1\b.*\b256\b.*larger --data-fraction"):
        make_plan(config("vicreg", data_fraction=0.1, batch_size=256))


@pytest.mark.parametrize(
    "place",
    [
        {"RANK": "3", "LOCAL_RANK": "1", "WORLD_SIZE": "4"},
        {"SLURM_PROCID": "3", "SLURM_LOCALID": "1", "SLURM_STEP_NUM_TASKS": "4"},
    ],
    ids=["torchrun", "SLURM"],
)
def test_each_of_several_processes_has_its_own_gpu(monkeypatch: pytest.MonkeyPatch, place: dict[str, str]) -> None:
    assert own_device("auto", 2) == torch.device("cpu") or torch.cuda.is_available()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    for name in ("RANK", "SLURM_STEP_NUM_TASKS"):
        monkeypatch.delenv(name, raising=False)
    assert own_device("auto", 2) == torch.device("cuda", 0)  # the process that starts the others
    for name, value in place.items():
        monkeypatch.setenv(name, value)
    assert own_device("auto", 2) == torch.device("cuda", 1)
    assert own_device("auto", 1) == torch.device("cuda", 0)


def test_a_stratified_share_of_unlabelled_images_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "images.npy", np.zeros((400, 16, 16, 3), np.uint8))
    asked = config("vicreg", data=str(tmp_path / "images.npy"), data_fraction=0.5, stratified=True)
    with pytest.raises(UserError, match=r"--stratified\b.*images.npy.*labels"):
        make_plan(asked)


@pytest.mark.parametrize("fields", [{"local_views": 1, "local_size": 4}, {"image_size": 4}])
def test_batch_norm_of_a_single_value_is_refused_before_the_first_step(fields: dict[str, Any]) -> None:
    """conv-tiny reduces 4 px to one position, so that one image at a time is one value in each channel."""
    small = {k: v for k, v in fields.items() if k != "image_size"}
    plan = make_plan(config("simsiam", encoder="conv-tiny", grad_cache_chunk=1, **small))
    plan = replace(plan, size=fields.get("image_size", plan.size))
    with pytest.raises(UserError, match=r"--grad-cache-chunk 1\b.*\b4 px.*--grad-cache-chunk 2 or more"):
        build_module(plan)


def test_one_image_at_a_time_is_taken_where_it_leaves_several_values() -> None:
    network = method_of("simsiam", encoder="conv-tiny", grad_cache_chunk=1).network
    assert all(not norm.running_mean.any() for norm in network.modules() if isinstance(norm, torch.nn.BatchNorm2d))
