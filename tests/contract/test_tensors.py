"""Objectives called with tensors, as in a training loop of one's own: the scalar loss, for any number of views."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import eigenview as ev
from eigenview.errors import UserError
from eigenview.methods import METHODS
from eigenview.views import Views
from tests.contract.test_objectives import batch, make_objective, needs_of

KEEPS_STATE = {"directcopy", "directpred", "directset", "isoloss"}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("num_views", [2, 3])
def test_tensors_give_the_sum_of_the_terms(method: str, num_views: int) -> None:
    shape = (num_views, 6, 5)
    objective = make_objective(method, shape).double()
    fields = {name: value for name, value in batch(shape).items() if name in needs_of(method).reads | {"z"}}
    named = {name: list(value) for name, value in fields.items() if name != "z"}
    if method in KEEPS_STATE:
        with pytest.raises(UserError, match=rf"{type(objective).__name__} keeps a state.*objective\.update"):
            objective(*fields["z"], **named)
        return
    expected = objective(Views(**fields)).total
    for given in (fields["z"].unbind(), (fields["z"],)):
        found = objective(*given, **named)
        assert found.shape == ()
        torch.testing.assert_close(found, expected, rtol=0, atol=0)


def test_the_gradient_reaches_each_tensor() -> None:
    z1, z2 = (torch.randn(8, 4, generator=torch.Generator().manual_seed(k)).requires_grad_() for k in range(2))
    ev.VICReg()(z1, z2).backward()
    together = torch.stack([z1, z2]).detach().requires_grad_()
    ev.VICReg()(Views(z=together)).total.backward()
    found = torch.stack([z1.grad, z2.grad])  # type: ignore[list-item]
    torch.testing.assert_close(found, together.grad)


@pytest.mark.parametrize(
    ("given", "named", "message"),
    [
        ((), {}, "at least one of h, z, p, z_target"),
        ((torch.zeros(4, 3),), {}, r"the shape of z is \[\(4, 3\)\].*two tensors \(n, width\)"),
        ((torch.zeros(4, 3), torch.zeros(4, 2)), {}, r"\(4, 3\), \(4, 2\)"),
        ((torch.zeros(2, 4, 3), torch.zeros(2, 4, 3)), {}, r"\(2, 4, 3\), \(2, 4, 3\)"),
        ((np.zeros((4, 3)), np.zeros((4, 3))), {}, "z is 'ndarray'; allowed: torch tensors"),
        ((torch.zeros(2, 4, 3),), {"p": [torch.zeros(4, 3)] * 3}, "disagree on .views, samples."),
        ((torch.zeros(1, 4, 3),), {}, "1 view"),
    ],
)
def test_what_is_no_batch_of_views_is_refused(given: tuple[Any, ...], named: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):  # UserError is one
        ev.VICReg()(*given, **named)


def test_a_method_that_keeps_a_state_is_used_with_views_of_tensors() -> None:
    """The way that the refusal names."""
    objective = ev.DirectPred(width=5)
    z, target = (torch.randn(2, 8, 5, generator=torch.Generator().manual_seed(k)) for k in range(2))
    out = objective(Views.of(*z.requires_grad_(), z_target=list(target)))
    out.total.backward()
    before = objective.predictor.W.clone()
    objective.update(out.carry, ev.Clock())
    assert not torch.equal(objective.predictor.W, before)
