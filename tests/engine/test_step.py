"""The one training step: its order, parts, clipping, frozen groups, and what it leaves alone if a term is refused."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from eigenview.config import OptimConfig
from eigenview.engine.optim import build_optimizer
from eigenview.engine.step import StepOptions, train_step
from eigenview.errors import NonFiniteError
from eigenview.methods.parts.method import Method
from eigenview.records import Batch, Clock, Needs
from eigenview.views import Group, Loss
from tests.contract.building import INPUTS

SAMPLES, WIDTH = 8, 4
SGD = OptimConfig(name="sgd", lr_per_256=0.1, batch_scaling="none", weight_decay=0.0, warmup_epochs=0.0)


class Recorder(Method):
    """Two linear maps; its loss is known by hand. It writes down what the step calls, and keeps a state."""

    def __init__(self, groups: list[Group] | None = None) -> None:
        super().__init__(Needs())
        self.first = nn.Linear(INPUTS, WIDTH, bias=False, dtype=torch.float64)
        self.second = nn.Linear(WIDTH, 1, bias=False, dtype=torch.float64)
        generator = torch.Generator().manual_seed(1)
        for p in self.parameters():
            p.data = torch.randn(p.shape, generator=generator, dtype=torch.float64)
        self.register_buffer("rows", torch.zeros(0, dtype=torch.float64))
        self.groups = groups
        self.log: list[str] = []
        self.weights_at_update: Tensor | None = None
        self.clock: Clock | None = None

    def loss(self, batch: Batch, clock: Clock) -> Loss:
        self.log.append(f"loss {len(batch)} from {batch.start}")
        out = self.second(self.first(batch.views[0].flatten(1))).squeeze(1)
        terms = {"square": out.square().mean(), "mean": out.mean()}
        return Loss(terms, carry={"rows": out.detach()}, notes={"largest": out.detach().max()})

    @torch.no_grad()
    def after_step(self, carry: Mapping[str, Tensor], clock: Clock) -> None:
        self.log.append("after_step")
        self.rows, self.clock = carry["rows"], clock
        self.weights_at_update = self.first.weight.detach().clone()

    def parameter_groups(self) -> Iterator[Group]:
        if self.groups is None:
            yield Group("first", [self.first.weight])
            yield Group("second", [self.second.weight])
        else:
            yield from self.groups


def batch_of(seed: int = 0, samples: int = SAMPLES) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    views = torch.randn(2, samples, INPUTS, 1, 1, generator=generator, dtype=torch.float64)
    return Batch(views=tuple(views), whole=2, total=samples, index=torch.arange(samples))


def options_of(optim: OptimConfig = SGD, parts: int = 1) -> StepOptions:
    return StepOptions(optim=optim, batch_size=SAMPLES, parts=parts)


def optimizer_of(method: Method, optim: OptimConfig = SGD) -> Any:
    return build_optimizer(optim, method, batch_size=SAMPLES)


def state_of(method: Method, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Weights, buffers, and what the optimiser keeps."""
    found = {name: value.clone() for name, value in method.state_dict().items()}
    for k, kept in optimizer.state_dict()["state"].items():
        found |= {f"optimizer {k} {name}": v.clone() for name, v in kept.items() if isinstance(v, Tensor)}
    return found


def gradient_by_hand(method: Recorder, batch: Batch) -> tuple[Tensor, Tensor]:
    """Of mean(out^2) + mean(out), out = x A^T b: with e = (2 out + 1)/N, b e^T x for A and e^T (x A^T) for b."""
    x, A, b = batch.views[0].flatten(1), method.first.weight.detach(), method.second.weight.detach()
    e = (2 * (x @ A.T @ b.T) + 1) / len(x)
    return b.T @ (e.T @ x), e.T @ (x @ A.T)


def test_one_step_by_hand() -> None:
    """Plain SGD at the schedule's rate: the peak halfway down the cosine."""
    method, batch = Recorder(), batch_of()
    optimizer = optimizer_of(method, OptimConfig(**{**vars(SGD), "momentum": 0.0}))
    dA, db = gradient_by_hand(method, batch)
    A, b = method.first.weight.detach().clone(), method.second.weight.detach().clone()
    loss = train_step(method, batch, Clock(step=5, steps=10), optimizer, options_of())
    torch.testing.assert_close(method.first.weight.detach(), A - 0.05 * dA, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(method.second.weight.detach(), b - 0.05 * db, rtol=1e-12, atol=1e-12)
    out = batch.views[0].flatten(1) @ A.T @ b.T
    assert loss.terms["square"].item() == pytest.approx(out.square().mean().item(), rel=1e-12)
    assert loss.terms["mean"].item() == pytest.approx(out.mean().item(), rel=1e-12)
    assert loss.notes["largest"].item() == pytest.approx(out.max().item(), rel=1e-12)
    assert not loss.total.requires_grad


def test_the_state_moves_after_the_optimiser_by_what_the_loss_carried() -> None:
    method, batch, clock = Recorder(), batch_of(), Clock(step=3, steps=10)
    optimizer, before = optimizer_of(method), method.first.weight.detach().clone()
    looked: list[tuple[list[str], Tensor]] = []
    train_step(
        method,
        batch,
        clock,
        optimizer,
        options_of(),
        inspect=lambda terms: looked.append((list(method.log), method.first.weight.detach().clone())),
    )
    assert method.log == ["loss 8 from 0", "after_step"]
    ((log, weights),) = looked
    assert log == ["loss 8 from 0"]  # after the loss, and before anything moved
    assert torch.equal(weights, before)
    assert method.weights_at_update is not None
    assert torch.equal(method.weights_at_update, method.first.weight)
    assert not torch.equal(method.weights_at_update, before)
    assert method.clock is clock
    # what is carried is of the loss's own forward pass, not of the moved weights
    out = batch.views[0].flatten(1) @ before.T @ Recorder().second.weight.detach().T
    torch.testing.assert_close(method.rows, out.squeeze(1), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("parts", [2, 4])
def test_terms_and_notes_are_means_over_parts_and_carries_are_joined(parts: int) -> None:
    batch, whole, split = batch_of(), Recorder(), Recorder()
    expected = train_step(whole, batch, Clock(steps=10), optimizer_of(whole), options_of())
    seen: dict[str, Tensor] = {}
    loss = train_step(split, batch, Clock(steps=10), optimizer_of(split), options_of(parts=parts), inspect=seen.update)
    n = SAMPLES // parts
    assert split.log == [*(f"loss {n} from {k * n}" for k in range(parts)), "after_step"]
    torch.testing.assert_close(split.rows, whole.rows, rtol=1e-12, atol=1e-12)  # in the order of the rows
    for name, value in expected.terms.items():
        torch.testing.assert_close(loss.terms[name], value, rtol=1e-12, atol=1e-12)
        assert torch.equal(seen[name], loss.terms[name])
    largest = torch.stack([rows.max() for rows in whole.rows.split(n)]).mean()
    torch.testing.assert_close(loss.notes["largest"], largest, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(split.first.weight, whole.first.weight, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("parts", [1, 4])
def test_all_parts_but_the_last_are_inside_no_sync(parts: int) -> None:
    """There DDP does not average; it does after the last part's backward."""
    method, log = Recorder(), list[str]()
    method.first.weight.register_hook(lambda grad: log.append("backward"))

    @contextmanager
    def no_sync() -> Iterator[None]:
        log.append("enter")
        yield
        log.append("leave")

    clock, optimizer = Clock(steps=10), optimizer_of(method)
    train_step(method, batch_of(), clock, optimizer, options_of(parts=parts), no_sync=no_sync)
    assert log == ["enter", "backward", "leave"] * (parts - 1) + ["backward"]


@pytest.mark.parametrize("limit", [None, 0.5, 1e6])
def test_clip_norm_is_the_global_norm_over_all_groups(limit: float | None) -> None:
    method, batch = Recorder(), batch_of()
    dA, db = gradient_by_hand(method, batch)
    norm = (dA.square().sum() + db.square().sum()).sqrt().item()
    assert norm > 1
    optim = OptimConfig(**{**vars(SGD), "momentum": 0.0, "clip_norm": limit})
    before = method.first.weight.detach().clone()
    train_step(method, batch, Clock(), optimizer_of(method, optim), options_of(optim))
    scale = 1.0 if limit is None else min(1.0, limit / norm)
    # torch divides by norm + 1e-6
    for parameter, gradient in ((method.first.weight, dA), (method.second.weight, db)):
        assert parameter.grad is not None
        torch.testing.assert_close(parameter.grad, scale * gradient, rtol=2e-6, atol=1e-12)
        if scale == 1.0:
            torch.testing.assert_close(parameter.grad, gradient, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(method.first.weight.detach(), before - 0.1 * scale * dA, rtol=2e-6, atol=1e-12)


@pytest.mark.parametrize("parts", [1, 2])
def test_clipping_sees_the_gradient_of_the_whole_batch(parts: int) -> None:
    optim, batch = OptimConfig(**{**vars(SGD), "clip_norm": 0.5}), batch_of()
    method = Recorder()
    train_step(method, batch, Clock(), optimizer_of(method, optim), options_of(optim, parts))
    squares = [p.grad.square().sum() for p in method.parameters() if p.grad is not None]
    assert torch.stack(squares).sum().sqrt().item() == pytest.approx(0.5, rel=2e-6)


@pytest.mark.parametrize("name", ["sgd", "adamw", "lars"])
def test_frozen_epochs_hold_weights_and_momentum_still(name: Any) -> None:
    """Two epochs of three steps: weight decay and a momentum left from before would move what is frozen."""
    method = Recorder()
    method.groups = [Group("first", [method.first.weight]), Group("second", [method.second.weight], frozen_epochs=2)]
    optim = OptimConfig(name=name, lr_per_256=0.1, batch_scaling="none", weight_decay=0.1, warmup_epochs=0.0)
    optimizer = optimizer_of(method, optim)

    def take(step: int) -> None:
        clock = Clock(step=step, steps=100, steps_per_epoch=3)
        train_step(method, batch_of(step), clock, optimizer, options_of(optim))

    take(6)  # past the frozen epochs: there is momentum now
    kept, others = method.second.weight.detach().clone(), method.first.weight.detach().clone()
    momentum = {k: v.clone() for k, v in optimizer.state[method.second.weight].items() if isinstance(v, Tensor)}
    assert momentum
    for step in range(6):
        take(step)
        assert torch.equal(method.second.weight, kept)
        assert not torch.equal(method.first.weight, others)
        others = method.first.weight.detach().clone()
        for k, v in momentum.items():
            assert torch.equal(optimizer.state[method.second.weight][k], v), k
    take(6)
    assert not torch.equal(method.second.weight, kept)
    assert any(not torch.equal(optimizer.state[method.second.weight][k], v) for k, v in momentum.items())


def test_frozen_gradients_do_not_count_in_the_clipped_norm() -> None:
    method, batch = Recorder(), batch_of()
    method.groups = [Group("first", [method.first.weight]), Group("second", [method.second.weight], frozen_epochs=1)]
    optim = OptimConfig(**{**vars(SGD), "clip_norm": 0.5})
    train_step(method, batch, Clock(), optimizer_of(method, optim), options_of(optim))
    assert method.second.weight.grad is None
    assert method.first.weight.grad is not None
    assert method.first.weight.grad.norm().item() == pytest.approx(0.5, rel=2e-6)


@pytest.mark.parametrize("parts", [1, 2])
def test_inspect_that_raises_leaves_method_and_optimizer_as_they_were(parts: int) -> None:
    method = Recorder()
    optimizer = optimizer_of(method)
    train_step(method, batch_of(), Clock(steps=10), optimizer, options_of())
    before = state_of(method, optimizer)
    assert any(name.startswith("optimizer") for name in before)

    def refuse(terms: Mapping[str, Tensor]) -> None:
        raise NonFiniteError(", ".join(terms))

    with pytest.raises(NonFiniteError, match="square, mean"):
        train_step(method, batch_of(1), Clock(step=1, steps=10), optimizer, options_of(parts=parts), inspect=refuse)
    after = state_of(method, optimizer)
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert method.log.count("after_step") == 1


def test_group_factors_and_decays_reach_the_optimiser() -> None:
    method = Recorder()
    method.groups = [
        Group("first", [method.first.weight], lr_factor=2.0),
        Group("second", [method.second.weight], lr_factor=0.5, decay=0.25),
    ]
    optimizer = optimizer_of(method, OptimConfig(**{**vars(SGD), "weight_decay": 0.125}))
    train_step(method, batch_of(), Clock(step=5, steps=10), optimizer, options_of())
    rates = [(group["lr"], group["weight_decay"]) for group in optimizer.param_groups]
    assert rates == [(pytest.approx(0.1), 0.125), (pytest.approx(0.025), 0.25)]


@pytest.mark.parametrize("fault", ["forgets", "repeats", "adds"])
def test_parameter_groups_that_are_not_every_parameter_once_are_refused(fault: str) -> None:
    method = Recorder()
    first, second = method.first.weight, method.second.weight
    foreign = nn.Parameter(torch.ones(2, dtype=torch.float64))
    method.groups = {
        "forgets": [Group("first", [first])],
        "repeats": [Group("first", [first]), Group("again", [first, second])],
        "adds": [Group("all", [first, second]), Group("other", [foreign])],
    }[fault]
    with pytest.raises(ValueError, match="parameter_groups") as error:
        optimizer_of(method)
    if fault == "forgets":
        assert "second.weight" in str(error.value)
