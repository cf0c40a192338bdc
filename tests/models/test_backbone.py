"""An encoder from weights of any origin: its stem is theirs, and what was loaded is said."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import timm
import torch
from torch import nn

import eigenview as ev
from eigenview.commands.embed import embed_images
from eigenview.errors import UserError
from eigenview.models.encoders import build_encoder
from eigenview.models.export import export
from eigenview.models.saved import save_encoder
from eigenview.terminal import Console


def saved(place: Path, name: str, **card: Any) -> Path:
    """A run's encoder of 32 px with random weights and averages."""
    torch.manual_seed(0)
    encoder, width = build_encoder(name, size=32)
    for module in encoder.modules():
        if isinstance(module, nn.BatchNorm2d) and module.running_mean is not None:
            module.running_mean.normal_(std=0.1)
    images = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
    save_encoder(place, encoder, {"encoder": name, "stem": "auto", "size": 32, "width": width, **images, **card})
    return place


@pytest.mark.parametrize("name", ["torchvision:resnet18", "timm:resnet10t"])
def test_an_exported_small_stem_is_read_as_one(name: str, tmp_path: Path) -> None:
    run = saved(tmp_path / "run", name)
    folder = export(run, "torchvision" if name.startswith("torchvision") else "timm", tmp_path / "out")
    images = torch.randint(0, 256, (4, 3, 32, 32), dtype=torch.uint8)
    again = ev.load_encoder(folder / "model.safetensors", encoder=name, image_size=32)
    assert again.stem == "small"
    assert "100 % of the encoder's values loaded" in again.loaded
    assert torch.equal(again.network(images / 255), ev.load_encoder(run).network(images / 255))
    larger = ev.load_encoder(folder / "model.safetensors", encoder=name, image_size=96)
    assert larger.stem == "small", "a small kernel is never made a larger one"


def test_what_was_loaded_is_kept_and_printed(tmp_path: Path) -> None:
    network = timm.create_model("test_resnet", num_classes=3)
    state = {f"module.{name}": value for name, value in network.state_dict().items() if name != "bn1.weight"}
    safetensors.torch.save_file(state, tmp_path / "test_resnet.safetensors")
    np.save(tmp_path / "x.npy", np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), dtype=np.uint8))
    place, text = str(tmp_path / "test_resnet.safetensors"), io.StringIO()
    sentence = ev.load_encoder(place, image_size=32).loaded
    assert sentence.endswith("mean and deviation that timm has for test_resnet are used")
    for part in ("names without 'module.'", "missing: bn1.weight", "not used: fc.bias, fc.weight"):
        assert part in sentence
    out = tmp_path / "e.npy"
    embed_images(place, str(tmp_path / "x.npy"), out, Console(file=text, width=500), image_size=32)
    assert f"weights   {place}: {sentence}\n" in text.getvalue()
    assert ev.load_encoder(saved(tmp_path / "run", "conv-tiny")).loaded == ""


def test_weights_without_averages_are_refused(tmp_path: Path) -> None:
    parameters = dict(timm.create_model("test_resnet").named_parameters())
    torch.save(parameters, tmp_path / "test_resnet.pth")
    message = r"lacks averages of batch norm: conv1.1.running_mean, .* by mean 0 and variance 1.* --batch-norm follow"
    with pytest.raises(UserError, match=message):
        ev.load_encoder(tmp_path / "test_resnet.pth", image_size=64)


def test_a_folder_of_timm_says_how_many_channels_its_images_have(tmp_path: Path) -> None:
    network = timm.create_model("test_resnet", num_classes=3, in_chans=1)
    network.pretrained_cfg |= {"mean": (0.5,), "std": (0.2,), "input_size": (1, 64, 64)}  # type: ignore[operator]
    timm.models._hub.save_for_hf(network, str(tmp_path / "hub"), model_args={"in_chans": 1})
    encoder = ev.load_encoder(tmp_path / "hub")
    assert (encoder.reading.channels, encoder.mean) == (1, (0.5,))
    images = torch.randint(0, 256, (2, 1, 64, 64), dtype=torch.uint8)
    with torch.no_grad():
        expected = network.eval().forward_head(network.forward_features((images / 255 - 0.5) / 0.2), pre_logits=True)  # type: ignore[operator]
    torch.testing.assert_close(encoder.embed(images), expected)
    config = tmp_path / "hub" / "config.json"
    for mean in ("[]", "[\n      0.5,\n      0.5\n    ]"):
        config.write_text(config.read_text().replace('"mean": [\n      0.5\n    ]', f'"mean": {mean}'))
        with pytest.raises(
            UserError,
            match=r"config.json: mean is \[.*\]; allowed: a number from 0 to 1 for each of its channels, 1 in all",
        ):
            ev.load_encoder(tmp_path / "hub")


@pytest.mark.parametrize("size", [0, -1, 4097])
def test_a_side_that_cannot_be_is_refused(size: int) -> None:
    network = timm.create_model("test_resnet")
    with pytest.raises(UserError, match=f"--image-size is {size}; allowed: 1 to 4096"):
        ev.load_encoder(network, image_size=size)
