"""Batch norms converted to synchronised ones and back; on one process both compute the same."""

from __future__ import annotations

import copy

import pytest
import timm
import torch
from torch import nn

from eigenview.engine.sync_batch_norm import BATCH_NORM, convert, revert, synchronised


@pytest.mark.parametrize("name", ["efficientnet_b0", "resnet10t"])
def test_they_compute_the_same_network_and_leave_it_as_it_was(name: str) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(timm.create_model(name, num_classes=4), nn.BatchNorm1d(4))
    plain = copy.deepcopy(model)
    kinds = {path: type(each) for path, each in model.named_modules()}
    keys, parameters = list(model.state_dict()), list(model.parameters())
    synced = model
    originals = convert(model)
    assert all(isinstance(m, nn.SyncBatchNorm) for m in synced.modules() if isinstance(m, BATCH_NORM))
    assert list(synced.state_dict()) == keys
    assert all(a is b for a, b in zip(synced.parameters(), parameters, strict=True))
    x = torch.randn(8, 3, 64, 64)
    torch.testing.assert_close(synced.train()(x), plain.train()(x))
    torch.testing.assert_close(synced.eval()(x), plain.eval()(x))
    with torch.no_grad():
        for p, q in zip(synced.parameters(), plain.parameters(), strict=True):
            p.mul_(1.5)
            q.mul_(1.5)
    back = model
    revert(back, originals)
    assert {path: type(each) for path, each in back.named_modules()} == kinds
    assert list(back.state_dict()) == keys
    for key, value in plain.state_dict().items():
        torch.testing.assert_close(back.state_dict()[key], value)
    assert not any(m.training for m in back.modules())
    torch.testing.assert_close(back(x), plain(x))


def test_they_are_put_back_also_after_an_error() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    original = model[1]

    def train(is_on: bool) -> None:
        with synchronised(model, is_on=is_on):
            assert isinstance(model[1], nn.SyncBatchNorm) is is_on
            raise RuntimeError("a step failed")

    for is_on in (True, False):
        with pytest.raises(RuntimeError, match="a step failed"):
            train(is_on)
        assert model[1] is original
