"""Depthwise convolutions: float32 where they are trained on a CPU, and otherwise what they were."""

from __future__ import annotations

import copy

import torch
from torch import nn

from eigenview.models.depthwise import train_depthwise_in_float32
from eigenview.models.encoders import build_encoder


def convolutions() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3, groups=8), nn.Conv2d(8, 8, 3, groups=4))


def test_depthwise_ones_alone_give_float32() -> None:
    network = convolutions()
    train_depthwise_in_float32(network)
    seen: list[torch.dtype] = []
    for module in (*network, *(copied := copy.deepcopy(network))):
        module.register_forward_hook(lambda module, inputs, output: seen.append(output.dtype))
    images = torch.randn(2, 3, 16, 16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        for each in (network, copied):
            each(images)
        with torch.no_grad():
            network(images)
    half, full = torch.bfloat16, torch.float32
    assert seen == 2 * [half, full, half] + 3 * [half]


def test_values_and_gradients_are_those_of_float32_without_autocast() -> None:
    plain = convolutions()
    changed = copy.deepcopy(plain)
    train_depthwise_in_float32(changed)
    assert list(changed.state_dict()) == list(plain.state_dict())
    images = torch.randn(2, 3, 16, 16)
    outputs = [network(images) for network in (plain, changed)]
    assert torch.equal(*outputs)
    for output in outputs:
        output.square().sum().backward()
    assert all(torch.equal(p.grad, q.grad) for p, q in zip(plain.parameters(), changed.parameters(), strict=True))  # type: ignore[arg-type]


def test_encoders_of_libraries_have_them() -> None:
    """timm's own class of convolution with another padding keeps it."""
    encoder, _ = build_encoder("timm:tf_mobilenetv3_small_minimal_100", size=32)
    depthwise = [m for m in encoder.modules() if isinstance(m, nn.Conv2d) and m.groups == m.in_channels > 1]
    kinds = {type(module).__mro__[2].__name__ for module in depthwise}
    assert kinds == {"Conv2d", "Conv2dSame"}
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert encoder(torch.zeros(2, 3, 32, 32)).shape == (2, 1024)
