"""Encoders that cut images into patches see every pixel, and a size that they would not cover is refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from eigenview.config import NetworkConfig, with_fields
from eigenview.data.pixels.image_size import SIDES, choose_sizes
from eigenview.engine.plan import make_plan
from eigenview.engine.train import build_module
from eigenview.errors import UserError
from eigenview.models.encoders import build_encoder, check_patches, patches_of
from eigenview.models.network import build_network
from eigenview.recipes import default
from eigenview.records import Needs

PATCHES = {
    "conv-tiny": 1,
    "conv-small": 1,
    "torchvision:resnet18": 1,
    "timm:test_vit": 16,
    "timm:vit_tiny_patch16_224": 16,
    "timm:convnext_atto": 4,
    "timm:swin_tiny_patch4_window7_224": 4,
    "timm:deit_tiny_distilled_patch16_224": 16,
    "torchvision:convnext_tiny": 4,
    "torchvision:swin_t": 4,
}
OTHERS = {"timm:vit_small_patch14_dinov2": 14, "torchvision:vit_b_32": 32, "timm:cait_xxs24_224": 16}
"""Larger networks, whose patches alone are read."""
LARGE = {*OTHERS, "timm:swin_tiny_patch4_window7_224", "torchvision:swin_t", "torchvision:convnext_tiny"}
"""Seconds each: slow tests, since smaller networks of each kind are in the others."""


def each(name: str, *values: object) -> Any:
    """A case, marked slow if its network is large."""
    return pytest.param(name, *values, marks=pytest.mark.slow if name in LARGE else ())


def share_seen(encoder: nn.Module, size: int) -> float:
    """Share of the pixels whose value moves the features, by the gradient."""
    encoder.eval()
    for module in encoder.modules():
        if isinstance(module, nn.BatchNorm2d) and not module.weight.any():
            nn.init.ones_(module.weight)  # at 0 a residual block is closed before training
    x = torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(0)).requires_grad_()
    h = encoder(x)
    (h * torch.linspace(1, 2, h.shape[1])).sum().backward()
    assert x.grad is not None
    return (x.grad.abs().sum(dim=(0, 1)) > 0).float().mean().item()


@pytest.mark.parametrize(("name", "patch"), [each(*case) for case in (PATCHES | OTHERS).items()])
def test_the_patch_is_read_from_the_network(name: str, patch: int) -> None:
    assert patches_of(name) == patch


@pytest.mark.parametrize(
    ("name", "median"),
    [each(name, 50) for name in PATCHES] + [each(name, 24) for name, patch in PATCHES.items() if patch == 16],
)
def test_every_pixel_is_seen_at_the_side_that_is_chosen(name: str, median: int) -> None:
    size = choose_sizes(median, multiple=patches_of(name)).size
    check_patches(name, "--image-size", size)
    assert share_seen(build_encoder(name, size=size)[0], size) == 1


def test_a_side_that_is_not_covered_would_lose_pixels() -> None:
    """What the refusal prevents."""
    assert share_seen(build_encoder("timm:vit_tiny_patch16_224", size=24)[0], 24) < 0.5
    assert share_seen(build_encoder("timm:convnext_atto", size=50)[0], 50) < 0.95


@pytest.mark.parametrize("patch", [1, 4, 14, 16, 32])
def test_chosen_sides_are_multiples(patch: int) -> None:
    for median in (*SIDES, 5, 40, 500):
        chosen = choose_sizes(median, multiple=patch)
        assert chosen.size % patch == 0
        assert abs(chosen.size - choose_sizes(median).size) <= max(patch - 16, patch // 2)
    assert choose_sizes(50, 30, multiple=16).size == 30  # asked for: refused later, with the sides that fit


@pytest.mark.parametrize(
    ("name", "size", "message"),
    [
        ("timm:vit_tiny_patch16_224", 40, r"--image-size is 40; allowed: 32 or 48 with .*patches of 16 px"),
        ("timm:vit_tiny_patch16_224", 8, r"--image-size is 8; allowed: 16 with"),
        ("torchvision:convnext_tiny", 50, r"--image-size is 50; allowed: 48 or 52 with"),
    ],
)
def test_other_sides_are_refused_with_the_nearest(name: str, size: int, message: str) -> None:
    with pytest.raises(UserError, match=message):
        build_network(name, size, NetworkConfig(), Needs())


def config(**fields: Any) -> Any:
    given = {"encoder": "timm:test_vit", "views": 2, "monitor": {"images": 16}, "batch_size": 16, **fields}
    return with_fields(default("vicreg", "digits"), given)


def test_local_crops_pass_a_vision_transformer() -> None:
    """timm interpolates the position embeddings; whole views and weights are those of the network without crops."""
    local = {"image_size": 64, "local_views": 1, "local_size": 32}
    module = build_module(make_plan(config(**local)))
    (encoder,) = module.method.encoders().values()
    x = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    torch.manual_seed(0)
    plain = build_encoder("timm:test_vit", size=64)[0].eval()
    plain.load_state_dict(encoder.state_dict())
    with torch.no_grad():
        torch.testing.assert_close(encoder.eval()(x), plain(x), rtol=0, atol=1e-5)
    assert share_seen(encoder, 32) == 1
    with pytest.raises(UserError, match=r"--local-size is 24; allowed: 16 or 32 with timm:test_vit"):
        build_module(make_plan(config(**local | {"local_size": 24})))
