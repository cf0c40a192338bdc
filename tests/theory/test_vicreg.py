"""VICReg's minimum in closed form: by hand, against the loss itself, and against gradient descent from many starts."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy import ndarray
from torch import Tensor

from eigenview.errors import UserError
from eigenview.methods.vicreg import VICReg, VICRegConfig
from eigenview.theory.augmentation_graph import eigenfunctions, measure, principal_angles
from eigenview.theory.vicreg import energies, loss, needed_covariance
from eigenview.views import Views
from tests.draws import random

WEIGHTS = {"invariance": 25.0, "variance": 50.0, "gamma": 1.0, "eps": 1e-4}


def positive_graph() -> ndarray:
    """Seven views of five images, each mostly of one: a spectrum with gaps, no negative eigenvalue."""
    q = np.random.default_rng(3).uniform(size=(7, 5)) ** 8
    return q @ q.T


def test_two_features_by_hand() -> None:
    """lambda = 1, values 0.9 and 0.5, v = 1: the second needs 0.4 / 4; at nu = 0.2 energies differ by 0.4 / 0.4."""
    values = np.array([0.9, 0.5])
    np.testing.assert_allclose(needed_covariance(values, invariance=1.0, eps=0.0), [0, 0.1])
    known = {"invariance": 1.0, "variance": 25.0, "eps": 0.0}
    np.testing.assert_allclose(energies(values, covariance=0.2, **known), [1.5, 0.5])
    np.testing.assert_allclose(energies(values, covariance=0.0999, **known), [2, 0])
    np.testing.assert_allclose(energies(values, covariance=1e6, **known), [1, 1], atol=1e-6)
    # at gamma = 2 a variance of 4: energies four times as large, and the weight a quarter
    np.testing.assert_allclose(needed_covariance(values, invariance=1.0, gamma=2.0, eps=0.0), [0, 0.025])
    np.testing.assert_allclose(energies(values, covariance=0.05, gamma=2.0, **known), [6, 2])


def test_energies_minimise_the_sum() -> None:
    """Lagrange's condition: 2 lambda (1 - lambda_k) + 4 nu c_k is equal for kept modes, and not less for the others."""
    values = np.array([0.95, 0.9, 0.82, 0.72, 0.55])
    for nu in (0.05, 0.4, 1.0, 3.0, 50.0):
        c = energies(values, **WEIGHTS, covariance=nu)
        assert c.sum() == pytest.approx(5 * 0.9999)
        derivative = 2 * 25 * (1 - values) + 4 * nu * c
        kept = c > 0
        np.testing.assert_allclose(derivative[kept], derivative[0], rtol=1e-12)
        assert (derivative >= derivative[0] - 1e-9).all()
        np.testing.assert_array_equal(kept, needed_covariance(values) < nu)


def test_equal_eigenvalues_share_alike() -> None:
    np.testing.assert_allclose(energies(np.full(3, 0.8), covariance=1e-3, eps=0.0), 1.0)


def test_the_loss_is_that_of_the_method_over_all_pairs_of_views() -> None:
    """Integer weights as a list of pairs. The method divides variances by N - 1, the theory by N."""
    w = np.random.default_rng(1).integers(0, 4, size=(6, 6))
    w = w + w.T
    a, b = (np.repeat(each.ravel(), w.ravel()) for each in np.indices(w.shape))
    F = random(6, 3).double().numpy() * np.array([0.5, 1.0, 2.0]) + 3
    share = 1 - 1 / len(a)
    weights = {"invariance": 3.0, "variance": 7.0, "covariance": 2.0, "gamma": 1.5, "eps": 1e-3}
    z = torch.from_numpy(np.stack([F[a], F[b]])) * share**0.5
    objective = VICReg(VICRegConfig(**(weights | {"invariance": 3.0 / share})))  # type: ignore[arg-type]
    assert loss(F, w.astype(float), **weights) == pytest.approx(objective(Views(z=z)).total.item(), rel=1e-12)


def descended(w: ndarray, width: int, nu: float, starts: int = 8, steps: int = 1200) -> ndarray:
    """Tables (starts n width) after Adam on the definition itself, pair by pair of points; starts of all sizes."""
    joint, pi = torch.from_numpy(w / w.sum()), torch.from_numpy(measure(w))
    generator = torch.Generator().manual_seed(0)
    sizes = torch.logspace(-2, 0.5, starts, dtype=torch.float64)[:, None, None]
    F = (sizes * torch.randn(starts, len(w), width, generator=generator, dtype=torch.float64)).requires_grad_()
    optimiser = torch.optim.Adam([F], lr=0.05)

    def value() -> Tensor:
        invariance = torch.einsum("ab,sabk->s", joint, (F[:, :, None] - F[:, None]).square())
        f = F - torch.einsum("n,snk->sk", pi, F)[:, None]
        C = torch.einsum("n,sni,snj->sij", pi, f, f)
        v = C.diagonal(dim1=1, dim2=2)
        variance = (1 - (v + 1e-4).sqrt()).clamp_min(0).sum(dim=1)
        covariance = C.square().sum(dim=(1, 2)) - v.square().sum(dim=1)
        return 25 * invariance + WEIGHTS["variance"] * variance + 2 * nu * covariance

    for step in range(steps):
        optimiser.param_groups[0]["lr"] = 0.05 * (1 - step / steps) ** 2
        optimiser.zero_grad()
        value().sum().backward()
        optimiser.step()
    return F.detach().numpy()


@pytest.mark.parametrize(("nu", "kept"), [(0.3, 1), (1.5, 2), (20.0, 3)])
def test_no_start_descends_below_the_closed_form(nu: float, kept: int) -> None:
    """The best of eight starts has the predicted value, energies and span; weights around those that modes need."""
    w, width = positive_graph(), 3
    values, functions = eigenfunctions(w, width + 1)
    values, functions = values[1:], functions[:, 1:]
    predicted = energies(values, **WEIGHTS, covariance=nu)
    assert (predicted > 0).sum() == kept, needed_covariance(values)
    cost = 2 * 25 * ((1 - values) * predicted).sum() + 2 * nu * (np.square(predicted).sum() - width * 0.9999**2)
    tables = descended(w, width, nu)
    found = np.array([loss(F, w, **WEIGHTS, covariance=nu) for F in tables])
    assert found.min() == pytest.approx(cost / width, rel=2e-4)
    assert found.min() > cost / width * (1 - 1e-6)
    pi = measure(w)
    F = tables[found.argmin()]
    F = F - pi @ F
    learned = np.square(np.linalg.svd(np.sqrt(pi)[:, None] * F, compute_uv=False))
    np.testing.assert_allclose(learned, predicted, atol=0.01)
    angles = principal_angles(F, functions, pi, floor=1e-3)
    assert angles[:kept].max() < 1
    assert (angles[kept:] == 90).all()


def test_bad_input() -> None:
    values = np.array([0.9, 0.5])
    with pytest.raises(UserError, match=r"variance.*40.*50 or more"):
        energies(values, variance=40)
    for name in ("invariance", "covariance", "gamma"):
        with pytest.raises(UserError, match=rf"{name}.*0.*above 0"):
            energies(values, **{"variance": 100, name: 0})
    with pytest.raises(UserError, match=r"eps.*1.*gamma.*1"):
        energies(values, eps=1)
    for bad in ([], [0.5, 0.9], [1.1, 0.2], [0.5, np.nan]):
        with pytest.raises(UserError, match=r"values.*descending"):
            needed_covariance(np.array(bad))
