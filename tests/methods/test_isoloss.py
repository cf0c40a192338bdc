"""IsoLoss: both forms, the transplanted gradient, the authors' order."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import pytest
import torch
from torch import Tensor

from eigenview.errors import UserError
from eigenview.functional.predictors import predictor_matrix, second_moment
from eigenview.methods.base import total
from eigenview.methods.byol import regression
from eigenview.methods.direct_predictor import DirectSet, DirectSetConfig
from eigenview.methods.isoloss import IsoLoss, IsoLossConfig
from eigenview.views import Views


def batch(views: int = 2) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    scale = torch.linspace(0.3, 2, 5, dtype=torch.float64)
    z, t = (torch.randn(views, 9, 5, generator=generator, dtype=torch.float64) * scale + 0.2 for _ in range(2))
    return z, t


def made(views: int = 2, **options: Any) -> tuple[IsoLoss, Tensor, Tensor]:
    z, t = batch(views)
    objective = IsoLoss(IsoLossConfig(**options), width=5, views=views).double()
    objective.update(Views(z=z, z_target=t))
    return objective, z.requires_grad_(), t


def gradient(objective: IsoLoss, z: Tensor, t: Tensor) -> Tensor:
    return torch.autograd.grad(total(objective(Views(z=z, z_target=t))), z)[0]


@pytest.mark.parametrize("views", [2, 3])
@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize("predictor", [{"alpha": 0.5}, {"alpha": 1.0, "eps": 0.25}, {"order": "before"}], ids=str)
def test_both_forms_have_the_transplanted_gradient(views: int, metric: str, predictor: dict[str, Any]) -> None:
    """Equal to each other and to dr/dp at p = W_p z, without W_p^T, to 1e-10."""
    forms = [made(views, metric=metric, form=form, **predictor) for form in ("straight-through", "value")]
    through, value = (gradient(*each) for each in forms)
    torch.testing.assert_close(through, value, rtol=1e-10, atol=1e-10)

    objective, z, t = forms[0]
    p = objective.predictor.predict(z).detach().requires_grad_()
    pairs = list(permutations(range(views), 2))
    r = 2 * torch.stack([regression(p[a], t[b], metric == "cosine") for a, b in pairs]).mean()
    transplanted = torch.autograd.grad(r, p)[0]
    torch.testing.assert_close(through, transplanted, rtol=1e-10, atol=1e-10)
    through_predictor = torch.einsum("vnd,vde->vne", transplanted, objective.predictor.W.expand(views, -1, -1))
    assert not torch.allclose(through, through_predictor, rtol=1e-2)  # what DirectSet would send instead


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_straight_through_has_the_value_of_the_loss_it_replaces(metric: str) -> None:
    objective, z, t = made(metric=metric)
    same = DirectSetConfig(alpha=0.5, rho=0.998, eps=0.0, floor=0.0, normalise=metric == "cosine")
    plain = DirectSet(same, width=5).double()
    plain.update(Views(z=z, z_target=t))
    views = Views(z=z, z_target=t)
    torch.testing.assert_close(total(objective(views)), total(plain(views)), rtol=1e-12, atol=1e-12)


def test_the_cosine_value_is_no_cosine() -> None:
    """Identity predictor and equal views: z.t/(|p||t|) - 1/2 is 1/2, whatever the scale, where the cosine is 1."""
    z = batch()[0][:1].repeat(2, 1, 1)
    objective = IsoLoss(IsoLossConfig(form="value"), width=5).double()  # not updated: W_p = I
    for scale in (1.0, 7.0):
        assert total(objective(Views(z=scale * z, z_target=z))).item() == pytest.approx(-2.0)


def test_the_authors_order_moves_view_by_view_before_the_prediction() -> None:
    z, t = batch()
    objective = IsoLoss(IsoLossConfig(order="before", initial="zero", rho=0.5), width=5).double()
    assert not objective.updates_last
    objective.update(Views(z=z, z_target=t))
    first = 0.5 * second_moment(z[:1])
    second = 0.5 * first + 0.5 * second_moment(z[1:])
    for W, F in zip(objective.predictor.W, (first, second), strict=True):
        torch.testing.assert_close(W, predictor_matrix(F, 0.5, 0.0, eps_inside=True), rtol=1e-9, atol=1e-9)


def test_large_embeddings_do_not_overflow() -> None:
    """|p|^3 of half precision overflows at 40; float32 is used whatever comes in."""
    objective = IsoLoss(IsoLossConfig(form="value"), width=5)
    z = (1e3 * batch()[0]).to(torch.float16).requires_grad_()
    views = Views(z=z, z_target=z.detach())
    objective.update(views)
    total(objective(views)).backward()
    assert z.grad is not None
    assert z.grad.isfinite().all()


@pytest.mark.parametrize(("field", "value"), [("alpha", -0.5), ("alpha", 0.0), ("rho", 1.0), ("eps", -1e-9)])
def test_bad_options_are_refused_by_name(field: str, value: object) -> None:
    with pytest.raises(UserError, match=rf"objective\.{field}"):
        IsoLossConfig(**{field: value})  # type: ignore[arg-type]


def test_a_matrix_that_gradient_never_reaches_must_be_refreshed() -> None:
    with pytest.raises(UserError, match=r"objective\.refresh_every is 5"):
        IsoLoss(IsoLossConfig(refresh_every=5), width=4)
