"""VICReg where its value is known: constant and white embeddings, the hinge, pairs, the paper's sums."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations

import pytest
import torch
from torch import Tensor

from eigenview.errors import UserError
from eigenview.methods.vicreg import VICReg, VICRegConfig
from eigenview.views import Views
from tests.draws import random, whitened


def terms(z: Tensor) -> Mapping[str, Tensor]:
    """Without weights, with gamma 1 and eps 1e-4; covariance summed over two views is halved to the mean."""
    found = VICReg(VICRegConfig(invariance=1, variance=1, covariance=0.5))
    return found(Views(z=z)).terms


def test_constant_embeddings() -> None:
    loss = VICReg()(Views(z=torch.full((2, 10, 4), 0.7, dtype=torch.float64)))
    assert loss.total.item() == pytest.approx(24.75, rel=1e-12)
    assert loss.terms["variance"].item() == pytest.approx(25 * 0.99, rel=1e-12)


def test_white_embeddings_cost_nothing() -> None:
    z = 2 * whitened(12, 5)
    assert VICReg()(Views(z=torch.stack([z, z]))).total.item() == pytest.approx(0, abs=1e-12)


def test_dimensions_wide_enough_get_no_variance_gradient() -> None:
    z = (random(2, 12, 4) * torch.tensor([5, 5, 0.1, 0.1])).requires_grad_()
    terms(z)["variance"].backward()
    assert z.grad is not None
    assert torch.equal(z.grad[..., :2], torch.zeros_like(z.grad[..., :2]))
    assert (z.grad[..., 2:].abs().amax((0, 1)) > 0).all()


def test_invariance_is_the_mean_over_all_pairs() -> None:
    for views in (2, 3, 5):
        z = random(views, 6, 4) + 3
        pairs = [(z[a] - z[b]).square().mean() for a, b in combinations(range(views), 2)]
        torch.testing.assert_close(terms(z)["invariance"], torch.stack(pairs).mean(), rtol=1e-12, atol=0)


def test_regularisers_are_means_over_single_views() -> None:
    z = random(4, 9, 3)
    for name in ("variance", "covariance"):
        each = torch.stack([terms(torch.stack([view, view]))[name] for view in z])
        torch.testing.assert_close(terms(z)[name], each.mean(), rtol=1e-12, atol=0)


def test_the_papers_sums_by_its_own_equations() -> None:
    """Equations 1 to 6 with lambda = mu = 25, nu = 1: `invariance=25 * D, variance=50`, as the docstring says."""
    z, width = random(2, 8, 6), 6
    found = VICReg(VICRegConfig(invariance=25 * width, variance=50))(Views(z=z)).terms
    v = [(1 - (view.var(dim=0) + 1e-4).sqrt()).clamp_min(0).mean() for view in z]
    off = [torch.cov(view.T) * (1 - torch.eye(width, dtype=z.dtype)) for view in z]
    c = [each.square().sum() / width for each in off]
    torch.testing.assert_close(found["invariance"], 25 * (z[0] - z[1]).square().sum(dim=1).mean())
    torch.testing.assert_close(found["variance"], 25 * (v[0] + v[1]))
    torch.testing.assert_close(found["covariance"], c[0] + c[1])


@pytest.mark.parametrize("term", ["invariance", "variance", "covariance"])
def test_a_weight_of_zero_removes_its_term_and_negative_is_refused(term: str) -> None:
    found = VICReg(VICRegConfig(**{term: 0}))(Views(z=random(2, 8, 6))).terms
    assert found[term] == 0
    assert sum(value != 0 for value in found.values()) == 2
    with pytest.raises(UserError, match=rf"method\.{term} is -1"):
        VICRegConfig(**{term: -1})


def test_other_bad_options_are_named() -> None:
    for option, bad in {"gamma": 0.0, "eps": 0.0, "multiview": "slides"}.items():
        with pytest.raises((UserError, TypeError), match=option):
            VICRegConfig(**{option: bad})  # type: ignore[arg-type]
