"""VICReg's terms on BYOL and SimSiam, and what the two do without stop-gradient or predictor."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from eigenview.errors import UserError
from eigenview.methods.byol import BYOL, BYOLConfig
from eigenview.methods.simsiam import SimSiam, SimSiamConfig
from eigenview.methods.vicreg import VICReg, VICRegConfig
from eigenview.views import Views


def fields(views: int = 2) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    make = lambda width: 0.4 * torch.randn(views, 9, width, generator=generator, dtype=torch.float64)  # noqa: E731
    return {"h": make(7), "z": make(4), "p": make(4), "z_target": make(4)}


@pytest.mark.parametrize(("site", "field"), [("representation", "h"), ("projector", "z"), ("predictor", "p")])
@pytest.mark.parametrize(("method", "config"), [(BYOL, BYOLConfig), (SimSiam, SimSiamConfig)])
def test_terms_are_vicregs_summed_over_views_at_the_site(method, config, site: str, field: str) -> None:
    given = fields()
    plain = method()(Views(**given)).terms
    terms = method(config(variance=3.0, covariance=0.5, site=site))(Views(**given)).terms
    reference = VICReg(VICRegConfig(invariance=0, variance=6.0, covariance=0.5))(Views(z=given[field])).terms
    assert terms["similarity"] == plain["similarity"]
    for name in ("variance", "covariance"):
        assert reference[name] > 1e-3
        torch.testing.assert_close(terms[name], reference[name])


@pytest.mark.parametrize(("method", "config"), [(BYOL, BYOLConfig), (SimSiam, SimSiamConfig)])
def test_a_weight_of_zero_leaves_the_term_out(method, config) -> None:
    assert set(method(config(variance=1.0))(Views(**fields())).terms) == {"similarity", "variance"}
    assert set(method()(Views(**fields())).terms) == {"similarity"}
    assert "h" in config(covariance=1.0, site="representation").needs.reads
    assert "h" not in config(site="representation").needs.reads
    assert config().needs.parts == "exact"
    assert config(variance=1.0).needs.parts == "no"  # a statistic of the whole batch


@pytest.mark.parametrize("field", ["variance", "covariance", "gamma"])
def test_negative_weights_are_refused_by_name(field: str) -> None:
    with pytest.raises(UserError, match=rf"method\.{field} is -1"):
        BYOLConfig(**{field: -1.0})


def test_byol_without_stop_gradient_sends_gradient_to_its_target() -> None:
    given = {name: value.requires_grad_() for name, value in fields().items()}
    BYOL(BYOLConfig(stop_gradient=False))(Views(**given)).total.backward()
    assert given["z_target"].grad is not None
    assert given["z_target"].grad.abs().max() > 1e-3


@pytest.mark.parametrize("stops", [True, False], ids=["stop-gradient", "no stop-gradient"])
def test_a_linear_encoder_without_predictor_collapses_at_the_rate_of_theory(stops: bool) -> None:
    """J = 1/2 E|W x1 - sg(W x2)|^2 with decay eta: dW/dt = -W (X' + eta I); without the stop, -W (2 X' + eta I).

    X' = E Var[x'|x] is the augmentation's covariance, here diag(0.3, 0.6, 1.2): every column of W shrinks at its own
    rate, whatever X is. Measured over SGD steps on fresh batches through the objective, to 5 per cent.
    """
    generator = torch.Generator().manual_seed(1)
    noise = torch.tensor([0.3, 0.6, 1.2], dtype=torch.float64)
    eta, rate, steps, samples = 0.05, 0.01, 150, 4000
    W = torch.randn(2, 3, generator=generator, dtype=torch.float64).requires_grad_()
    start = W.detach().clone()
    optimizer = torch.optim.SGD([W], lr=rate, weight_decay=eta)
    objective = BYOL(BYOLConfig(normalise=False, stop_gradient=stops))
    for _ in range(steps):
        x = 2 * torch.randn(1, samples, 3, generator=generator, dtype=torch.float64)
        x = x + noise.sqrt() * torch.randn(2, samples, 3, generator=generator, dtype=torch.float64)
        z = x @ W.T
        optimizer.zero_grad()
        (objective(Views(p=z, z_target=z)).total / 4).backward()  # |.|^2 summed over two directions: 4 J
        optimizer.step()
    measured = -(W.detach().norm(dim=0) / start.norm(dim=0)).log() / (rate * steps)
    expected = (noise if stops else 2 * noise) + eta
    torch.testing.assert_close(measured, expected, rtol=0.05, atol=0)
    assert (measured[1:] > measured[:-1] * 1.3).all()
    assert math.isfinite(float(measured.sum()))
