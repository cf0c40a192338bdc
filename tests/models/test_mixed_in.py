"""Encoders whose modules have classes of ours mixed in are pickled, saved and copied like any others."""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Callable

import pytest
import torch
from torch import nn

from eigenview.models.cpu_convolutions import OnCpu
from eigenview.models.encoders import build_encoder
from eigenview.models.norms import KeepsStatistics, keep_statistics


def pickled(network: nn.Module) -> nn.Module:
    return pickle.loads(pickle.dumps(network))


def saved(network: nn.Module) -> nn.Module:
    buffer = io.BytesIO()
    torch.save(network, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=False)


@pytest.mark.parametrize("again", [pickled, saved, copy.copy, copy.deepcopy])
@pytest.mark.parametrize("keeps", [False, True])
@pytest.mark.parametrize(
    "name", ["timm:test_resnet", "torchvision:mobilenet_v2", "timm:test_efficientnet", "conv-tiny"]
)
def test_an_encoder_made_again_has_the_same_features(
    name: str, keeps: bool, again: Callable[[nn.Module], nn.Module]
) -> None:
    torch.manual_seed(0)
    encoder, _ = build_encoder(name, size=32)
    if keeps:
        keep_statistics(encoder)
    images, other = torch.randn(2, 3, 32, 32), again(encoder)
    with torch.no_grad():
        assert torch.equal(other.eval()(images), encoder.eval()(images))
    kinds, before = ([type(module) for module in each.modules()] for each in (other, encoder))
    assert kinds == before
    assert any(issubclass(kind, KeepsStatistics) for kind in kinds) == keeps
    assert any(issubclass(kind, OnCpu) for kind in kinds) == (name != "conv-tiny")
