"""Convolutions that need float32 where they are trained on a CPU, and are otherwise what they were."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from eigenview.models.cpu_convolutions import has_blind_taps, prepare_for_cpu
from eigenview.models.encoders import build_encoder


def convolutions() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3, groups=8), nn.Conv2d(8, 8, 3, groups=4))


@pytest.mark.parametrize(
    ("convolution", "side", "expected"),
    [
        (nn.Conv2d(1, 1, 3, padding=1, stride=2), 1, True),  # the centre alone meets the pixel
        (nn.Conv2d(1, 1, 3, padding=1), 1, True),
        (nn.Conv2d(1, 1, 3, padding=1, stride=2), 2, True),  # one place, which begins at -1
        (nn.Conv2d(1, 1, 3, padding=1, stride=2), 3, False),
        (nn.Conv2d(1, 1, 3, padding=1), 2, False),
        (nn.Conv2d(1, 1, 3), 3, False),
        (nn.Conv2d(1, 1, 5, padding=2), 2, True),
        (nn.Conv2d(1, 1, 5, padding=2), 3, False),
        (nn.Conv2d(1, 1, 3, padding=2, dilation=2), 2, True),
        (nn.Conv2d(1, 1, 3, padding="same"), 1, True),
        (nn.Conv2d(1, 1, 3, padding="valid"), 4, False),
        (nn.Conv2d(1, 1, 1, stride=2), 1, False),
    ],
)
def test_taps_that_meet_padding_alone(convolution: nn.Conv2d, side: int, expected: bool) -> None:
    """As the gradient says: a tap that meets nothing has none, whatever the image is."""
    convolution(torch.rand(1, 1, side, side)).sum().backward()
    assert convolution.weight.grad is not None
    assert bool((convolution.weight.grad == 0).any()) == expected
    assert has_blind_taps(convolution, (side, side)) == expected


def test_gradients_of_taps_that_meet_padding_alone_are_zero() -> None:
    """torch leaves them as the memory was, in bfloat16 on a CPU: here nan, which was freed just before."""
    network = nn.Sequential(nn.Conv2d(64, 96, 3, padding=1, stride=2, bias=False))
    prepare_for_cpu(network)
    images = torch.randn(32, 64, 1, 1)
    for _ in range(10):
        memory = [torch.full((96 * 64 * 9,), torch.nan) for _ in range(4)]
        del memory
        network.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16, cache_enabled=False):
            network(images).float().square().sum().backward()
        gradient = network[0].weight.grad
        assert gradient is not None
        assert gradient.isfinite().all()
        assert (gradient[:, :, 0] == 0).all()
        assert (gradient[:, :, 1, 1] != 0).any()


def test_depthwise_ones_alone_give_float32() -> None:
    network = convolutions()
    prepare_for_cpu(network)
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
    prepare_for_cpu(changed)
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
    kinds = {type(module).__bases__[1].__name__ for module in depthwise}
    assert kinds == {"Conv2d", "Conv2dSame"}
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert encoder(torch.zeros(2, 3, 32, 32)).shape == (2, 1024)
