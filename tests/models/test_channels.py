"""Encoders of any number of channels, of ours and of both libraries; what is exported of them loads there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from eigenview.config.reading import Reading
from eigenview.models.encoders import build_encoder
from eigenview.models.export import export
from eigenview.models.libraries import first_convolution
from eigenview.models.saved import load_encoder, save_encoder

NAMES = [
    ("conv-tiny", 16),
    ("conv-small", 16),
    ("conv-medium", 16),
    ("timm:test_vit", 32),
    ("torchvision:resnet18", 32),
    ("torchvision:mobilenet_v3_small", 32),
    pytest.param("torchvision:resnet18", 65, marks=pytest.mark.slow),
    pytest.param("torchvision:vit_b_16", 32, marks=pytest.mark.slow),
    pytest.param("timm:resnet10t", 32, marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("name", "size"), NAMES)
@pytest.mark.parametrize("channels", [pytest.param(1, marks=pytest.mark.slow), 5])
def test_every_channel_is_seen(name: str, size: int, channels: int) -> None:
    encoder, width = build_encoder(name, size=size, channels=channels)
    images = torch.randn(2, channels, size, size, generator=torch.Generator().manual_seed(0), requires_grad=True)
    features = encoder.eval()(images)
    assert features.shape == (2, width)
    (gradient,) = torch.autograd.grad(features.square().sum(), images)
    assert (gradient.abs().sum((0, 2, 3)) > 0).all()


@pytest.mark.parametrize(("name", "size"), NAMES[:4])
def test_three_channels_are_the_network_as_it_was(name: str, size: int) -> None:
    made = []
    for options in ({}, {"channels": 3}):
        torch.manual_seed(0)
        made.append(build_encoder(name, size=size, **options)[0].state_dict())
    assert all(torch.equal(a, b) for a, b in zip(made[0].values(), made[1].values(), strict=True))


def test_the_first_convolution_is_drawn_on_the_scale_of_the_published_one() -> None:
    torch.manual_seed(0)
    (path, old), (same, new) = (
        first_convolution(build_encoder("torchvision:resnet18", size=65, channels=c)[0]) for c in (3, 12)
    )
    assert path == same == "conv1"
    assert (new.kernel_size, new.stride, new.padding, new.in_channels) == ((7, 7), (2, 2), (3, 3), 12)
    assert float(new.weight.detach().std()) == pytest.approx(
        float(old.weight.detach().std()) / 2, rel=0.05
    )  # sqrt(3 / 12)


def saved(directory: Path, name: str, size: int, channels: int) -> nn.Module:
    """An encoder as a run saves it, with weights drawn from a seed."""
    torch.manual_seed(0)
    encoder, width = build_encoder(name, size=size, channels=channels)
    directory.mkdir()
    card: dict[str, Any] = {"encoder": name, "stem": "auto", "size": size, "width": width, "norm": "batch"}
    card |= {"mean": [0.1] * channels, "std": [0.2] * channels}
    save_encoder(directory, encoder, card | {"pixels": Reading(channels=channels).as_json()})
    return encoder.eval()


@pytest.mark.parametrize(
    ("name", "size", "format"),
    [
        ("timm:test_vit", 32, "hf"),
        ("torchvision:mobilenet_v3_small", 32, "torchvision"),
        pytest.param("timm:resnet10t", 65, "timm", marks=pytest.mark.slow),
        pytest.param("timm:resnet10t", 32, "timm", marks=pytest.mark.slow),
        pytest.param("torchvision:resnet18", 65, "torchvision", marks=pytest.mark.slow),
        pytest.param("torchvision:resnet18", 32, "torchvision", marks=pytest.mark.slow),
    ],
)
def test_round_trip_and_export(tmp_path: Path, name: str, size: int, format: Any) -> None:
    """Features of our own file, and of the library's class made by the README's lines, are those of the network."""
    encoder = saved(tmp_path / "run", name, size, 5)
    images = torch.randn(2, 5, size, size, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = encoder(images)
        torch.testing.assert_close(load_encoder(tmp_path / "run")(images), expected)
        out = export(tmp_path / "run", format, tmp_path / "out")
        code = (out / "README.md").read_text().partition("```python\n")[2].partition("```")[0]
        names: dict[str, Any] = {}
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(out)
            exec(code, names)  # what the README tells a reader to do
        torch.testing.assert_close(names["model"](images), expected)
    assert f"float32 (n, 5, {size}, {size}), 5 channels between 0 and 1" in (out / "README.md").read_text()


@pytest.mark.filterwarnings("default")  # the exporter's own deprecations
def test_a_graph_takes_all_channels(tmp_path: Path) -> None:
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package, reason=f"{package} is an extra")
    import onnxruntime

    encoder = saved(tmp_path / "run", "conv-tiny", 24, 5)
    out = export(tmp_path / "run", "onnx", tmp_path / "out")
    session = onnxruntime.InferenceSession(str(out / "model.onnx"))
    images = torch.randn(3, 5, 24, 24)
    (h,) = session.run(["h"], {"images": images.numpy()})
    with torch.no_grad():
        torch.testing.assert_close(torch.from_numpy(h), encoder.eval()(images), atol=1e-4, rtol=1e-4)
