"""The target network: an exact copy at first, then the exponential moving average, and never a gradient."""

import pytest
import torch
from torch import nn

from eigenview.config import NetworkConfig
from eigenview.models.encoders import build_encoder
from eigenview.models.heads import projector
from eigenview.models.target import TargetNetwork, target_momentum


@pytest.fixture
def online() -> tuple[nn.Module, nn.Module]:
    torch.manual_seed(0)
    encoder, width = build_encoder("conv-tiny", size=16)
    return encoder, projector(width, NetworkConfig(projector_hidden=16, projector_width=8))


def change(networks: tuple[nn.Module, nn.Module]) -> None:
    with torch.no_grad():
        for network in networks:
            for p in network.parameters():
                p.add_(torch.randn_like(p))


def parameters(*networks: nn.Module) -> list[torch.Tensor]:
    return [p.detach().clone() for network in networks for p in network.parameters()]


def test_starts_as_an_exact_copy_that_shares_nothing(online):
    target = TargetNetwork(*online)
    views = [torch.randn(4, 3, 16, 16) for _ in range(3)]
    expected = torch.stack([online[1](online[0](view)) for view in views])
    z = target(views)
    assert z.shape == (3, 4, 8)
    assert torch.equal(z, expected)
    before = parameters(target)
    change(online)
    assert all(torch.equal(a, b) for a, b in zip(before, parameters(target), strict=True))


def test_no_gradient_reaches_or_leaves_it(online):
    target = TargetNetwork(*online)
    assert not any(p.requires_grad for p in target.parameters())
    assert not target([torch.randn(4, 3, 16, 16, requires_grad=True)] * 2).requires_grad
    assert all(p.requires_grad for p in online[0].parameters())


def test_three_steps_by_hand():
    online = nn.Linear(1, 1, bias=False), nn.Linear(1, 1)
    values = {"weight": (1.0, 3.0, 5.0, 7.0), "bias": (0.0, 1.0, -1.0, 2.0)}
    momenta = (0.9, 0.5, 0.99)

    def at(step: int) -> None:
        with torch.no_grad():
            online[0].weight.fill_(values["weight"][step])
            online[1].weight.fill_(-values["weight"][step])
            online[1].bias.fill_(values["bias"][step])

    at(0)
    target = TargetNetwork(*online)
    expected = {name: v[0] for name, v in values.items()}
    for step, tau in enumerate(momenta, start=1):
        at(step)
        target.update(*online, tau)
        expected = {name: tau * old + (1 - tau) * values[name][step] for name, old in expected.items()}
    assert target.encoder.weight.item() == pytest.approx(expected["weight"], rel=1e-6)
    assert target.projector.weight.item() == pytest.approx(-expected["weight"], rel=1e-6)
    assert target.projector.bias.item() == pytest.approx(expected["bias"], rel=1e-6)


@pytest.mark.parametrize(("momentum", "like_online"), [(0.0, True), (1.0, False)])
def test_momentum_0_becomes_the_online_network_and_1_stays(online, momentum, like_online):
    target = TargetNetwork(*online)
    before = parameters(target)
    change(online)
    target.update(*online, momentum)
    expected = parameters(*online) if like_online else before
    assert all(torch.equal(a, b) for a, b in zip(parameters(target), expected, strict=True))


def test_equal_networks_stay_equal_to_the_bit(online):
    target = TargetNetwork(*online)
    target.update(*online, 0.7)
    assert all(torch.equal(a, b) for a, b in zip(parameters(target), parameters(*online), strict=True))


def test_buffers_are_the_targets_own(online):
    target = TargetNetwork(*online)
    encoder, _ = online
    encoder(torch.randn(8, 3, 16, 16) + 5)
    at_start = target.encoder.get_buffer("0.1.running_mean").clone()
    target.update(*online, 0.0)
    assert torch.equal(target.encoder.get_buffer("0.1.running_mean"), at_start)
    target([torch.randn(8, 3, 16, 16)])
    assert not torch.equal(target.encoder.get_buffer("0.1.running_mean"), at_start)


def test_normalises_with_the_statistics_of_its_own_batch_in_training_only(online):
    target = TargetNetwork(*online)
    view = torch.randn(8, 3, 16, 16)
    alone, among = target([view])[0], target([torch.cat([view, 3 * view])])[0, :8]
    assert not torch.allclose(alone, among)
    target.eval()
    alone, among = target([view])[0], target([torch.cat([view, 3 * view])])[0, :8]
    torch.testing.assert_close(alone, among)


def test_state_dict_round_trip(online):
    target = TargetNetwork(*online)
    change(online)
    target.update(*online, 0.5)
    other = TargetNetwork(*online)
    other.load_state_dict(target.state_dict())
    assert all(torch.equal(a, b) for a, b in zip(parameters(target), parameters(other), strict=True))


def test_another_network_is_refused(online):
    target = TargetNetwork(*online)
    with pytest.raises(ValueError, match="differ in name or shape"):
        target.update(online[0], nn.Linear(128, 8), 0.5)
    with pytest.raises(ValueError, match="differ in name or shape"):
        target.update(online[0], projector(128, NetworkConfig(projector_hidden=1, projector_width=8)), 0.5)


def test_target_momentum_at_its_corners() -> None:
    assert [target_momentum(k, 100, 0.9, 1.0) for k in (0, 50, 100, 200)] == pytest.approx([0.9, 0.95, 1, 1])
    assert target_momentum(0, 0, 0.9, 1.0) == pytest.approx(0.9)


def test_target_momentum_on_a_line() -> None:
    assert [target_momentum(k, 4, 0.9, 1.0, "linear") for k in range(6)] == pytest.approx(
        [0.9, 0.925, 0.95, 0.975, 1, 1]
    )
