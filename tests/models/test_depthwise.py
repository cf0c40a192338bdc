"""The weight gradient of a depthwise convolution as a sum over taps."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from eigenview.models import cpu_convolutions
from eigenview.models.cpu_convolutions import prepare_for_cpu
from eigenview.models.depthwise import depthwise, is_faster, weight_gradient

SHAPES = [  # kernel, stride, padding, dilation, height, width
    (3, 1, 1, 1, 4, 4),
    (5, 1, 2, 1, 2, 2),  # taps that meet padding alone
    (3, 2, 1, 1, 1, 1),
    (3, 2, 1, 1, 7, 4),
    (3, 2, 0, 1, 7, 6),  # the last column is not used
    (3, 3, 2, 2, 5, 8),
    (5, 2, 4, 1, 3, 3),  # whole places on padding
    (2, 1, 0, 1, 2, 5),
]


def pairs(*numbers: int) -> list[tuple[int, int]]:
    return [(number, number) for number in numbers]


@pytest.mark.parametrize("shape", SHAPES)
def test_it_is_the_naive_sum(shape: tuple[int, ...]) -> None:
    k, stride, padding, dilation, height, width = shape
    x = torch.randn(3, 2, height, width, dtype=torch.float64)
    h, w = F.conv2d(x, torch.ones(2, 1, k, k, dtype=torch.float64), None, stride, padding, dilation, 2).shape[-2:]
    g = torch.randn(3, 2, h, w, dtype=torch.float64)
    expected = torch.zeros(2, 1, k, k, dtype=torch.float64)
    for i in range(k):
        for j in range(k):
            for a in range(h):
                for b in range(w):
                    row, column = a * stride - padding + i * dilation, b * stride - padding + j * dilation
                    if 0 <= row < height and 0 <= column < width:
                        expected[:, 0, i, j] += (x[:, :, row, column] * g[:, :, a, b]).sum(0)
    found = weight_gradient(x, g, (k, k), *pairs(stride, padding, dilation))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("has_bias", [False, True])
def test_value_and_gradients_are_those_of_torch(shape: tuple[int, ...], has_bias: bool) -> None:
    k, stride, padding, dilation, height, width = shape
    x = torch.randn(3, 4, height, width, dtype=torch.float64).to(memory_format=torch.channels_last)
    weight, bias = torch.randn(4, 1, k, k, dtype=torch.float64), torch.randn(4, dtype=torch.float64)
    found = []
    for ours in (True, False):
        leaves = [t.clone().requires_grad_() for t in ((x, weight, bias) if has_bias else (x, weight))]
        b = leaves[2] if has_bias else None
        if ours:
            y = depthwise(leaves[0], leaves[1], b, *pairs(stride, padding, dilation))
        else:
            y = F.conv2d(leaves[0], leaves[1], b, stride, padding, dilation, 4)
        y.square().sum().backward()
        found.append([y, *(leaf.grad for leaf in leaves)])
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


def test_it_is_used_on_small_maps_where_a_weight_is_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    """By every layout and training mode the network's gradients are those of the network as it was."""
    used: list[tuple[int, ...]] = []

    def spy(input: torch.Tensor, *rest: object) -> torch.Tensor:
        used.append(tuple(input.shape))
        return depthwise(input, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(cpu_convolutions, "depthwise", spy)
    plain = nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1),
        nn.Conv2d(6, 6, 3, padding=1, stride=2, groups=6),
        nn.Conv2d(6, 6, 3, padding="same", groups=6),  # torch's
        nn.Conv2d(6, 12, 3, padding=1, groups=6),  # two filters a channel: torch's
        nn.Conv2d(12, 12, 3, padding=1, groups=12, padding_mode="circular"),  # torch's
    )
    changed = copy.deepcopy(plain)
    prepare_for_cpu(changed)
    for side, expected in ((16, [(2, 6, 16, 16)]), (18, [])):  # 8 x 8 and 9 x 9 places
        used.clear()
        images = torch.randn(2, 3, side, side)
        for network in (plain, changed):
            network.zero_grad()
            network(images).square().mean().backward()
        assert used == expected
        for a, b in zip(changed.parameters(), plain.parameters(), strict=True):
            torch.testing.assert_close(a.grad, b.grad, rtol=1e-5, atol=1e-6)
    used.clear()
    with torch.no_grad():
        changed(torch.randn(2, 3, 16, 16))
    changed[1].weight.requires_grad_(False)  # type: ignore[union-attr]
    changed(torch.randn(2, 3, 16, 16)).sum().backward()
    assert used == []


def test_only_small_maps_are_faster() -> None:
    one = (1, 1)
    assert is_faster((8, 8), (3, 3), one, one, one)
    assert not is_faster((9, 8), (3, 3), one, one, one)
    assert is_faster((16, 16), (3, 3), (2, 2), one, one)
    assert not is_faster((2, 2), (3, 3), one, (0, 0), one)  # no place: torch's error
