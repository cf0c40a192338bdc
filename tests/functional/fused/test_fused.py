"""What every provider guarantees: the value and gradients of its plain form, little memory, one derivative."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from eigenview.errors import UserError
from eigenview.functional.fused import strips
from tests.draws import random
from tests.functional.fused.cases import CASES, KEEP_A_MATRIX, Case

# (views, samples, width): either matrix the smaller one, equal sides, as few samples as there can be
SHAPES = [(2, 7, 5), (2, 5, 9), (2, 6, 6), (3, 5, 9), (3, 9, 4), (4, 8, 3), (4, 3, 11), (2, 2, 3)]


@pytest.fixture(params=list(CASES))
def case(request: pytest.FixtureRequest) -> Case:
    made, shape = CASES[request.param], request.node.callspec.params.get("shape")
    if shape is not None and shape[1] < made.least:
        pytest.skip(f"needs {made.least} samples")
    return made


@pytest.fixture(params=["one strip", "several strips"])
def length(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Small batches in one strip, as they come, and in strips of two rows."""
    if request.param == "several strips":
        monkeypatch.setitem(strips.SHORTEST, "cpu", 2)


def batch(shape: tuple[int, ...], seed: int = 0) -> Tensor:
    """Views that agree in part, features of different means and sizes."""
    z = random(*shape[1:], seed=seed) + 0.5 * random(*shape, seed=seed + 1)
    return z * (0.3 + random(shape[-1], seed=seed + 2).abs()) + random(shape[-1], seed=seed + 3)


def total(terms: tuple[Tensor, ...], weights: tuple[float, ...] = (1.0, 1.0, 1.0)) -> Tensor:
    """The weighted sum of the terms."""
    return torch.stack([w * t for w, t in zip(weights, terms, strict=False)]).sum()


def values_and_gradients(terms: tuple[Tensor, ...], z: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    """Each term, and each term's own gradient."""
    gradients = [torch.autograd.grad(term, z, retain_graph=True)[0] for term in terms]
    return [term.detach() for term in terms], gradients


@pytest.mark.usefixtures("length")
@pytest.mark.parametrize("shape", SHAPES)
def test_equal_to_the_plain_form_in_float64(case: Case, shape: tuple[int, ...]) -> None:
    z = batch(shape).requires_grad_()
    values, gradients = values_and_gradients(case.fused(z), z)
    expected, expected_gradients = values_and_gradients(case.plain(z), z)
    for value, other, size in zip(values, expected, case.sizes(z.detach()), strict=True):
        assert (value - other).abs() <= 1e-10 * size
    for gradient, other in zip(gradients, expected_gradients, strict=True):
        assert (gradient - other).norm() <= 1e-10 * other.norm()


# two samples are left out: the standardised ones are +-1 whatever they were, and their gradient is rounding
@pytest.mark.parametrize("shape", [*SHAPES[:-1], (2, 40, 300), (2, 300, 40), (3, 150, 130)])
def test_equal_to_the_plain_form_in_float32(case: Case, shape: tuple[int, ...]) -> None:
    """To 1e-6 of the truth, the plain form in float64 at the same numbers.

    Few samples leave little of Barlow Twins' gradient: it is what standardising does not undo. Where the plain form in
    float32 is itself off by a third of 1e-6 or more, three times its error is allowed.
    """
    z = batch(shape).float().requires_grad_()
    exact = z.detach().double().requires_grad_()
    values, gradients = values_and_gradients(case.fused(z), z)
    expected, expected_gradients = values_and_gradients(case.plain(exact), exact)
    for value, other, size in zip(values, expected, case.sizes(exact.detach()), strict=True):
        assert value.dtype == torch.float32
        assert (value - other).abs() <= 1e-6 * size
    rounded_gradients = values_and_gradients(case.plain(z), z)[1]
    for gradient, other, rounded in zip(gradients, expected_gradients, rounded_gradients, strict=True):
        assert gradient.dtype == torch.float32
        assert (gradient - other).norm() <= max(1e-6 * other.norm(), 3 * (rounded - other).norm())


@pytest.mark.usefixtures("length")
@pytest.mark.parametrize("shape", [(2, 4, 3), (2, 4, 6), (2, 3, 5), (3, 3, 4), (4, 3, 2)])
def test_gradcheck(case: Case, shape: tuple[int, ...]) -> None:
    """Of all terms, with unequal weights as well: gradcheck draws the gradients of the outputs at random."""
    assert torch.autograd.gradcheck(case.fused, batch(shape).requires_grad_(), check_undefined_grad=True)


@pytest.mark.parametrize("shape", [(2, 7, 5), (3, 5, 9)])
def test_any_weights_of_the_terms(case: Case, shape: tuple[int, ...]) -> None:
    z = batch(shape).requires_grad_()
    weights = (1.3, -0.4, 2.5)
    found, expected = (torch.autograd.grad(total(form(z), weights), z)[0] for form in (case.fused, case.plain))
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("shape", [(2, 7, 5), (3, 5, 9)])
def test_the_input_may_be_strided_and_is_not_changed(case: Case, shape: tuple[int, ...]) -> None:
    plain = batch(shape)
    wide = torch.stack([plain, -plain], dim=-1).permute(2, 1, 0, 3)  # (D N V 2)
    strided = wide[..., 0].permute(2, 1, 0)
    assert not strided.is_contiguous()
    assert torch.equal(strided, plain)
    results = []
    for z in (plain.clone(), strided):
        x = z.detach().requires_grad_()
        results.append(values_and_gradients(case.fused(x), x))
        assert torch.equal(x, plain)
    torch.testing.assert_close(results[0], results[1], rtol=1e-12, atol=1e-14)


def test_a_view_without_gradient(case: Case) -> None:
    """The others get what they get when all of them need one."""
    z = batch((3, 6, 4))
    whole = z.clone().requires_grad_()
    expected = values_and_gradients(case.fused(whole), whole)[1]
    views = [z[0].clone().requires_grad_(), z[1].clone(), z[2].clone().requires_grad_()]
    terms = case.fused(torch.stack(views))
    for term, gradient in zip(terms, expected, strict=True):
        first, last = torch.autograd.grad(term, [views[0], views[2]], retain_graph=True)
        torch.testing.assert_close(first, gradient[0], rtol=1e-12, atol=1e-14)
        torch.testing.assert_close(last, gradient[2], rtol=1e-12, atol=1e-14)
    total(terms).backward()
    assert views[1].grad is None


@pytest.mark.parametrize("shape", [(2, 7, 5), (3, 5, 9)])
def test_values_without_gradient(case: Case, shape: tuple[int, ...]) -> None:
    z = batch(shape)
    expected = [term.detach() for term in case.fused(z.clone().requires_grad_())]
    constant = case.fused(z)
    with torch.no_grad():
        unrecorded = case.fused(z.clone().requires_grad_())
    for terms in (constant, unrecorded):
        assert not any(term.requires_grad for term in terms)
        torch.testing.assert_close(list(terms), expected, rtol=1e-13, atol=1e-13)


def test_backward_twice_with_a_retained_graph_gives_the_same(case: Case) -> None:
    z = batch((2, 6, 4)).requires_grad_()
    terms = case.fused(z)
    first, second = (values_and_gradients(terms, z)[1] for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_a_second_derivative_is_refused(case: Case) -> None:
    """Also where the first has a constant factor, in which `once_differentiable` would see nothing to refuse."""
    z = batch((2, 6, 4)).requires_grad_()
    for weight in (1.0, torch.tensor(2.0, dtype=z.dtype, requires_grad=True)):
        loss = total(case.fused(z)) * weight
        (gradient,) = torch.autograd.grad(loss, z, create_graph=True)  # alone this is allowed
        with pytest.raises(UserError, match=r"differentiated twice.*once"):
            torch.autograd.grad(gradient.square().sum(), z)
    (gradient,) = torch.autograd.grad(total(case.fused(z)), z, create_graph=True)
    with pytest.raises(UserError, match="differentiated twice"):
        (total(case.plain(z)) + gradient.square().sum()).backward()


@pytest.mark.parametrize("shape", [(2, 8, 4), (2, 4, 9), (3, 6, 5)])
def test_constant_features_and_equal_embeddings(case: Case, shape: tuple[int, ...]) -> None:
    """A constant feature, a constant view, and all rows equal: finite, and as the plain form."""
    ragged, still = batch(shape), batch(shape)
    ragged[..., 0] = 3.0
    still[1] = still[1, :1]
    for x in (ragged, still, torch.full(shape, 0.5, dtype=torch.float64), torch.zeros(shape, dtype=torch.float64)):
        z = x.clone().requires_grad_()
        values, gradients = values_and_gradients(case.fused(z), z)
        expected, expected_gradients = values_and_gradients(case.plain(z), z)
        torch.testing.assert_close(values, expected, rtol=1e-10, atol=1e-12)
        torch.testing.assert_close(gradients, expected_gradients, rtol=1e-9, atol=1e-11)


class Shapes(TorchDispatchMode):
    """Keeps the shape of every tensor that any operation gives back."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[tuple[int, ...]] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for each in out if isinstance(out, tuple | list) else (out,):
            if isinstance(each, Tensor):
                self.seen.add(tuple(each.shape))
        return out


def shapes_of(form: Any, z: Tensor) -> set[tuple[int, ...]]:
    with Shapes() as mode:
        total(form(z)).backward()
    return mode.seen


@pytest.mark.parametrize("shape", [(2, 300, 200), (2, 200, 320), (3, 200, 640)])
@pytest.mark.parametrize("name", list(CASES))
def test_no_large_matrix_ever_exists(name: str, shape: tuple[int, ...]) -> None:
    """Never V N x V N nor the larger of N x N and D x D, and the smaller one only where it is what the gradient needs.

    The plain forms hold one of them, which shows that the test can see."""
    views, samples, width = shape

    def sides(form: Any) -> set[int]:
        found = shapes_of(form, batch(shape).requires_grad_())
        squares = {s[-1] for s in found if len(s) >= 2 and s[-1] == s[-2]}
        return squares & {width, samples, views * samples}

    keeps = {min(samples, width)} if name in KEEP_A_MATRIX else set[int]()
    assert sides(CASES[name].fused) == keeps
    assert sides(CASES[name].plain)
    with torch.no_grad(), Shapes() as mode:  # values alone need no matrix at all
        CASES[name].fused(batch(shape))
    assert not [s for s in mode.seen if len(s) >= 2 and s[-1] == s[-2] and s[-1] in (samples, width)]


def test_what_is_kept_for_the_backward_pass(case: Case) -> None:
    """z itself, at most one more tensor of its size, and small change."""
    z = batch((2, 40, 60)).requires_grad_()
    sizes: dict[int, int] = {}

    def pack(x: Tensor) -> Tensor:
        if x.data_ptr() != z.data_ptr():
            sizes[x.data_ptr()] = x.numel()
        return x

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        terms = case.fused(z)
    assert sum(sizes.values()) < 1.3 * z.numel()
    total(terms).backward()


@pytest.mark.gpu
@pytest.mark.parametrize("shape", [(2, 700, 520), (3, 520, 700)])
def test_on_a_gpu_nothing_waits_and_the_numbers_are_the_same(case: Case, shape: tuple[int, ...]) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    z = batch(shape)
    expected = z.clone().requires_grad_()
    total(case.fused(expected)).backward()
    there = z.cuda().requires_grad_()
    for mode in ("default", "error"):  # once to warm up
        there.grad = None
        torch.cuda.set_sync_debug_mode(mode)
        try:
            total(case.fused(there)).backward()
        finally:
            torch.cuda.set_sync_debug_mode("default")
    assert there.grad is not None
    torch.testing.assert_close(there.grad.cpu(), expected.grad, rtol=1e-9, atol=1e-10)
