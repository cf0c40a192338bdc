"""The gradient of a batch in chunks is that of the whole batch; batch norm's running averages move once."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from eigenview.config import RunConfig
from eigenview.errors import UserError
from eigenview.methods import METHODS
from eigenview.models.grad_cache import encode_in_chunks
from eigenview.models.network import Network
from eigenview.records import Clock
from eigenview.views import Views
from tests.contract.building import objective_of
from tests.engine.stepping import Stepper, joint_embedding, module_of

SAMPLES, WIDTH = 12, 6


class Counting(nn.Module):
    """A norm-free encoder that remembers how many images it took at once."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(5, 9), nn.Tanh(), nn.Linear(9, WIDTH), nn.Tanh())
        self.taken: list[int] = []

    def forward(self, x: Tensor) -> Tensor:
        self.taken.append(len(x))
        return self.layers(x)


def step(method: str, chunk: int | None) -> tuple[Tensor, dict[str, Tensor], list[int]]:
    """Loss and gradients of one batch in float64, with batch norm in the heads, which see all of it."""
    torch.manual_seed(0)
    head = nn.Sequential(nn.Linear(WIDTH, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, WIDTH))
    predictor = nn.Sequential(nn.Linear(WIDTH, 7), nn.BatchNorm1d(7), nn.ReLU(), nn.Linear(7, WIDTH))
    network = Network(Counting(), head, predictor).double()
    network.chunk = chunk
    objective = objective_of(method, WIDTH).double()
    out = network([torch.randn(SAMPLES, 5, dtype=torch.float64) for _ in range(2)])
    target = torch.randn(2, SAMPLES, WIDTH, dtype=torch.float64)
    views = Views(h=out.h, z=out.z, p=out.p, z_target=target)
    objective.update(objective(views).carry, Clock())  # a closed-form predictor comes from this very batch then
    loss = objective(views).total
    loss.backward()
    encoder = network.encoder
    assert isinstance(encoder, Counting)
    return loss, {n: p.grad for n, p in network.named_parameters() if p.grad is not None}, encoder.taken


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("chunk", [1, 4])
def test_every_objective_has_the_gradient_of_the_whole_batch(method: str, chunk: int) -> None:
    loss, grads, taken = step(method, None)
    ours, parts, small = step(method, chunk)
    assert taken == [SAMPLES] * 2
    assert small == [chunk] * (4 * SAMPLES // chunk)  # two views, forward and again in the backward pass
    torch.testing.assert_close(ours, loss, rtol=1e-12, atol=1e-12)
    assert parts.keys() == grads.keys()
    for name, gradient in grads.items():
        torch.testing.assert_close(parts[name], gradient, rtol=1e-10, atol=1e-10)
    assert any(g.abs().max() > 1e-4 for n, g in grads.items() if n.startswith("encoder"))


def test_running_averages_of_batch_norm_move_once_a_chunk() -> None:
    torch.manual_seed(0)
    twice, once = nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4)), nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4))
    once.load_state_dict(twice.state_dict())
    x = torch.randn(8, 5)
    encode_in_chunks(twice, x, 4).square().sum().backward()
    for part in x.split(4):
        once(part)
    assert torch.equal(twice[1].running_mean, once[1].running_mean)
    assert torch.equal(twice[1].running_var, once[1].running_var)
    assert torch.equal(twice[1].num_batches_tracked, once[1].num_batches_tracked)
    assert twice[1].momentum == 0.1


def test_a_run_takes_it_and_dropout_is_drawn_alike_in_both_passes() -> None:
    module = module_of("byol", grad_cache_chunk=32)
    method = joint_embedding(module)
    assert method.target is not None
    assert method.network.chunk == method.target.chunk == 32
    Stepper(module).step(0, images=128)
    assert all(p.grad is not None for p in method.network.parameters())

    torch.manual_seed(3)
    encoder = nn.Sequential(nn.Linear(5, 40), nn.Dropout(0.5))
    h = encode_in_chunks(encoder, torch.ones(6, 5), 2)
    h.sum().backward()
    kept = (h != 0).double().sum(dim=0)
    assert torch.equal(encoder[0].bias.grad, 2 * kept.float())


@pytest.mark.parametrize("chunk", [0, 3, 256])
def test_a_chunk_that_does_not_divide_the_batch_is_refused(chunk: int) -> None:
    with pytest.raises(UserError, match=rf"--grad-cache-chunk is {chunk}\b.*divisor.*\b64\b"):
        RunConfig(batch_size=128, devices=2, grad_cache_chunk=chunk)
