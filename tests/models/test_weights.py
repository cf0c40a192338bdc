"""Weights of other programs: features equal to the source library's, wrappers peeled off, damage refused in a line."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import timm
import torch
import torchvision
from torch import Tensor, nn

from eigenview.errors import UserError
from eigenview.models.encoders import build_encoder
from eigenview.models.matching import match, tables_of
from eigenview.models.saved import save_encoder
from eigenview.models.weights import keep, read_weights
from eigenview.models.weights_files import named_by

RESNET, VIT = "timm:test_resnet", "timm:test_vit"


def source(name: str, **options: Any) -> nn.Module:
    """A network of timm with random weights, and running statistics that are not the initial ones."""
    torch.manual_seed(1)
    network = timm.create_model(name.removeprefix("timm:"), num_classes=7, **options)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                assert module.running_mean is not None
                module.running_mean.normal_(std=0.1)
    return network.eval()


def features(network: nn.Module, size: int) -> Tensor:
    """Of the library's own network, before its classifier."""
    images = torch.randn(3, 3, size, size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        return network.forward_head(network.forward_features(images), pre_logits=True)  # type: ignore[operator]


def ours(name: str, content: Any, size: int, **options: Any) -> Tensor:
    """Of our encoder of this name with what fits of `content`."""
    encoder, _ = build_encoder(name, size=size, stem="standard", **options)
    encoder.load_state_dict(match(tables_of(content), encoder, where="w.pth").tensors, strict=False)
    images = torch.randn(3, 3, size, size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        return encoder.eval()(images)


def renamed(network: nn.Module, prefix: str) -> dict[str, Tensor]:
    return {prefix + name: value for name, value in network.state_dict().items()}


WRAPPED: dict[str, Callable[[nn.Module], Any]] = {
    "a plain state dict": lambda n: n.state_dict(),
    "DataParallel": lambda n: {"epoch": 3, "state_dict": renamed(n, "module.")},
    "Lightning": lambda n: {"state_dict": renamed(n, "model.backbone.") | {"loss.weight": torch.ones(3)}},
    "nested": lambda n: {"model": {"encoder": n.state_dict(), "head": {"weight": torch.ones(2, 2)}}},
}


@pytest.mark.parametrize("name", [RESNET, VIT])
@pytest.mark.parametrize("wrapper", WRAPPED)
def test_features_are_the_librarys(name: str, wrapper: str) -> None:
    network = source(name)
    size = 160
    assert torch.allclose(ours(name, WRAPPED[wrapper](network), size), features(network, size), atol=1e-5)


@pytest.mark.parametrize(
    ("first", "other", "taken"),
    [
        ("module.encoder_q", "module.encoder_k", 0),
        ("module.student", "module.teacher", 1),
        ("module.base_encoder", "module.momentum_encoder", 0),
        ("online_encoder.net", "target_encoder.net", 0),
        ("encoder", "target_encoder", 1),
        ("backbone", "momentum_backbone", 0),
    ],
)
def test_of_two_networks_the_one_its_authors_evaluate_is_taken(first: str, other: str, taken: int) -> None:
    networks = [source(RESNET), source(RESNET)]
    with torch.no_grad():
        for parameter in networks[1].parameters():
            parameter.mul_(1.1)
    content = {"state_dict": renamed(networks[0], f"{first}.") | renamed(networks[1], f"{other}.")}
    assert torch.allclose(ours(RESNET, content, 64), features(networks[taken], 64), atol=1e-5)
    found = match(tables_of(content), build_encoder(RESNET, size=64, stem="standard")[0], where="w.pth")
    names = [f"state_dict.{name}." for name in (first, other)]
    assert (found.prefix, found.passed_over) == (names[taken], (names[1 - taken],))
    assert f"another network that fits was passed over: {names[1 - taken]!r}" in found.sentence()


@pytest.mark.parametrize("plain", ["state_dict", "model"])
def test_of_a_network_and_its_moving_average_the_average_is_taken_as_timm_does(plain: str, tmp_path: Path) -> None:
    network, average = source(RESNET), source(RESNET)
    with torch.no_grad():
        average.get_parameter("conv1.0.weight").mul_(1.1)
    torch.save({plain: network.state_dict(), f"{plain}_ema": average.state_dict()}, tmp_path / "w.pth")
    theirs = timm.models.load_state_dict(str(tmp_path / "w.pth"))
    found = read_weights(str(tmp_path / "w.pth")).fit(build_encoder(RESNET, size=64, stem="standard")[0])
    assert all(torch.equal(value, theirs[name]) for name, value in found.tensors.items())
    assert found.passed_over == (f"{plain}.",)


def test_the_same_network_twice_is_not_passed_over() -> None:
    state = source(RESNET).state_dict()
    found = match([state, {f"ema.{n}": v for n, v in state.items()}], build_encoder(RESNET, size=96)[0], where="w")
    assert (found.prefix, found.passed_over) == ("ema.", ())


def test_a_network_cut_into_its_children_is_matched_in_order() -> None:
    network = source("timm:resnet18")
    cut = nn.Sequential(*list(network.children())[:-1])
    content = {"state_dict": renamed(cut, "backbone.") | {"head.weight": torch.ones(3)}}
    assert torch.allclose(ours("timm:resnet18", content, 64), features(network, 64), atol=1e-5)
    found = match(tables_of(content), build_encoder("timm:resnet18", size=96)[0], where="w.pth")
    assert "by their order and shapes" in found.sentence()


def test_a_torchvision_network_and_its_small_stem() -> None:
    torch.manual_seed(0)
    network = torchvision.models.resnet18().eval()
    images = torch.randn(2, 3, 96, 96)
    encoder, _ = build_encoder("torchvision:resnet18", size=96)
    found = match([network.state_dict()], encoder, where="w.pth")
    encoder.load_state_dict(found.tensors, strict=False)
    network.set_submodule("fc", nn.Identity())
    with torch.no_grad():
        assert torch.allclose(encoder.eval()(images), network(images), atol=1e-5)
    assert (found.share, found.missing, found.adapted) == (1.0, (), ())
    assert set(found.left_over) == {"fc.weight", "fc.bias"}
    small, _ = build_encoder("torchvision:resnet18", size=32)
    found = match([network.state_dict()], small, where="w.pth")
    assert found.adapted == ("first layer's kernel from 7 to 3 px",)
    # a constant image gives what it gave: the kernel's sum is kept
    before, after = network.state_dict()["conv1.weight"].sum((2, 3)), found.tensors["conv1.weight"].sum((2, 3))
    assert torch.allclose(before, after, atol=1e-5)


def test_a_vision_transformer_at_another_size_is_timms() -> None:
    network = source(VIT)
    resized: Any = timm.create_model("test_vit", num_classes=0, img_size=96)
    resized.load_state_dict(
        timm.models.vision_transformer.checkpoint_filter_fn(network.state_dict(), resized), strict=False
    )
    assert torch.allclose(ours(VIT, network.state_dict(), 96), features(resized.eval(), 96), atol=1e-5)
    found = match([network.state_dict()], build_encoder(VIT, size=96)[0], where="w.pth")
    assert found.adapted == ("position embeddings from 101 to 37 tokens",)


def test_one_channel_becomes_three_that_sum_to_it() -> None:
    """A grey image in three equal channels gives what it gave in one."""
    network = source(RESNET, in_chans=1)
    images = torch.randn(3, 1, 64, 64)
    encoder, _ = build_encoder(RESNET, size=64, stem="standard")
    found = match([network.state_dict()], encoder, where="w.pth")
    encoder.load_state_dict(found.tensors, strict=False)
    with torch.no_grad():
        expected = network.forward_head(network.forward_features(images), pre_logits=True)  # type: ignore[operator]
        torch.testing.assert_close(encoder.eval()(images.expand(-1, 3, -1, -1)), expected, rtol=1e-4, atol=1e-5)
    assert found.adapted == ("first layer from 1 to 3 channels",)


def test_a_first_layer_that_does_not_fit_is_described() -> None:
    five = source(RESNET, in_chans=5).state_dict()
    encoder, _ = build_encoder(RESNET, size=64, stem="standard")
    message = (
        r"another first layer, conv1.0.weight: (\d+) kernels of 3 x 3 px for 5 channels; the encoder's: \1 kernels of "
        r"3 x 3 px for 3 channels. Only weights for 1 or 3 .* Use --channels 5."
    )
    with pytest.raises(UserError, match=message):
        match([five], encoder, where="w.pth")
    small, _ = build_encoder("torchvision:resnet18", size=32)
    large, _ = build_encoder("torchvision:resnet18", size=96)
    with pytest.raises(UserError, match=r"64 kernels of 3 x 3 px .* of 7 x 7 px .* A kernel is never made larger\."):
        match([small.state_dict()], large, where="w.pth")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda value: value.to("meta"), r"conv1.0.weight without values \(on the device meta\)"),
        (lambda value: value.to_sparse(), r"conv1.0.weight as a sparse tensor \(torch.sparse_coo\)"),
        (lambda value: value.to(torch.complex64), "conv1.0.weight as torch.complex64"),
        (lambda value: (50 * value).to(torch.int8), "conv1.0.weight as torch.int8"),
        (lambda value: torch.quantize_per_tensor(value, 0.01, 0, torch.qint8), "conv1.0.weight as torch.qint8"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*uantize", "ignore:TypedStorage", "ignore:Validating sparse")
def test_values_that_are_no_floating_numbers_are_refused(
    change: Callable[[Tensor], Tensor], message: str, tmp_path: Path
) -> None:
    state = source(RESNET).state_dict()
    encoder, _ = build_encoder(RESNET, size=64, stem="standard")
    torch.save({"model": state | {"conv1.0.weight": change(state["conv1.0.weight"])}}, tmp_path / "w.pth")
    with pytest.raises(UserError, match=rf"w.pth has {message}; allowed: dense tensors of floating-point"):
        read_weights(str(tmp_path / "w.pth")).fit(encoder)
    torch.save(
        {"small": {n: change(v) if v.ndim == 4 else v for n, v in state.items()}, "model": state}, tmp_path / "w"
    )
    both = torch.load(tmp_path / "w", weights_only=True)
    assert match(tables_of(both), encoder, where="w").prefix == "model."


@pytest.mark.parametrize("channels", [1, 5])
def test_other_channels_follow_timms_rule(channels: int) -> None:
    network = source(RESNET)
    theirs = timm.create_model("test_resnet", num_classes=0, in_chans=channels)
    found = match([network.state_dict()], theirs, where="w.pth")
    name = next(name for name, value in theirs.state_dict().items() if value.ndim == 4)
    expected = timm.models.adapt_input_conv(channels, network.state_dict()[name])
    assert torch.equal(found.tensors[name], expected)
    assert found.adapted == (f"first layer from 3 to {channels} channels",)


def test_another_architecture_shows_names_of_both_sides() -> None:
    encoder, _ = build_encoder(RESNET, size=64)
    with pytest.raises(UserError, match=r"w\.pth does not fit the encoder: 0 %.* has conv1.*; the file has cls_token"):
        match([source(VIT).state_dict()], encoder, where="w.pth")


def test_values_that_are_not_finite_are_refused() -> None:
    state = source(RESNET).state_dict()
    state["layer1.0.conv1.weight"] = torch.full_like(state["layer1.0.conv1.weight"], torch.nan)
    encoder, _ = build_encoder(RESNET, size=64, stem="standard")
    with pytest.raises(UserError, match=r"x has values that are not finite \(nan or inf\) in layer1.0.conv1.weight\."):
        match([state], encoder, where="x")


def test_files_and_timms_folder(tmp_path: Path) -> None:
    network = source(RESNET)
    safetensors.torch.save_file(network.state_dict(), tmp_path / "test_resnet.safetensors")
    torch.save({"model": network.state_dict()}, tmp_path / "checkpoint.pth")
    timm.models._hub.save_for_hf(network, str(tmp_path / "hub"), safe_serialization=True)
    encoder, _ = build_encoder(RESNET, size=64, stem="standard")
    for name, architecture in (("test_resnet.safetensors", RESNET), ("checkpoint.pth", None), ("hub", RESNET)):
        weights = read_weights(str(tmp_path / name))
        assert weights.encoder == architecture
        found = weights.fit(encoder)
        assert found.share == 1.0
        encoder.load_state_dict(found.tensors, strict=False)
        assert all(torch.equal(v, network.state_dict()[n]) for n, v in encoder.state_dict().items())
    assert weights.preprocessing is not None
    assert weights.preprocessing.size == network.pretrained_cfg["input_size"][-1]  # type: ignore[index]


class Harmful:
    def __init__(self, place: Path) -> None:
        self.place = place

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.place),)


def test_what_is_no_weights_file_is_one_line(tmp_path: Path) -> None:
    torch.save({"state_dict": source(RESNET).state_dict(), "x": Harmful(tmp_path / "ran")}, tmp_path / "code.pth")
    torch.save({"x": 3}, tmp_path / "empty.pth")
    whole = safetensors.torch.save(source(RESNET).state_dict())
    (tmp_path / "cut.safetensors").write_bytes(whole[:1000])
    (tmp_path / "cut.pth").write_bytes((tmp_path / "code.pth").read_bytes()[:5000])
    (tmp_path / "text.pth").write_text("no weights")
    (tmp_path / "zeros.pth").write_bytes(bytes(4096))  # to torch, a tar archive of before 2018
    (tmp_path / "timm").mkdir()
    (tmp_path / "timm" / "config.json").write_text(json.dumps({"architecture": "test_resnet"}))
    os.mkfifo(tmp_path / "timm" / "model.safetensors")
    encoder, _ = build_encoder(RESNET, size=64)
    cases = {"code.pth": "nothing of it was executed", "empty.pth": "holds no tensors", "cut.safetensors": "is damaged"}
    cases |= {
        "cut.pth": "is damaged",
        "timm": "model.safetensors is damaged: a pipe, a socket or a device, not a file",
        "text.pth": r"text.pth is damaged: it is no file of torch.save. Save its state dict alone",
        "zeros.pth": "is damaged: it is no file of torch.save, or one of before 2018. Save",
        "absent.pth": "does not exist",
        ".": "holds no weights",
    }
    for name, message in cases.items():
        with pytest.raises(UserError, match=message) as error:
            read_weights(str(tmp_path / name)).fit(encoder)
        assert "\n" not in str(error.value)
        assert "weights_only" not in str(error.value)
    assert not (tmp_path / "ran").exists()


IMAGES: dict[str, Any] = {"mean": [0.5] * 3, "std": [0.2] * 3, "input_size": [3, 64, 64]}


@pytest.mark.parametrize(
    ("images", "message"),
    [
        ({"std": []}, "std is []; allowed: a number above 0, up to 1 for each of its channels, 3 in all"),
        ({"mean": [0.5], "std": [0.2]}, "mean is [0.5]; allowed: a number from 0 to 1"),
        ({"mean": [255, 0, 1e30]}, "mean is [255, 0, 1e+30]; allowed: a number from 0 to 1"),
        ({"std": [0, 1, 1]}, "std is [0, 1, 1]; allowed: a number above 0"),
        ({"input_size": [64]}, "input_size is a list of 1 values; expected a list of 3 values"),
    ],
)
def test_a_preprocessing_that_cannot_be_is_one_line(tmp_path: Path, images: dict[str, Any], message: str) -> None:
    network = source(RESNET)
    safetensors.torch.save_file(network.state_dict(), tmp_path / "model.safetensors")
    described = {"architecture": "test_resnet", "pretrained_cfg": IMAGES | images}
    (tmp_path / "config.json").write_text(json.dumps(described))
    network.pretrained_cfg = IMAGES | {"architecture": "test_resnet"} | images  # type: ignore[assignment]
    for given in (str(tmp_path), network):
        with pytest.raises(UserError) as error:
            read_weights(given)
        assert message in str(error.value)
        assert "\n" not in str(error.value)


def test_modules_without_values_or_without_a_whole_description(tmp_path: Path) -> None:
    with torch.device("meta"):
        unallocated = timm.create_model("test_resnet")
    for network, name in ((nn.LazyLinear(3), "a LazyLinear"), (unallocated, "a ResNet")):
        with pytest.raises(UserError, match=f"{name} has no values yet"):
            keep(network, tmp_path)
    assert not list(tmp_path.iterdir())
    network = source(RESNET)
    network.pretrained_cfg = {**network.pretrained_cfg, "std": None}  # type: ignore[dict-item]
    for weights in (read_weights(network), read_weights(keep(network, tmp_path))):
        assert (weights.encoder, weights.preprocessing) == (RESNET, None)
    network.pretrained_cfg = {"architecture": "my_network"}  # type: ignore[assignment]
    kept = keep(network, tmp_path)
    assert kept.is_file()
    assert read_weights(kept).encoder is None


def test_a_module_is_written_once_for_each_content(tmp_path: Path) -> None:
    network = source(RESNET)
    first = keep(network, tmp_path)
    before = {path: path.stat().st_mtime_ns for path in first.iterdir()}
    assert set(before) == {first / "config.json", first / "model.safetensors"}
    assert keep(network, tmp_path) == first
    assert {path: path.stat().st_mtime_ns for path in first.iterdir()} == before
    network.pretrained_cfg = {**network.pretrained_cfg, "mean": (0.1, 0.1, 0.1)}  # type: ignore[dict-item]
    other = keep(network, tmp_path)
    assert other != first
    means = [read_weights(each).preparation(RESNET).mean for each in (first, other)]
    assert means == [timm.get_pretrained_cfg("test_resnet").mean, (0.1, 0.1, 0.1)]  # type: ignore[union-attr]
    (other / "model.safetensors").write_bytes(b"cut")
    assert keep(network, tmp_path) == other
    assert (other / "model.safetensors").read_bytes() == (first / "model.safetensors").read_bytes()


def test_the_file_of_a_run_is_its_encoder_whatever_the_folder_is_called(tmp_path: Path) -> None:
    encoder, width = build_encoder("conv-tiny", size=16)
    card: dict[str, Any] = {
        "encoder": "conv-tiny",
        "stem": "auto",
        "size": 16,
        "width": width,
        "method": None,
        "run": {},
    }
    card |= {"mean": [0.5] * 3, "std": [0.2] * 3}
    for name in ("run", "v1.0"):
        (tmp_path / name).mkdir()
        save_encoder(tmp_path / name, encoder, card)
        file = tmp_path / name / "encoder.safetensors"
        for given in (tmp_path / name, file):
            (found,) = read_weights(given).files
            assert (found.name, found.bytes) == ("encoder.safetensors", file.stat().st_size)


def test_both_files_of_the_hub_are_of_one_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network = source(RESNET)
    timm.models._hub.save_for_hf(network, str(tmp_path / "0123"), safe_serialization=True)
    (tmp_path / "4567").mkdir()
    (tmp_path / "4567" / "model.safetensors").touch()  # what the hub has a moment later

    def download(repository: str, file: str, revision: str | None = None) -> str:
        asked.append(repository)
        return str(tmp_path / (revision or ("0123" if file == "config.json" else "4567")) / file)

    asked: list[str] = []
    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    weights = read_weights("hf:owner/name")
    assert asked == ["owner/name"] * 2
    assert torch.equal(weights.tables[0]["conv1.0.weight"], network.state_dict()["conv1.0.weight"])


def test_a_file_can_be_named_after_its_network() -> None:
    assert named_by(Path("resnet18-f37072fd.pth")) == "torchvision:resnet18"
    assert named_by(Path("tf_efficientnet_lite0.safetensors")) == "timm:tf_efficientnet_lite0"
    assert named_by(Path("resnet18.a1_in1k.safetensors")) == "timm:resnet18.a1_in1k"
    assert named_by(Path("resnet18.old.pth")) == "torchvision:resnet18"
    assert named_by(Path("conv-small.pt")) == "conv-small"
    assert named_by(Path("checkpoint.pth")) is None
