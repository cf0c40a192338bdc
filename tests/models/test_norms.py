"""Encoders whose norms look at one image alone: no image's features depend on the batch, saved and loaded too."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from eigenview.engine.sync_batch_norm import synchronised
from eigenview.errors import UserError
from eigenview.models.encoders import build_encoder
from eigenview.models.export import export
from eigenview.models.norms import couples_images, keep_statistics, row_norm
from eigenview.models.saved import load_encoder, save_encoder

NAMES = ["conv-tiny", "conv-small", "conv-medium", "timm:resnet18", "torchvision:resnet18"]


@pytest.mark.parametrize("norm", ["group", "layer"])
@pytest.mark.parametrize("name", NAMES)
def test_an_image_alone_has_the_features_it_has_in_a_batch(name: str, norm: str) -> None:
    torch.manual_seed(0)
    images = torch.randn(4, 3, 24, 24)
    encoder, width = build_encoder(name, size=24, norm=norm)
    assert encoder.training
    features = encoder(images)
    assert features.shape == (4, width)
    torch.testing.assert_close(encoder(images[:1]), features[:1], rtol=1e-4, atol=1e-5)
    coupled, _ = build_encoder(name, size=24)
    assert (coupled(images[:2])[:1] - coupled(images)[:1]).abs().max() > 1e-2


@pytest.mark.parametrize(("norm", "channels", "groups"), [("group", 48, 3), ("group", 24, 3), ("layer", 48, 1)])
def test_groups_are_of_sixteen_channels_where_that_divides(norm: str, channels: int, groups: int) -> None:
    batch_norm = nn.BatchNorm2d(channels, eps=1e-3)
    batch_norm.weight.data.uniform_()
    new = row_norm(batch_norm, norm)
    assert (new.num_groups, new.eps) == (groups, 1e-3)
    assert torch.equal(new.weight, batch_norm.weight)


def test_the_norm_of_a_saved_encoder_comes_back_and_goes_to_timm(tmp_path) -> None:
    torch.manual_seed(0)
    encoder, width = build_encoder("timm:resnet10t", size=32, stem="standard", norm="group")
    card = {"encoder": "timm:resnet10t", "stem": "standard", "norm": "group", "size": 32, "width": width}
    save_encoder(tmp_path / "run", encoder, {**card, "mean": [0.5] * 3, "std": [0.2] * 3})
    images = torch.randn(2, 3, 32, 32)
    expected = encoder(images)
    torch.testing.assert_close(load_encoder(tmp_path / "run")(images), expected)
    with pytest.raises(UserError, match=r"--format hf.*group norms.*--format timm"):
        export(tmp_path / "run", "hf", tmp_path / "hub")
    folder = export(tmp_path / "run", "timm", tmp_path / "plain")
    code = (folder / "README.md").read_text().split("```python\n")[1].split("```")[0]
    scope: dict = {}
    exec(code.replace('"model.safetensors"', repr(str(folder / "model.safetensors"))), scope)
    torch.testing.assert_close(scope["model"](images), expected)
    with pytest.raises(UserError, match=r"norm.*other.*batch, group, layer"):
        save_encoder(tmp_path / "other", encoder, {**card, "norm": "other", "mean": [0.5] * 3, "std": [0.2] * 3})


@pytest.mark.parametrize(
    ("name", "reason"),
    [("timm:test_vit", "which has no batch norm"), ("timm:efficientnet_b0", "an activation inside")],
)
def test_norms_that_cannot_be_replaced_are_refused(name: str, reason: str) -> None:
    with pytest.raises(UserError, match=rf"encoder_norm.*group.*batch.*{name}.*{reason}"):
        build_encoder(name, size=32, norm="group")
    with pytest.raises(UserError, match=r"^network\.encoder_norm is"):
        build_encoder(name, size=32, norm="group")


def test_kept_averages_stay_and_gradients_flow() -> None:
    """In training the output is that of evaluation mode, copies included; scale and offset are still trained."""
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    network[1].running_mean.fill_(0.3)
    expected = network.eval()(x := torch.randn(8, 3, 5, 5))
    before = copy.deepcopy(network.state_dict())
    assert couples_images(network)
    keep_statistics(network)
    assert not couples_images(network)
    for each in (network, copy.deepcopy(network)):
        result = each.train()(x)
        torch.testing.assert_close(result, expected)
        result.square().sum().backward()
        assert all(p.grad is not None and p.grad.any() for p in each.parameters())
        assert all(torch.equal(value, before[name]) for name, value in each.state_dict().items())
    assert type(network[1]).__name__ == "BatchNorm2d"


def test_kept_averages_are_not_those_of_several_processes() -> None:
    network = nn.Sequential(nn.BatchNorm2d(4), nn.Sequential(nn.BatchNorm2d(4)))
    keep_statistics(network[1])
    kept = network[1][0]
    with synchronised(network, is_on=True):
        assert isinstance(network[0], nn.SyncBatchNorm)
        assert network[1][0] is kept
    assert not isinstance(network[0], nn.SyncBatchNorm)
    assert not network.train()[1][0].training
