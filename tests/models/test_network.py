"""What is trained: targets, branches, predictors, and options that do not go together."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from eigenview.config import NetworkConfig, OptimConfig
from eigenview.engine.config_checks import coupling_note, refuse_contradictions
from eigenview.engine.optim import build_optimizer
from eigenview.engine.plan import make_plan, own_device
from eigenview.engine.train import build_module
from eigenview.errors import NonFiniteError, UserError
from eigenview.models.heads import predictor
from eigenview.models.network import build_network
from eigenview.recipes import default
from eigenview.run import with_fields


def config(method: str, **fields: Any) -> Any:
    return with_fields(default(method, "digits"), {"monitor": {"images": 16}, **fields})


def module_of(method: str, **fields: Any) -> Any:
    return build_module(make_plan(config(method, **fields)))


def one_step(module: Any, count: int = 32) -> Any:
    """A training step without Lightning: loss and gradients."""
    loss = module.training_step({"index": torch.arange(count), "images": None}, 0)
    loss.backward()
    return loss


REFUSED = [
    ("simsiam", {"network": {"target": "ema"}}, r"network\.target is 'ema'; allowed: auto or online .*simsiam"),
    ("vicreg", {"network": {"target": "online"}}, r"network\.target is 'online'; allowed: auto with"),
    ("byol", {"objective": {"stop_gradient": False}}, r"objective\.stop_gradient is False.*--network\.target online"),
    ("byol", {"second_encoder": "conv-small"}, r"--second-encoder: byol needs one network.*vicreg"),
    ("directpred", {"network": {"branches": "separate"}}, r"--network\.branches separate: directpred needs one"),
    ("isoloss", {"network": {"branches": "separate"}}, r"isoloss needs one network"),
    ("unbiased-vicreg", {"batch_size": 3}, r"--batch-size is 3; allowed: 4 or more"),
    (
        "unbiased-vicreg",
        {"batch_size": 12, "devices": 4, "objective": {"statistics": "local"}},
        r"--batch-size is 12; allowed: 16 or more",
    ),
    ("directclr", {"network": {"projector_layers": 2}}, r"network\.projector_layers is 2; allowed: 0 with"),
]


@pytest.mark.parametrize(("method", "fields", "message"), REFUSED)
def test_contradictions_are_refused_with_the_reason(method: str, fields: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        refuse_contradictions(config(method, **fields))


ROW_NORMS = {"encoder_norm": "group", "head_norm": "layer"}
COUPLED = [
    ({"batch_size": 16}, 16),
    ({"batch_size": 16, "network": {"head_norm": "layer"}}, 16),
    ({"batch_size": 128, "accumulate": 4, "objective": {"hinge": "dual"}}, 32),
    ({"batch_size": 128, "devices": 4}, 32),
    ({"batch_size": 128, "micro_batch": 8}, 8),
    ({"batch_size": 64}, None),
    ({"batch_size": 16, "network": ROW_NORMS}, None),
]


@pytest.mark.parametrize(("fields", "images"), COUPLED)
def test_batch_norm_of_few_images_is_noted_for_the_unbiased_form_alone(
    fields: dict[str, Any], images: int | None
) -> None:
    asked = config("unbiased-vicreg", **fields)
    network = build_network("conv-tiny", 16, asked.network, frozenset({"z"}), seed=0)[0]
    note = coupling_note(asked, network)
    assert note is None if images is None else note is not None and f"couples the {images} images" in note
    assert coupling_note(config("vicreg", batch_size=16), network) is None


@pytest.mark.parametrize("method", ["simclr", "vicreg", "barlow-twins", "infonce"])
def test_two_branches_are_both_trained(method: str) -> None:
    module = module_of(method, network={"branches": "separate"}, second_encoder="conv-small", views=3)
    one_step(module)
    second = module.network.second
    assert second is not None
    for part in (module.network.encoder, module.network.projector, second.encoder, second.projector):
        assert any(p.grad is not None and p.grad.abs().max() > 0 for p in part.parameters())


def test_separate_branches_start_apart_and_the_first_is_as_without() -> None:
    reads = frozenset({"z"})
    alone = build_network("conv-tiny", 16, NetworkConfig(), reads, seed=3)[0]
    pair = build_network("conv-tiny", 16, NetworkConfig(branches="separate"), reads, seed=3)[0]
    assert pair.second is not None
    for name, weight in alone.encoder.named_parameters():
        assert torch.equal(dict(pair.encoder.named_parameters())[name], weight)
    x = torch.randn(4, 3, 16, 16)
    assert not torch.allclose(pair.embed(x, 0)[1], pair.embed(x, 1)[1])
    assert torch.equal(pair.eval().embed(x, 0)[1], pair.embed(x, 2)[1])


def test_branches_of_unequal_width_cannot_share_coordinates() -> None:
    with pytest.raises(UserError, match=r"--second-encoder is 'torchvision:resnet18'.*width .*projector-layers 1"):
        module_of("vicreg", network={"projector_layers": 0}, second_encoder="torchvision:resnet18")


def test_d0_beyond_the_representation_is_refused() -> None:
    with pytest.raises(UserError, match=r"objective\.d0 is 4096"):
        module_of("directclr", objective={"d0": 4096})


@pytest.mark.parametrize("method", ["byol", "directcopy", "isoloss"])
def test_the_online_network_can_be_its_own_target(method: str) -> None:
    module = module_of(method, network={"target": "online"})
    assert module.target is None
    assert module.target_momentum_at(0) is None
    assert torch.isfinite(one_step(module))
    assert module_of(method).target is not None


@pytest.mark.parametrize("layers", [0, 1, 2])
def test_learned_predictors_of_every_depth_train(layers: int) -> None:
    module = module_of("simsiam", network={"predictor_layers": layers, "predictor_symmetric": layers > 0})
    one_step(module)
    grads = [p.grad for p in module.network.predictor.parameters()]
    assert len(grads) == {0: 0, 1: 2, 2: 4}[layers]
    assert all(g is not None and g.abs().max() > 0 for g in grads)


def test_a_closed_form_predictor_moves_after_the_step_only() -> None:
    module = module_of("directpred", objective={"refresh_every": 2})
    before = module.objective.predictor.W.detach().clone()
    one_step(module)
    assert torch.equal(module.objective.predictor.W, before)
    assert module.objective.predictor.W.grad is not None  # trained between refreshes
    module.update_objective(module._records.pop(), 0)
    assert not torch.equal(module.objective.predictor.W, before)


def test_an_overflow_in_the_moment_names_its_step() -> None:
    module = module_of("directcopy")
    one_step(module)
    record = module._records[-1]
    with pytest.raises(NonFiniteError, match=r"second moment F .* at step 17; likely cause: the learning rate"):
        module.update_objective(type(record)(z=record.z * 1e25, z_target=record.z_target), 17)


def test_the_predictor_has_a_rate_and_a_decay_of_its_own() -> None:
    head = predictor(4, NetworkConfig(predictor_layers=1))
    network = torch.nn.Sequential(torch.nn.Linear(3, 4), head)
    optim = OptimConfig(
        name="sgd", lr_per_256=1.0, weight_decay=0.5, predictor_weight_decay=0.25, predictor_lr_factor=3
    )
    groups = build_optimizer(optim, network, batch_size=256, predictor=[head]).param_groups
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
    with pytest.raises(UserError, match=r"144 readable images.*--data-fraction 0.1; a batch of 256.*larger --data-fr"):
        make_plan(config("vicreg", data_fraction=0.1, batch_size=256))


@pytest.mark.parametrize("variable", ["LOCAL_RANK", "SLURM_LOCALID"])
def test_each_of_several_processes_has_its_own_gpu(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    assert own_device(2) == torch.device("cpu") or torch.cuda.is_available()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    for name in ("LOCAL_RANK", "SLURM_LOCALID"):
        monkeypatch.delenv(name, raising=False)
    assert own_device(2) == torch.device("cuda", 0)  # the process that starts the others
    monkeypatch.setenv(variable, "1")
    assert own_device(2) == torch.device("cuda", 1)
    assert own_device(1) == torch.device("cuda", 0)


def test_a_stratified_share_of_unlabelled_images_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "images.npy", np.zeros((400, 16, 16, 3), np.uint8))
    asked = config("vicreg", data=str(tmp_path / "images.npy"), data_fraction=0.5, stratified=True)
    with pytest.raises(UserError, match=r"--stratified: .*images.npy has no labels to draw by"):
        make_plan(asked)


@pytest.mark.parametrize("fields", [{"local_views": 1, "local_size": 4}, {"size": 4}])
def test_batch_norm_of_a_single_value_is_refused_before_the_first_step(fields: dict[str, Any]) -> None:
    """conv-tiny has one place left of 4 px: one image at a time is one value in each channel."""
    small = {k: v for k, v in fields.items() if k != "size"}
    plan = make_plan(config("simsiam", encoder="conv-tiny", micro_batch=1, **small))
    plan = replace(plan, size=fields.get("size", plan.size))
    with pytest.raises(UserError, match=r"--micro-batch 1: at 4 px .*--micro-batch 2 or more"):
        build_module(plan)


def test_one_image_at_a_time_is_taken_where_it_leaves_several_values() -> None:
    network = build_module(make_plan(config("simsiam", encoder="conv-tiny", micro_batch=1))).network
    assert all(not norm.running_mean.any() for norm in network.modules() if isinstance(norm, torch.nn.BatchNorm2d))
