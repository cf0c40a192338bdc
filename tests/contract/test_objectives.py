"""What every objective guarantees, tested on each of METHODS."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import re
import textwrap
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor

from eigenview.methods import METHODS, card, config_class
from eigenview.methods.parts.method import Objective
from eigenview.records import Clock, Needs
from eigenview.views import FIELDS, Views
from tests.contract.building import objective_of
from tests.contract.naive import naive_loss
from tests.contract.step import two_steps
from tests.process_pool import ProcessPool

# (views, samples, width): more samples than dimensions, and so few that every Gram matrix is the smaller one
SHAPES = [(2, 9, 4), (2, 4, 11), (3, 6, 5), (4, 3, 8)]


@pytest.fixture(params=METHODS)
def method(request: pytest.FixtureRequest) -> str:
    return request.param


SURROGATE = {"isoloss"}
Shape = tuple[int, int, int]
Make = Callable[[Shape], Objective]


def needs_of(method: str) -> Needs:
    """What the method asks for with the options of these tests."""
    return config_class(method)(**card(method).small).needs


def make_objective(method: str, shape: Shape) -> Objective:
    """The method's objective for views of this shape."""
    views, samples, width = shape
    if samples < (least := needs_of(method).least_samples):
        pytest.skip(f"{method} needs {least} samples; its own test has the refusal")
    torch.manual_seed(6)
    return objective_of(method, width, views)


def update(objective: Objective, views: Views) -> None:
    """Move the objective's state by this batch, as the training step does."""
    objective.update(objective(views).carry, Clock())


@pytest.fixture
def make(method: str) -> Make:
    return lambda shape: make_objective(method, shape)


def batch(shape: Shape, seed: int = 0, dtype: torch.dtype = torch.float64) -> dict[str, Tensor]:
    """Correlated views with unequal scales and a mean, for every field."""
    generator = torch.Generator().manual_seed(seed)
    _, samples, width = shape
    common = torch.randn(1, samples, width, generator=generator, dtype=torch.float64)
    scale = torch.linspace(0.5, 1.5, width, dtype=torch.float64)
    noise = {name: torch.randn(shape, generator=generator, dtype=torch.float64) for name in FIELDS}
    return {name: ((common + 0.4 * noise[name]) * scale + 0.2).to(dtype) for name in FIELDS}


def online_field(method: str) -> str:
    """The field of Views through which gradient reaches the network."""
    reads = needs_of(method).reads
    return "p" if "p" in reads else next(iter(reads - {"z_target"}))


def loss_of(objective: Objective, fields: dict[str, Tensor]) -> Tensor:
    return objective(Views(**fields)).total


def loss_and_grads(objective: Objective, fields: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor | None]]:
    leaves = {name: value.clone().requires_grad_() for name, value in fields.items()}
    loss = loss_of(objective, leaves)
    grads = torch.autograd.grad(loss, list(leaves.values()), allow_unused=True)
    return loss, dict(zip(leaves, grads, strict=True))


@pytest.mark.parametrize("shape", SHAPES)
def test_terms_are_finite_named_scalars(make: Make, shape: Shape) -> None:
    objective = make(shape)
    terms = objective(Views(**batch(shape))).terms
    assert terms
    for name, term in terms.items():
        assert name.isidentifier()
        assert term.shape == ()
        assert term.isfinite()


@pytest.mark.parametrize("shape", SHAPES)
def test_gradient_reaches_every_online_view_and_no_target(method: str, make: Make, shape: Shape) -> None:
    objective = make(shape)
    _, grads = loss_and_grads(objective, batch(shape))
    online = online_field(method)
    reached = grads[online]
    assert reached is not None
    assert reached.isfinite().all()
    assert (reached.abs().amax(dim=(1, 2)) > 1e-6).all()
    assert grads["z_target"] is None
    assert all(grads[name] is None for name in set(FIELDS) - needs_of(method).reads)


@pytest.mark.parametrize("shape", SHAPES)
def test_order_of_samples_and_of_views_is_irrelevant(make: Make, shape: Shape) -> None:
    objective = make(shape)
    fields = batch(shape)
    order = torch.randperm(shape[1], generator=torch.Generator().manual_seed(3))
    loss, grads = loss_and_grads(objective, fields)
    shuffled, shuffled_grads = loss_and_grads(objective, {n: f[:, order].flip(0) for n, f in fields.items()})
    torch.testing.assert_close(shuffled, loss, rtol=1e-12, atol=1e-13)
    for name, gradient in grads.items():
        if gradient is not None:
            torch.testing.assert_close(shuffled_grads[name], gradient[:, order].flip(0), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("shape", [(2, 5, 3), (2, 3, 7), (3, 4, 3)])
def test_gradient_equals_finite_differences(method: str, make: Make, shape: Shape) -> None:
    objective = make(shape)
    fields = batch(shape, seed=1)
    if method in SURROGATE:
        pytest.skip("its gradient is not that of its value, by definition: tests/methods/test_isoloss.py")
    online = online_field(method)

    def loss(x: Tensor) -> Tensor:
        return loss_of(objective, fields | {online: x})

    assert torch.autograd.gradcheck(loss, fields[online].requires_grad_(), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("value", [0.0, 1.0, -37.3], ids=["zeros", "ones", "far"])
@pytest.mark.parametrize("shape", [(2, 8, 3), (3, 4, 12)])
def test_collapsed_input_has_finite_loss_and_gradient(make: Make, shape: Shape, value: float) -> None:
    objective = make(shape)
    fields = {name: torch.full(shape, value) * torch.linspace(1, 2, shape[2]) for name in FIELDS}
    loss, grads = loss_and_grads(objective, fields)
    assert loss.isfinite()
    for gradient in grads.values():
        assert gradient is None or gradient.isfinite().all()


def test_one_zero_row_does_not_explode(make: Make) -> None:
    objective = make((2, 6, 5))
    fields = {name: f.index_fill(1, torch.tensor([2]), 0.0).float() for name, f in batch((2, 6, 5)).items()}
    loss, grads = loss_and_grads(objective, fields)
    assert loss.isfinite()
    for gradient in grads.values():
        assert gradient is None or gradient.abs().max() < 1e3


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_promoted(make: Make, dtype: torch.dtype) -> None:
    objective = make((2, 8, 5))
    fields = batch((2, 8, 5), dtype=dtype)
    ours = objective(Views(**fields)).terms
    exact = objective(Views(**{name: f.float() for name, f in fields.items()})).terms
    for name, term in ours.items():
        assert term.dtype == torch.float32
        assert torch.equal(term, exact[name])


@pytest.mark.parametrize("shape", [(2, 8, 5), (2, 4, 11)])
def test_autocast_changes_nothing(make: Make, shape: Shape) -> None:
    objective = make(shape)
    fields = batch(shape, dtype=torch.float32)
    plain, plain_grads = loss_and_grads(objective, fields)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        leaves = {name: value.clone().requires_grad_() for name, value in fields.items()}
        cast = loss_of(objective, leaves)
    assert torch.equal(cast, plain)
    cast.backward()  # outside, as torch asks: autocast lowers the products of a backward pass run inside it
    for name, gradient in plain_grads.items():
        assert gradient is None or torch.equal(gradient, leaves[name].grad)


@pytest.mark.parametrize("training", [True, False])
def test_forward_changes_no_state(make: Make, training: bool) -> None:
    objective = make((2, 8, 5))
    views = Views(**batch((2, 8, 5)))
    objective.double().train(training)
    update(objective, views)
    before = {name: buffer.clone() for name, buffer in objective.state_dict().items()}
    first, second = objective(views).terms, objective(views).terms
    after = objective.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_state_dict_restores_the_objective(make: Make) -> None:
    views = Views(**batch((2, 8, 5)))
    objective = make((2, 8, 5)).double()
    update(objective, views)
    restored = make((2, 8, 5)).double()
    restored.load_state_dict(objective.state_dict(), strict=True)
    assert torch.equal(restored(views).total, objective(views).total)


@pytest.mark.parametrize("shape", [(2, 7, 4), (2, 4, 11)])
def test_two_views_equal_the_naive_formula(method: str, make: Make, shape: Shape) -> None:
    objective = make(shape)
    views = Views(**batch(shape, seed=2))
    update(objective.double(), views)  # a closed-form predictor comes from this very batch then
    assert objective(views).total.item() == pytest.approx(naive_loss(method, views), rel=1e-12, abs=1e-12)


@pytest.mark.parametrize("num_views", [3, 4])
def test_more_views_keep_the_size_of_the_loss(make: Make, num_views: int) -> None:
    """Exchangeable views: the loss of V of them is near the mean two-view loss (the negatives of NT-Xent grow)."""
    fields = batch((num_views, 64, 8), seed=4)
    objective, two_views = make((num_views, 64, 8)).double(), make((2, 64, 8)).double()
    for each in (objective, two_views):  # the same state in both
        update(each, Views(**fields))
    pairs = [(a, b) for a in range(num_views) for b in range(num_views) if a < b]
    two = np.mean([loss_of(two_views, {n: f[[a, b]] for n, f in fields.items()}).item() for a, b in pairs])
    growth = np.log((num_views * 64 - 1) / (2 * 64 - 1)) if "logsumexp" in objective(Views(**fields)).terms else 0.0
    assert loss_of(objective, fields).item() - growth == pytest.approx(two, rel=0.02)


@pytest.mark.ddp
@pytest.mark.parametrize(("num_views", "width"), [(2, 20), (3, 5)])
def test_processes_agree(processes: ProcessPool, method: str, num_views: int, width: int) -> None:
    """1, 2 and 4 processes with different images: the same losses, parameter gradients and state in float64."""
    losses, alone = two_steps(method, num_views, width)
    assert any(np.abs(value).max() > 1e-4 for name, value in alone.items() if name.startswith("gradient"))
    for size in (2, 4):
        answers = processes.run(size, two_steps, method, num_views, width)
        for name, value in answers[0][1].items():  # to the bit: processes that drift apart never meet again
            assert all(np.array_equal(value, other[name]) for _, other in answers), name
        for rank_losses, found in answers:
            assert rank_losses == pytest.approx(losses, rel=1e-10, abs=1e-10)
            assert found.keys() == alone.keys()
            for name, value in alone.items():
                np.testing.assert_allclose(found[name], value, rtol=1e-10, atol=1e-10, err_msg=name)


def test_embeddings_beyond_float32_are_seen(make: Make) -> None:
    """Squares of 1e20 are infinite in float32. A loss that stayed finite, without a gradient, would hide it."""
    shape = (2, 8, 4)
    views = Views(**{name: 1e20 * value.float() for name, value in batch(shape).items()})
    assert not torch.isfinite(make(shape).float()(views).total)


def test_missing_field_is_named(method: str, make: Make) -> None:
    objective = make((2, 4, 3))
    fields: dict[str, Tensor | None] = dict(batch((2, 4, 3)))
    for name in needs_of(method).reads:
        with pytest.raises(ValueError, match=rf"Views\.{name}\b"):
            objective(Views(**(fields | {name: None})))


@pytest.mark.parametrize("section", ["Definition", "Normalisation", "Shapes", "Cost", "Raises", "Reference"])
def test_docstring_has_every_section(method: str, section: str) -> None:
    assert re.search(rf"^\s+{section}\n\s+\S", type(objective_of(method, 5)).__doc__ or "", re.MULTILINE)


def test_every_option_has_a_default_and_a_sentence(method: str) -> None:
    cls = config_class(method)
    bases = [base for base in cls.__mro__ if dataclasses.is_dataclass(base)]
    bodies = [ast.parse(textwrap.dedent(inspect.getsource(base))).body[0] for base in bases]
    documented = {
        field.target.id
        for body in bodies
        if isinstance(body, ast.ClassDef)
        for field, text in pairwise(body.body)
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)
        if isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant)
    }
    assert {name for name in documented if name != "card"} == {field.name for field in dataclasses.fields(cls)}
    assert dataclasses.is_dataclass(cls())
    assert dataclasses.replace(cls()) == cls()
