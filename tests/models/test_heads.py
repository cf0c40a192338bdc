"""Projector and predictor: layers, widths, bf16."""

import pytest
import torch
from torch import nn

from eigenview.config import NetworkConfig
from eigenview.models.heads import embedding_width, predictor, projector


def kinds(head: nn.Module) -> list[str]:
    return [type(layer).__name__ for layer in head.children()]


@pytest.mark.parametrize("layers", range(5))
@pytest.mark.parametrize("last_norm", [False, True])
def test_projector_has_the_layers_asked_for(layers, last_norm):
    config = NetworkConfig(
        projector_hidden=12, projector_width=6, projector_layers=layers, projector_last_norm=last_norm
    )
    head = projector(8, config)
    expected = ["Linear", "BatchNorm1d", "ReLU"] * (layers - 1) + ["Linear"] * (layers > 0)
    assert kinds(head) == expected + ["BatchNorm1d"] * (last_norm and layers > 0)
    h = torch.randn(5, 8)
    assert head(h).shape == (5, embedding_width(8, config))
    assert all(layer.bias is None for layer in head if isinstance(layer, nn.Linear))


def test_without_layers_the_embedding_is_the_representation():
    config = NetworkConfig(projector_layers=0)
    h = torch.randn(5, 8)
    assert torch.equal(projector(8, config)(h), h)
    assert embedding_width(8, config) == 8


def test_the_last_norm_standardises_and_cannot_learn():
    head = projector(8, NetworkConfig(projector_width=6, projector_layers=1, projector_last_norm=True))
    z = head(100 * torch.randn(64, 8, generator=torch.Generator().manual_seed(0)))
    torch.testing.assert_close(z.mean(0), torch.zeros(6), atol=1e-5, rtol=0)
    torch.testing.assert_close(z.var(0, unbiased=False), torch.ones(6), atol=1e-4, rtol=0)  # eps 1e-5 beside 1e4
    assert [name for name, _ in head.named_parameters()] == ["0.weight"]


def test_predictor_by_hand():
    head = predictor(6, NetworkConfig(predictor_hidden=10))
    assert kinds(head) == ["Linear", "BatchNorm1d", "ReLU", "Linear"]
    z = torch.randn(7, 6)
    first, last = head[0].weight, head[3]
    a = z @ first.T
    a = (a - a.mean(0)) / (a.var(0, unbiased=False) + 1e-5).sqrt()
    torch.testing.assert_close(head(z), a.relu() @ last.weight.T + last.bias, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("last_norm", [False, True])
def test_heads_under_bf16_autocast(last_norm):
    config = NetworkConfig(projector_hidden=16, projector_width=8, projector_layers=3, projector_last_norm=last_norm)
    heads = nn.Sequential(projector(8, config), predictor(8, NetworkConfig(predictor_hidden=4)))
    h = torch.randn(32, 8)
    plain = heads(h)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        p = heads(h)
    # bf16 keeps 8 bits of each factor; a few layers with norms between lose a few percent.
    torch.testing.assert_close(p.float(), plain, atol=0.1, rtol=0.1)
    p.float().square().mean().backward()
    assert all(w.grad is not None and w.grad.isfinite().all() for w in heads.parameters())


def test_linear_predictor_with_and_without_offset():
    assert predictor(6, NetworkConfig(predictor_layers=1)).bias is not None
    assert predictor(6, NetworkConfig(predictor_layers=1, predictor_bias=False)).bias is None
    z = torch.randn(3, 6)
    assert predictor(6, NetworkConfig(predictor_layers=0))(z) is z


def test_a_symmetric_predictor_stays_symmetric_while_it_learns():
    torch.manual_seed(0)
    head = predictor(6, NetworkConfig(predictor_layers=1, predictor_symmetric=True))
    optimizer = torch.optim.SGD(head.parameters(), lr=0.5)
    start = head.weight.detach().clone()
    for _ in range(3):
        z = torch.randn(20, 6)
        optimizer.zero_grad()
        (head(z) - z.roll(1, dims=1)).square().mean().backward()
        optimizer.step()
    assert torch.equal(head.weight, head.weight.T)
    assert not torch.allclose(head.weight, start, atol=1e-3)


def test_a_symmetric_predictor_of_two_layers_has_a_symmetric_linear_part():
    torch.manual_seed(0)
    head = predictor(5, NetworkConfig(predictor_hidden=9, predictor_symmetric=True, predictor_bias=False)).eval()
    jacobian = torch.autograd.functional.jacobian(lambda z: head(z[None])[0], torch.randn(5))
    assert jacobian.abs().max() > 1e-3
    torch.testing.assert_close(jacobian, jacobian.T)


def test_heads_without_norms_have_offsets_instead():
    config = NetworkConfig(head_norm="none", projector_layers=3, projector_hidden=7, projector_width=4)
    assert kinds(projector(8, config)) == ["Linear", "ReLU", "Linear", "ReLU", "Linear"]
    assert kinds(predictor(4, config)) == ["Linear", "ReLU", "Linear"]
    assert predictor(4, config)[0].bias is not None


def test_heads_with_layer_norm_do_not_tie_rows_together():
    torch.manual_seed(0)
    config = NetworkConfig(head_norm="layer", projector_last_norm=True, projector_layers=3, projector_width=4)
    for head in (projector(8, config), predictor(8, config)):
        x = torch.randn(5, 8)
        torch.testing.assert_close(head(x)[:2], head(x[:2]))
    assert kinds(projector(8, config))[-1] == "LayerNorm"
    assert kinds(projector(8, NetworkConfig(projector_last_norm=True)))[-1] == "BatchNorm1d"
