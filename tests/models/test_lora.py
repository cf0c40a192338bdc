"""Adapters of low rank: the network begins as it was, they alone move, and what is saved has the library's names."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from eigenview.errors import UserError
from eigenview.models.encoders import build_encoder
from eigenview.models.layers import blocks, set_trainable
from eigenview.models.lora import SCALE, is_adapted, without_adapters


def test_adapters_are_merged_under_the_librarys_names() -> None:
    pytest.importorskip("peft")
    encoder, _ = build_encoder("timm:test_vit", size=64)
    before = copy.deepcopy(encoder).eval()
    set_trainable(encoder, "lora:2")
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


def test_without_linear_layers_or_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = nn.Sequential(nn.Conv2d(3, 4, 3))
    assert without_adapters(plain) is plain
    with pytest.raises(UserError, match="--train lora:4: this encoder has no linear layers"):
        set_trainable(plain, "lora:4")
    monkeypatch.setitem(__import__("sys").modules, "peft", None)
    with pytest.raises(UserError, match="needs the package peft: pip install"):
        set_trainable(nn.Sequential(nn.Linear(3, 4)), "lora:4")
