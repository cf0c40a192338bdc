"""VICReg where its value is known: constant and white embeddings, the hinge, pairs, the two conventions."""

from __future__ import annotations

from itertools import combinations

import pytest
import torch

from eigenview.errors import UserError
from eigenview.methods.base import total
from eigenview.methods.vicreg import VICReg, VICRegConfig, covariance, invariance, variance
from eigenview.views import Views
from tests.draws import random, whitened


def test_constant_embeddings() -> None:
    terms = VICReg()(Views(z=torch.full((2, 10, 4), 0.7, dtype=torch.float64)))
    assert total(terms).item() == pytest.approx(24.75, rel=1e-12)
    assert terms["variance"].item() == pytest.approx(25 * 0.99, rel=1e-12)


def test_white_embeddings_cost_nothing() -> None:
    z = 2 * whitened(12, 5)
    assert total(VICReg()(Views(z=torch.stack([z, z])))).item() == pytest.approx(0, abs=1e-12)


def test_dimensions_wide_enough_get_no_variance_gradient() -> None:
    z = (random(2, 12, 4) * torch.tensor([5, 5, 0.1, 0.1])).requires_grad_()
    variance(z, 1.0, 1e-4).backward()
    assert z.grad is not None
    assert torch.equal(z.grad[..., :2], torch.zeros_like(z.grad[..., :2]))
    assert (z.grad[..., 2:].abs().amax((0, 1)) > 0).all()


def test_invariance_is_the_mean_over_all_pairs() -> None:
    for views in (2, 3, 5):
        z = random(views, 6, 4) + 3
        pairs = [(z[a] - z[b]).square().mean() for a, b in combinations(range(views), 2)]
        torch.testing.assert_close(invariance(z), torch.stack(pairs).mean(), rtol=1e-12, atol=0)


def test_regularisers_are_means_over_single_views() -> None:
    z = random(4, 9, 3)
    for term in (lambda x: variance(x, 1.0, 1e-4), covariance):
        each = torch.stack([term(view[None]) for view in z])
        torch.testing.assert_close(term(z), each.mean(), rtol=1e-12, atol=0)


def test_conventions_differ_as_documented() -> None:
    views, width = Views(z=random(2, 8, 6)), 6
    code, paper = VICReg()(views), VICReg(VICRegConfig(convention="paper"))(views)
    torch.testing.assert_close(paper["invariance"], width * code["invariance"])
    torch.testing.assert_close(paper["variance"], 2 * code["variance"])
    torch.testing.assert_close(paper["covariance"], code["covariance"])


@pytest.mark.parametrize("term", ["invariance", "variance", "covariance"])
def test_a_weight_of_zero_removes_its_term_and_negative_is_refused(term: str) -> None:
    terms = VICReg(VICRegConfig(**{term: 0}))(Views(z=random(2, 8, 6)))
    assert terms[term] == 0
    assert sum(value != 0 for value in terms.values()) == 2
    with pytest.raises(UserError, match=f"objective.{term} is -1"):
        VICRegConfig(**{term: -1})


def test_other_bad_options_are_named() -> None:
    for option, bad in {"gamma": 0.0, "eps": 0.0, "convention": "slides"}.items():
        with pytest.raises((UserError, TypeError), match=option):
            VICRegConfig(**{option: bad})  # type: ignore[arg-type]
