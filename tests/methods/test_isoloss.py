"""IsoLoss: the transplanted gradient, its published values, the authors' order."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import pytest
import torch
from torch import Tensor

from eigenview.errors import UserError
from eigenview.functional.predictors import predictor_matrix, second_moment
from eigenview.methods.directset import DirectSet, DirectSetConfig
from eigenview.methods.isoloss import IsoLoss, IsoLossConfig, straight_through
from eigenview.methods.parts.closed_form import ClosedFormPredictor
from eigenview.methods.parts.isoloss_values import cosine_value, euclidean_value, root
from eigenview.methods.parts.regression import between_views, regression
from eigenview.views import Views
from tests.methods.stepping import update


def batch(views: int = 2) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    scale = torch.linspace(0.3, 2, 5, dtype=torch.float64)
    z, t = (torch.randn(views, 9, 5, generator=generator, dtype=torch.float64) * scale + 0.2 for _ in range(2))
    return z, t


def made(views: int = 2, **options: Any) -> tuple[IsoLoss, Tensor, Tensor]:
    z, t = batch(views)
    objective = IsoLoss(IsoLossConfig(**options), width=5).double()
    update(objective, Views(z=z, z_target=t))
    return objective, z.requires_grad_(), t


def gradient(objective: IsoLoss, z: Tensor, t: Tensor) -> Tensor:
    return torch.autograd.grad(objective(Views(z=z, z_target=t)).total, z)[0]


def published_value(z: Tensor, t: Tensor, W: Tensor, is_cosine: bool) -> Tensor:
    """Twice the mean over ordered pairs of the program's loss; W (V D D), a matrix for each view."""
    p, pairs = z @ W.mT, permutations(range(len(z)), 2)
    if is_cosine:
        each = [cosine_value(z[a], p[a], t[b], root(W[a])) for a, b in pairs]
    else:
        each = [euclidean_value(z[a], p[a], t[b]) for a, b in pairs]
    return 2 * torch.stack(each).mean()


@pytest.mark.parametrize("views", [2, 3])
@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize("options", [{"alpha": 0.5}, {"alpha": 1.0, "eps": 0.25}], ids=str)
def test_both_forms_have_the_transplanted_gradient(views: int, metric: str, options: dict[str, Any]) -> None:
    """Equal to each other and to dr/dp at p = W_p z, without W_p^T, to 1e-10."""
    objective, z, t = made(views, metric=metric, **options)
    through = gradient(objective, z, t)
    W = objective.predictor.W.detach().expand(views, -1, -1)
    (value,) = torch.autograd.grad(published_value(z, t, W, metric == "cosine"), z)
    torch.testing.assert_close(through, value, rtol=1e-10, atol=1e-10)

    p = objective.predictor.predict(z).detach().requires_grad_()
    pairs = list(permutations(range(views), 2))
    r = 2 * torch.stack([regression(p[a], t[b], metric == "cosine") for a, b in pairs]).mean()
    transplanted = torch.autograd.grad(r, p)[0]
    torch.testing.assert_close(through, transplanted, rtol=1e-10, atol=1e-10)
    through_predictor = torch.einsum("vnd,vde->vne", transplanted, W)
    assert not torch.allclose(through, through_predictor, rtol=1e-2)  # what DirectSet would send instead


@pytest.mark.parametrize("views", [2, 3])
@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_in_the_authors_order_both_forms_have_one_gradient_too(views: int, metric: str) -> None:
    """F moves view by view before the prediction, and each view is predicted with the matrix just computed."""
    z, t = batch(views)
    W = authors_matrices(z, IsoLossConfig())
    z.requires_grad_()
    p, pairs = z @ W.mT, list(permutations(range(views), 2))
    loss = between_views(straight_through(z, p), t, pairs, metric == "cosine")
    (through,) = torch.autograd.grad(loss, z)
    (value,) = torch.autograd.grad(published_value(z, t, W, metric == "cosine"), z)
    torch.testing.assert_close(through, value, rtol=1e-10, atol=1e-10)


def authors_matrices(z: Tensor, config: IsoLossConfig, **options: Any) -> Tensor:
    """W_p (V D D) after each view of one batch, as IsoLoss's program computes them."""
    predictor = ClosedFormPredictor(config, 5, start="identity", eps_inside=True, **options).double()
    found = []
    for view in z:
        predictor.update(second_moment(view[None]), view.mean(dim=0))
        found.append(predictor.W.detach().clone())
    return torch.stack(found)


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_straight_through_has_the_value_of_the_loss_it_replaces(metric: str) -> None:
    objective, z, t = made(metric=metric)
    same = DirectSetConfig(alpha=0.5, rho=0.998, eps=0.0, floor=0.0, normalise=metric == "cosine")
    plain = DirectSet(same, width=5).double()
    views = Views(z=z, z_target=t)
    update(plain, views)
    torch.testing.assert_close(objective(views).total, plain(views).total, rtol=1e-12, atol=1e-12)


def test_the_cosine_value_is_no_cosine() -> None:
    """Identity predictor and equal views: z.t/(|p||t|) - 1/2 is 1/2, whatever the scale, where the cosine is 1."""
    z = batch()[0][:1].repeat(2, 1, 1)
    W = IsoLoss(width=5).double().predictor.W.detach()  # not updated: the identity
    for scale in (1.0, 7.0):
        assert published_value(scale * z, z, W.expand(2, -1, -1), True).item() == pytest.approx(-2.0)


def test_the_authors_order_moves_view_by_view_before_the_prediction() -> None:
    z, _ = batch()
    first = 0.5 * second_moment(z[:1])
    second = 0.5 * first + 0.5 * second_moment(z[1:])
    for W, F in zip(authors_matrices(z, IsoLossConfig(rho=0.5), initial="zero"), (first, second), strict=True):
        torch.testing.assert_close(W, predictor_matrix(F, 0.5, 0.0, eps_inside=True), rtol=1e-9, atol=1e-9)


def test_a_ready_predictor_takes_the_place_of_the_one_by_the_config() -> None:
    config, (z, t) = IsoLossConfig(eps=0.2), batch()
    predictor = ClosedFormPredictor(config, 5, normalise_by="none").double()
    objective = IsoLoss(config, predictor=predictor)
    update(objective, Views(z=z, z_target=t))
    matrix = predictor_matrix(second_moment(z), 0.5, 0.2, normalise_by="none")
    torch.testing.assert_close(objective.predictor.W.detach(), matrix)
    with pytest.raises(ValueError, match="width=D"):
        IsoLoss(config)


def test_the_root_is_that_of_the_matrix() -> None:
    z, _ = batch()
    matrix = second_moment(z)
    found = root(matrix)
    torch.testing.assert_close(found @ found, matrix)
    torch.testing.assert_close(found, found.mT)


def test_large_embeddings_do_not_overflow() -> None:
    """|p|^3 of half precision overflows at 40; float32 is used whatever comes in."""
    objective = IsoLoss(width=5)
    z = (1e3 * batch()[0]).to(torch.float16).requires_grad_()
    views = Views(z=z, z_target=z.detach())
    update(objective, views)
    objective(views).total.backward()
    assert z.grad is not None
    assert z.grad.isfinite().all()
    x = z.detach().float().requires_grad_()
    W = objective.predictor.W.detach().expand(2, -1, -1)
    (by_value,) = torch.autograd.grad(published_value(x, x.detach(), W, True), x)
    assert by_value.isfinite().all()


@pytest.mark.parametrize(("field", "value"), [("alpha", -0.5), ("alpha", 0.0), ("rho", 1.0), ("eps", -1e-9)])
def test_bad_options_are_refused_by_name(field: str, value: object) -> None:
    with pytest.raises(UserError, match=rf"method\.{field} is {value}"):
        IsoLossConfig(**{field: value})  # type: ignore[arg-type]


def test_an_unknown_metric_is_refused_by_name() -> None:
    with pytest.raises((UserError, TypeError), match="metric"):
        IsoLossConfig(metric="manhattan")  # type: ignore[arg-type]


def test_a_matrix_that_gradient_never_reaches_must_be_refreshed() -> None:
    with pytest.raises(UserError, match=r"method\.refresh_every is 5"):
        IsoLossConfig(refresh_every=5)
