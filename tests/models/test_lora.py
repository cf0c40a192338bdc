"""Adapters of low rank: the network begins as it was, they alone move, and what is saved has the library's names."""

from __future__ import annotations

import copy
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from eigenview.config import RunConfig
from eigenview.engine.progress import trained_part
from eigenview.errors import UserError
from eigenview.models.encoders import build_encoder
from eigenview.models.layers import blocks, set_trainable
from eigenview.models.lora import SCALE, is_adapted, unadapted, without_adapters


def test_adapters_are_merged_under_the_librarys_names() -> None:
    pytest.importorskip("peft")
    encoder, _ = build_encoder("timm:test_vit", size=64)
    before = copy.deepcopy(encoder).eval()
    set_trainable(encoder, "lora:2", 64)
    images = torch.randn(2, 3, 64, 64)
    torch.testing.assert_close(encoder.eval()(images), before(images), rtol=0, atol=0)
    moving = [name for name, p in encoder.named_parameters() if p.requires_grad]
    assert moving
    assert all("lora_" in name for name in moving)
    with torch.no_grad():
        for name, parameter in encoder.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.1)
    plain = without_adapters(encoder)
    assert list(plain.state_dict()) == list(before.state_dict())
    torch.testing.assert_close(plain(images), encoder(images), rtol=1e-4, atol=1e-5)
    name, layer = next((name, m) for name, m in encoder.named_modules() if is_adapted(m))
    a, b = (getattr(layer, f"lora_{each}")["default"].weight for each in "AB")
    expected = before.get_parameter(f"{name}.weight") + SCALE * b @ a
    torch.testing.assert_close(plain.get_parameter(f"{name}.weight"), expected)
    assert any(is_adapted(module) for module in encoder.modules()), "the network that is trained keeps them"
    assert {id(p) for block in blocks(encoder) for p in block} == {id(p) for p in encoder.parameters()}


ATTENTION = {
    "timm:test_vit": (32, []),
    "timm:beit_base_patch16_224": (32, ["blocks.*.attn.qkv"]),
    "torchvision:swin_t": (32, ["features.*.*.attn.qkv", "features.*.*.attn.proj"]),
    "torchvision:vit_b_16": (
        32,
        ["encoder.layers.encoder_layer_*.self_attention", "encoder.layers.encoder_layer_*.self_attention.out_proj"],
    ),
}
"""Side, and the layers whose weights are read without calling them."""


@pytest.mark.parametrize(
    "name", [next(iter(ATTENTION)), *(pytest.param(n, marks=pytest.mark.slow) for n in [*ATTENTION][1:])]
)
def test_every_adapter_takes_part(name: str) -> None:
    pytest.importorskip("peft")
    size, left = ATTENTION[name]
    encoder, _ = build_encoder(name, size=size)
    set_trainable(encoder, "lora:2", size)
    assert unadapted(encoder) == left
    assert all(parameter.grad is None for parameter in encoder.parameters())
    assert encoder.training
    encoder(torch.randn(2, 3, size, size)).square().sum().backward()
    moving = {n: p for n, p in encoder.named_parameters() if p.requires_grad}
    assert moving
    assert not [n for n, p in moving.items() if p.grad is None]


class Reading(nn.Module):
    """Reads the weight of one linear layer, and calls another if it has one."""

    def __init__(self, *, calls: bool) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(3)
        self.read = nn.Linear(3, 3)
        self.called = nn.Linear(3, 4) if calls else nn.Identity()

    def forward(self, images: Tensor) -> Tensor:
        return self.called(functional.linear(self.norm(images.mean((2, 3))), self.read.weight))


def test_layers_that_are_not_called_are_named_or_refused() -> None:
    pytest.importorskip("peft")
    encoder = Reading(calls=True)
    before = copy.deepcopy(encoder.state_dict())
    set_trainable(encoder, "lora:2", 8)
    assert unadapted(encoder) == ["read"]
    module: Any = SimpleNamespace(method=SimpleNamespace(encoders=lambda: {"encoder": encoder}))
    line = trained_part(RunConfig(train="lora:2"), module)
    assert line.endswith("and the heads; no adapter on read, which the network reads without calling them")
    assert {name for name, module in encoder.named_modules() if is_adapted(module)} == {"called"}
    assert not encoder.read.weight.requires_grad
    after = without_adapters(encoder).state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    with pytest.raises(UserError, match="--train lora:2: this encoder reads the weights of its linear layers without"):
        set_trainable(Reading(calls=False), "lora:2", 8)


def test_without_linear_layers_or_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = nn.Sequential(nn.Conv2d(3, 4, 3))
    assert without_adapters(plain) is plain
    with pytest.raises(UserError, match="--train lora:4: this encoder has no linear layers"):
        set_trainable(plain, "lora:4", 8)
    monkeypatch.setitem(__import__("sys").modules, "peft", None)
    with pytest.raises(UserError, match="needs the package peft: pip install"):
        set_trainable(nn.Sequential(nn.Linear(3, 4)), "lora:4", 8)
