"""Runs that start from weights: what is loaded, what is trained, what is written, and how they are resumed."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import timm
import torch
from torch import Tensor, nn

import eigenview as ev
from eigenview import runfiles
from eigenview.commands.pretrain import parsed
from eigenview.config import RunConfig, with_fields
from eigenview.config.reading import Reading
from eigenview.diagnostics.baselines import RECALIBRATED
from eigenview.engine.final_probes import start_encoders
from eigenview.engine.plan import Plan, make_plan
from eigenview.engine.start import with_architecture
from eigenview.errors import UserError
from eigenview.models.encoders import build_encoder
from eigenview.models.saved import save_encoder
from eigenview.models.weights import read_weights
from eigenview.recipes import default
from eigenview.run import resumed_config
from eigenview.terminal import Console

SMALL: dict[str, Any] = {
    "epochs": 1,
    "batch_size": 32,
    "labels": "none",
    "network": {"projector_hidden": 16, "projector_width": 16},
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of timm's test_resnet and of its test_vit, and 80 images of 72 px."""
    folder = tmp_path_factory.mktemp("weights")
    torch.manual_seed(3)
    for name in ("test_resnet", "test_vit"):
        network = timm.create_model(name, num_classes=5)
        safetensors.torch.save_file(network.state_dict(), folder / f"{name}.safetensors")
    pixels = np.random.default_rng(0).integers(0, 256, (80, 72, 72, 3), dtype=np.uint8)
    np.save(folder / "x.npy", pixels)
    return folder


def run(place: Path, out: Path, **options: Any) -> tuple[ev.Run, str]:
    text = io.StringIO()
    options = {**SMALL, "weights": str(place / "test_resnet.safetensors"), **options}
    return ev.pretrain(str(place / "x.npy"), out=out, console=Console(file=text, width=400), **options), text.getvalue()


def encoder_tensors(run: ev.Run) -> dict[str, Tensor]:
    return safetensors.torch.load_file(run.directory / runfiles.ENCODER)


@pytest.fixture(scope="module")
def head(place: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[ev.Run, str]:
    return run(place, tmp_path_factory.mktemp("runs") / "head", train="head")


def test_a_frozen_encoder_keeps_all_values_of_the_file(place: Path, head: tuple[ev.Run, str]) -> None:
    given = safetensors.torch.load_file(place / "test_resnet.safetensors")
    ours = encoder_tensors(head[0])
    assert all(torch.equal(ours[name], given[name]) for name in ours)


def test_averages_follow_the_images_where_that_is_asked_for(place: Path, tmp_path: Path) -> None:
    done, text = run(place, tmp_path / "run", train="head", batch_norm="follow", augment={"mean": (0.4, 0.4, 0.4)})
    assert "mean and deviation that timm has for test_resnet are used, but for --augment.mean; the averages" in text
    assert json.loads((done.directory / runfiles.ENCODER_CARD).read_text())["mean"] == [0.4, 0.4, 0.4]
    assert "the averages of batch norm follow these images" in text
    given = safetensors.torch.load_file(place / "test_resnet.safetensors")
    ours = encoder_tensors(done)
    running = {name for name in ours if "running" in name or name.endswith("num_batches_tracked")}
    assert all(torch.equal(ours[name], given[name]) for name in set(ours) - running)
    assert all(not torch.equal(ours[name], given[name]) for name in running)


def test_averages_stay_while_everything_else_is_trained(place: Path, tmp_path: Path) -> None:
    given = safetensors.torch.load_file(place / "test_resnet.safetensors")
    ours = encoder_tensors(run(place, tmp_path / "run")[0])
    running = {name for name in ours if "running" in name or name.endswith("num_batches_tracked")}
    assert all(torch.equal(ours[name], given[name]) for name in running)
    assert not torch.equal(ours["conv1.0.weight"], given["conv1.0.weight"])
    assert not torch.equal(ours["bn1.weight"], given["bn1.weight"])


def test_what_was_loaded_is_said_and_written(place: Path, head: tuple[ev.Run, str]) -> None:
    done, text = head
    known = timm.get_pretrained_cfg("test_resnet")
    assert known is not None
    assert "weights   " in text
    assert "100 % of the encoder's values loaded" in text
    assert "not used: fc.bias, fc.weight" in text
    assert "mean and deviation that timm has for test_resnet are used" in text
    assert "batch norm keeps its averages (--batch-norm follow: they become those of these images)" in text
    assert "trained   --train head: 0 of the encoder's" in text
    config = json.loads((done.directory / runfiles.CONFIG).read_text())
    assert config["encoder"] == "timm:test_resnet"
    assert config["weights"] == str(place / "test_resnet.safetensors")
    card = json.loads((done.directory / runfiles.ENCODER_CARD).read_text())
    assert (card["mean"], card["std"]) == (list(known.mean), list(known.std))
    assert card["interpolation"] == known.interpolation == "bilinear"
    assert config["network"]["stem"] == "standard", "its first layer is three convolutions; a small stem has no values"
    assert card["weights"] == config["weights"]
    # the median side is 72, the weights were trained at 160
    assert card["size"] == 64


def test_a_run_leaves_a_folder_that_timm_loads_and_fine_tunes(head: tuple[ev.Run, str]) -> None:
    done, text = head
    folder = done.directory / "backbone"
    assert f"timm.create_model('local-dir:{folder}', pretrained=True, num_classes=10)" in text
    assert (folder / "model.safetensors").samefile(done.directory / runfiles.ENCODER)  # not a second copy
    model = timm.create_model(f"local-dir:{folder}", pretrained=True, num_classes=10).eval()
    encoder = ev.load_encoder(done.directory)
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        features = model.forward_head(model.forward_features(images), pre_logits=True)
        torch.testing.assert_close(features, encoder.network.eval()(images))
    assert model(images).shape == (2, 10)
    assert tuple(model.pretrained_cfg["mean"]) == encoder.mean
    model.train()(images).square().mean().backward()


def test_features_are_prepared_as_the_weights_saw_images(place: Path, tmp_path: Path) -> None:
    """Resized by the weights' own filter, here that of a folder of timm."""
    images = torch.from_numpy(np.load(place / "x.npy")[:4].transpose(0, 3, 1, 2).copy())
    network = timm.create_model("test_resnet", num_classes=5)
    network.pretrained_cfg["interpolation"] = "bicubic"  # type: ignore[index]
    timm.models._hub.save_for_hf(network, str(tmp_path / "hub"), safe_serialization=True)
    encoder = ev.load_encoder(tmp_path / "hub", image_size=64)
    assert encoder.interpolation == "bicubic"
    resized = nn.functional.interpolate(images / 255, (64, 64), mode="bicubic", antialias=True).clamp(0, 1)
    mean, std = (torch.tensor(each).view(1, 3, 1, 1) for each in (encoder.mean, encoder.std))
    with torch.no_grad():
        expected = encoder.network((resized - mean) / std)
    torch.testing.assert_close(encoder.embed(images), expected, rtol=1e-4, atol=1e-5)


def test_frozen_epochs_leave_the_encoder_as_it_was(place: Path, tmp_path: Path) -> None:
    given = safetensors.torch.load_file(place / "test_resnet.safetensors")
    later, text = run(
        place, tmp_path / "run", freeze_epochs=1.0, optim={"encoder_lr_factor": 0.1, "warmup_epochs": 0.0}, epochs=1
    )
    ours = encoder_tensors(later)
    assert torch.equal(ours["conv1.0.weight"], given["conv1.0.weight"])
    assert "and the heads; the encoder in none of the 1 epochs (--freeze-epochs 1)" in text
    moved, _ = run(place, tmp_path / "moved", optim={"encoder_lr_factor": 0.1, "warmup_epochs": 0.0})
    assert not torch.equal(encoder_tensors(moved)["conv1.0.weight"], given["conv1.0.weight"])


def test_a_run_is_the_start_of_another(place: Path, head: tuple[ev.Run, str], tmp_path: Path) -> None:
    again, text = run(place, tmp_path / "again", weights=str(head[0].directory), train="head")
    ours, before = encoder_tensors(again), encoder_tensors(head[0])
    assert torch.equal(ours["conv1.0.weight"], before["conv1.0.weight"])
    assert "mean and deviation of these weights are used" in text
    assert again.config.encoder == "timm:test_resnet"


def test_a_module_is_kept_and_started_from(place: Path, tmp_path: Path) -> None:
    torch.manual_seed(3)
    network = timm.create_model("test_resnet", num_classes=5)
    done, _ = run(place, tmp_path / "run", weights=network, train="head")
    kept = Path(done.config.weights or "")
    assert kept.is_dir()
    assert done.config.encoder == "timm:test_resnet"
    assert torch.equal(encoder_tensors(done)["conv1.0.weight"], network.state_dict()["conv1.0.weight"])
    images = torch.zeros(2, 3, 64, 64, dtype=torch.uint8)
    assert torch.equal(ev.load_encoder(kept).embed(images), ev.load_encoder(network).embed(images))
    again = ev.pretrain(out=done.directory, resume=True, epochs=2, weights=network, console=Console(file=io.StringIO()))
    assert again.config.weights == str(kept)
    with pytest.raises(UserError, match="weights is a int; allowed: a path or name, or a torch module"):
        ev.pretrain(str(place / "x.npy"), out=tmp_path / "other", weights=3)


def test_a_resumed_run_notices_other_weights(place: Path, tmp_path: Path) -> None:
    copy = tmp_path / "w.safetensors"
    copy.write_bytes((place / "test_resnet.safetensors").read_bytes())
    options: dict[str, Any] = {"weights": str(copy), "encoder": "timm:test_resnet", "train": "head"}
    first, _ = run(place, tmp_path / "run", **options)
    copy.write_bytes((place / "test_vit.safetensors").read_bytes())
    with pytest.raises(UserError, match="does not fit the encoder"):
        ev.pretrain(out=first.directory, resume=True, epochs=2)
    tensors = safetensors.torch.load_file(place / "test_resnet.safetensors")
    safetensors.torch.save_file({name: value for name, value in tensors.items() if not name.startswith("fc")}, copy)
    with pytest.raises(UserError, match=r"w\.safetensors: 1 of 1 files of the weights to start from differ"):
        ev.pretrain(out=first.directory, resume=True, epochs=2)
    copy.unlink()
    with pytest.raises(UserError, match=r"w\.safetensors does not exist"):
        ev.pretrain(out=first.directory, resume=True, epochs=2)
    moved = tmp_path / "moved" / "w.safetensors"
    moved.parent.mkdir()
    moved.write_bytes((place / "test_resnet.safetensors").read_bytes())
    text = io.StringIO()
    console = Console(file=text, width=400)
    times = (place / "x.npy").stat()
    os.utime(place / "x.npy", ns=(1, 1))
    with pytest.raises(UserError, match="1 of 1 files of the training data differ"):
        ev.pretrain(out=first.directory, resume=True, epochs=2, weights=str(moved), console=console)
    os.utime(place / "x.npy", ns=(times.st_atime_ns, times.st_mtime_ns))
    ev.pretrain(out=first.directory, resume=True, epochs=2, weights=str(moved), console=console)
    assert "note      the weights to start from lie elsewhere now: names and sizes of the files were" in text.getvalue()
    assert "the data lie elsewhere" not in text.getvalue()
    assert len(runfiles.read_metrics(first.directory)) > 0


def test_the_side_is_that_of_the_weights_where_the_images_are_large_enough(place: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "large.npy", np.zeros((80, 200, 200, 3), np.uint8))
    config: RunConfig[Any] = RunConfig(
        data=str(tmp_path / "large.npy"),
        weights=str(place / "test_resnet.safetensors"),
        encoder="auto",
        batch_size=8,
        labels="none",
    )
    plan = make_plan(config)
    assert plan.size == 160
    assert "the weights were trained at that side" in plan.train.size_reason


def test_without_a_name_the_architecture_is_asked_for(place: Path, tmp_path: Path) -> None:
    torch.save(timm.create_model("test_resnet").state_dict(), tmp_path / "w.pth")
    with pytest.raises(UserError, match="does not say which network it belongs to"):
        run(place, tmp_path / "run", weights=str(tmp_path / "w.pth"))
    assert not (tmp_path / "run").exists()
    vit = str(place / "test_vit.safetensors")
    assert with_architecture(RunConfig(weights=vit), read_weights(vit)).encoder == "timm:test_vit"
    assert with_architecture(RunConfig(data="photos"), None).encoder == "conv-small"
    assert with_architecture(RunConfig(data="digits"), None).encoder == "conv-tiny"
    with pytest.raises(
        UserError,
        match=r"does not fit the encoder.*They say that they belong to timm:test_vit, which --encoder auto takes",
    ):
        run(place, tmp_path / "run", weights=str(place / "test_vit.safetensors"), encoder="timm:test_resnet")
    assert not (tmp_path / "run").exists()


def plan_of(place: Path, **fields: Any) -> Plan:
    config: RunConfig[Any] = RunConfig(data=str(place / "x.npy"), batch_size=32, labels="none", image_size=32)
    return make_plan(with_fields(config, {"weights": str(place / "test_resnet.safetensors"), **fields}))


def test_recipe_config_and_plain_call_leave_the_same_to_the_weights(place: Path, tmp_path: Path) -> None:
    data, weights = str(place / "x.npy"), str(place / "test_resnet.safetensors")
    asked = [parsed([*first, data, "--weights", weights])[0] for first in ([], ["--recipe", "small-vicreg"])]
    asked += [RunConfig(data=data, weights=weights), with_fields(default("vicreg", data), {"weights": weights})]
    for config in asked:
        plan = make_plan(with_fields(config, {"labels": "none", "batch_size": 32}))
        assert (plan.config.encoder, plan.config.optim.encoder_lr_factor) == ("timm:test_resnet", 0.1)
    for words in (["digits"], ["digits", "--weights", "None"]):
        plain = parsed(words)[0].decided()
        assert (plain.weights, plain.encoder, plain.optim.encoder_lr_factor) == (None, "conv-tiny", 1.0)
    given = parsed([data, "--weights", weights, "--encoder", "conv-small", "--optim.encoder-lr-factor", "1"])[0]
    assert (given.encoder, given.encoder_lr_factor) == ("conv-small", 1.0)


def test_a_run_of_a_config_that_leaves_all_to_its_weights_is_continued(place: Path, tmp_path: Path) -> None:
    data, weights = str(place / "x.npy"), str(place / "test_resnet.safetensors")
    config: RunConfig[Any] = RunConfig(data=data, weights=weights)
    stored = with_fields(config.decided(), {"encoder": "timm:test_resnet", "fit": "pad", "network": {"stem": "small"}})
    assert resumed_config(config, stored, tmp_path) == stored
    with pytest.raises(UserError, match="keeps its own configuration"):
        resumed_config(with_fields(config, {"fit": "squash"}), stored, tmp_path)


@pytest.mark.parametrize("channels", [1, 5])
def test_of_other_channels_the_line_says_whose_mean_is_used(place: Path, tmp_path: Path, channels: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 90, (80, 32, 32, channels), dtype=np.uint8)
    np.save(tmp_path / "x.npy", pixels)
    plan = plan_of(place, data=str(tmp_path / "x.npy"), channels=channels)
    assert plan.start is not None
    assert "; mean and deviation of these images are used;" in plan.start.sentence(plan.config.augment)
    measured = plan.train.read(np.arange(len(plan.train))).mean((0, 2, 3)) / 255
    assert plan.specs[0].mean == pytest.approx(measured, abs=1e-4), "rounded to four places"


def a_run(place: Path, **card: Any) -> str:
    """A finished run's encoder."""
    reading = Reading(**card)
    encoder, width = build_encoder("timm:test_resnet", size=32, channels=reading.channels)
    images = {"mean": [0.3] * reading.channels, "std": [0.2] * reading.channels, "pixels": reading.as_json()}
    save_encoder(place, encoder, {"encoder": "timm:test_resnet", "stem": "auto", "size": 32, "width": width, **images})
    return str(place)


def test_pixels_are_made_as_in_the_run_that_the_weights_come_from(place: Path, tmp_path: Path) -> None:
    """A frozen encoder sees what it was trained on; options that are given are heeded."""
    weights = a_run(tmp_path / "run", channels=1, fit="pad", low=(3,), high=(3996,))
    np.save(tmp_path / "x.npy", np.random.default_rng(0).integers(0, 60000, (80, 32, 40), dtype=np.uint16))
    plan = plan_of(place, data=str(tmp_path / "x.npy"), weights=weights)
    assert plan.train.reading == Reading(channels=1, fit="pad", low=(3,), high=(3996,))
    assert (plan.config.channels, plan.config.fit, plan.config.range) == (1, "pad", "auto")
    assert (plan.specs[0].mean, plan.specs[0].std) == ((0.3,), (0.2,))
    assert plan.start is not None
    sentence = plan.start.sentence(plan.config.augment)
    assert "mean and deviation of these weights are used; pixels are made as in that run " in sentence
    assert "(range 3 to 3,996, channels 1, fit pad)" in sentence
    given = plan_of(place, data=str(tmp_path / "x.npy"), weights=weights, fit="squash", range="0,60000")
    assert given.train.reading == Reading(channels=1, fit="squash", range="0,60000")
    assert given.start is not None
    assert "as in that run (channels 1)" in given.start.sentence(given.config.augment)


def test_weights_without_averages_need_those_of_the_images(place: Path, tmp_path: Path) -> None:
    given = safetensors.torch.load_file(place / "test_resnet.safetensors")
    path = tmp_path / "test_resnet.safetensors"
    safetensors.torch.save_file({name: value for name, value in given.items() if "running" not in name}, path)
    with pytest.raises(UserError, match=r"lacks averages of batch norm: .* train with --batch-norm follow"):
        plan_of(place, weights=str(path))
    plan = plan_of(place, weights=str(path), batch_norm="follow")
    assert plan.start is not None
    assert "; missing: conv1.1.running_mean" in plan.start.sentence(plan.config.augment)
    rows = start_encoders(plan.config, plan.parts, plan.train, lambda pixels: pixels / 255)
    assert set(rows) == {RECALIBRATED}, "by mean 0 and variance 1 the backbone would be a baseline too weak"


def test_weights_of_a_small_stem_keep_it_at_a_larger_side(place: Path, tmp_path: Path) -> None:
    network, _ = build_encoder("torchvision:resnet18", size=32)
    torch.save(network.state_dict(), tmp_path / "resnet18.pth")
    asked: dict[str, Any] = {"weights": str(tmp_path / "resnet18.pth"), "image_size": 72}
    plan = plan_of(place, **asked)
    assert plan.config.network.stem == "small"
    assert plan.start is not None
    assert plan.start.match.adapted == ()
    with pytest.raises(UserError, match=r"A kernel is never made larger\. --network.stem auto takes the stem of the w"):
        plan_of(place, **asked, network={"stem": "standard"})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"train": "head", "network": {"projector_layers": 0}},
            r"nothing would be trained: --train head and --freeze-epochs 0 of 1 .*--network.projector-layers 0 leaves",
        ),
        ({"freeze_epochs": 1.0, "network": {"projector_layers": 0}}, "nothing would be trained: --train all and"),
        ({"train": "last"}, "--train is 'last'; allowed: all, norms, last:N, lora:R, head"),
        ({"train": "last:99"}, "--train is 'last:99'; allowed: last:1 to last:"),
        ({"freeze_epochs": -1.0}, "--freeze-epochs is -1.0"),
        ({"batch_norm": "keep", "weights": None}, "--batch-norm is 'keep'; allowed: auto or follow without --weights"),
        ({"second_encoder": "conv-tiny"}, "left out with --second-encoder"),
        ({"optim": {"layer_decay": 1.5}}, "optim.layer_decay is 1.5"),
    ],
)
def test_what_cannot_be_is_one_line(place: Path, tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        run(place, tmp_path / "run", **options)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "run").exists()
