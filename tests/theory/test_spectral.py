"""Losses of free features on a graph: their gradients by autograd, their minima, and what gradient descent learns."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy import ndarray
from torch import Tensor

from eigenview.errors import UserError
from eigenview.theory import modes
from eigenview.theory.augmentation_graph import (
    eigenfunctions,
    energies,
    measure,
    operator,
    principal_angles,
)
from eigenview.theory.point_cloud import point_cloud, view_affinity
from eigenview.theory.spectral import (
    Objective,
    Quadratic,
    descend,
    energies_in_time,
    learned_energies,
    loss,
    needed_orthogonality,
    penalties,
    simulate,
    velocity,
)
from tests.draws import random
from tests.functional.naive import cross_correlation_terms, invariance
from tests.theory.graphs import counts, graph

QUADRATIC: list[Quadratic] = ["reformulated", "vicreg"]


def pairs(weights: ndarray) -> tuple[ndarray, ndarray]:
    """Every (a, b) as often as its weight: both orders of each pair occur alike."""
    a, b = np.indices(weights.shape).reshape(2, -1)
    times = weights.astype(int).ravel()
    return np.repeat(a, times), np.repeat(b, times)


def off_unit(table: Tensor, order: float) -> Tensor:
    return order * (table.T @ table / len(table) - torch.eye(table.shape[1], dtype=table.dtype)).square().sum()


def vicreg_on_pairs(F: Tensor, weights: ndarray, orthogonality: float) -> Tensor:
    """D times our invariance, a mean over samples and dimensions, and the penalty on the views' second moment."""
    z = torch.stack([F[index] for index in pairs(weights)])
    return F.shape[1] * invariance(z) + off_unit(z[0], orthogonality)


def reformulated_on_pairs(F: Tensor, weights: ndarray, orthogonality: float) -> Tensor:
    """Each view against the mean over all views it is paired with, by a loop."""
    first, second = pairs(weights)
    gaps = [F[second[first == a]].mean(dim=0) - F[a] for a in first]
    return torch.stack(gaps).square().sum(dim=1).mean() + off_unit(F[first], orthogonality)


def barlow_twins_on_pairs(F: Tensor, weights: ndarray, off_diagonal: float) -> Tensor:
    on, off = cross_correlation_terms(torch.stack([F[index] for index in pairs(weights)]), eps=0.0)
    return on + off_diagonal * off


ON_PAIRS: dict[Objective, Callable[[Tensor, ndarray, float], Tensor]] = {
    "reformulated": reformulated_on_pairs,
    "vicreg": vicreg_on_pairs,
    "barlow_twins": barlow_twins_on_pairs,
}


def minus_gradient(F: ndarray, weights: ndarray, orthogonality: float, objective: Objective) -> ndarray:
    table = torch.from_numpy(F).clone().requires_grad_()
    value = ON_PAIRS[objective](table, weights, orthogonality)
    return -torch.autograd.grad(value, table)[0].numpy() / measure(weights)[:, None]


@pytest.mark.parametrize("objective", ON_PAIRS)
@pytest.mark.parametrize("orthogonality", [0.01, 3.0])
def test_velocity_is_minus_the_gradient_of_the_objective(objective: Objective, orthogonality: float) -> None:
    weights, F = counts(), random(6, 3, seed=4).numpy() + 0.5
    expected = minus_gradient(F, weights, orthogonality, objective)
    computed = velocity(F, weights, orthogonality, objective)
    np.testing.assert_allclose(computed, expected, rtol=1e-11, atol=1e-12 * abs(expected).max())


@pytest.mark.parametrize("objective", QUADRATIC)
def test_loss_is_the_mean_over_all_pairs(objective: Quadratic) -> None:
    weights, F = counts(), random(6, 3, seed=4)
    expected = ON_PAIRS[objective](F, weights, 0.7).item()
    assert loss(F.numpy(), weights, 0.7, objective) == pytest.approx(expected, rel=1e-13)


def test_unstandardised_barlow_twins_learns_eigenfunctions_as_modes() -> None:
    """A table of features obeys velocity of modes.py with W = (Pi^1/2 F)^T and the symmetric form of T_M."""
    weights, F = counts(), random(6, 3, seed=4)
    first, second = pairs(weights)
    table = F.clone().requires_grad_()
    c = table[first].T @ table[second] / len(first)
    (gradient,) = torch.autograd.grad((c - torch.eye(3)).square().sum(), table)
    root = np.sqrt(measure(weights))
    symmetric = root[:, None] * operator(weights) / root
    rate = modes.velocity((root[:, None] * F.numpy()).T, symmetric).T / root[:, None]
    np.testing.assert_allclose(rate, -gradient.numpy() / measure(weights)[:, None], rtol=1e-10, atol=1e-11)
    np.testing.assert_allclose(modes.modes((symmetric + symmetric.T) / 2).values, eigenfunctions(weights, 6).values)


@pytest.mark.parametrize("objective", QUADRATIC)
def test_eigenfunctions_are_the_constrained_minimum(objective: Quadratic) -> None:
    weights, pi = graph(), measure(graph())
    values, functions = eigenfunctions(weights, 3)
    least = loss(functions, weights, 1.0, objective)
    assert least == pytest.approx(penalties(values, objective).sum(), rel=1e-12)
    for seed in range(50):
        Q = np.linalg.qr(random(12, 3, seed=seed).numpy()).Q / np.sqrt(pi)[:, None]
        assert loss(Q, weights, 1.0, objective) > least


@pytest.mark.parametrize("objective", QUADRATIC)
def test_gradient_descent_spans_the_leading_eigenspace_at_high_orthogonality_only(objective: Quadratic) -> None:
    weights, pi = graph(), measure(graph())
    exact = eigenfunctions(weights, 3)
    F = 0.1 * random(12, 3, seed=2).numpy()
    high = descend(F, weights, orthogonality=10.0, steps=4000, objective=objective)
    assert principal_angles(high, exact.functions, pi).max() < 0.5
    np.testing.assert_allclose(energies(high, pi), learned_energies(exact.values, 10.0, objective), rtol=1e-3)

    between = needed_orthogonality(exact.values, objective)[:2].mean()
    low = descend(F, weights, orthogonality=between, steps=4000, objective=objective)
    angles = principal_angles(low, exact.functions, pi)
    assert angles[0] < 0.5
    assert angles[1:].tolist() == [90, 90]
    assert needed_orthogonality(exact.values, objective)[0] == pytest.approx(0, abs=1e-14)


@pytest.mark.parametrize("objective", QUADRATIC)
@pytest.mark.parametrize("orthogonality", [0.3, 2.0])
def test_the_minimum_has_the_stated_energies_and_loss(objective: Quadratic, orthogonality: float) -> None:
    weights = graph()
    values = eigenfunctions(weights, 3).values
    F = descend(random(12, 3, seed=2).numpy(), weights, orthogonality=orthogonality, steps=6000, objective=objective)
    e, P = learned_energies(values, orthogonality, objective), penalties(values, objective)
    np.testing.assert_allclose(energies(F, measure(weights)), e, atol=1e-6)
    minimum = (P * e + orthogonality * (e - 1) ** 2).sum()
    assert loss(F, weights, orthogonality, objective) == pytest.approx(minimum, rel=1e-9)


def test_barlow_twins_spans_the_eigenfunctions_after_the_constant() -> None:
    cloud = point_cloud()
    weights = view_affinity(cloud.points, cloud.points, cloud.images, 0.35)
    pi, exact = measure(weights), eigenfunctions(weights, 5).functions[:, 1:]
    F = random(240, 4, seed=2).numpy()

    def angles(off_diagonal: float) -> ndarray:
        learned = descend(F, weights, orthogonality=off_diagonal, steps=1200, objective="barlow_twins")
        centred = learned - pi @ learned
        return principal_angles(centred / np.sqrt(pi @ centred**2), exact, pi, floor=0.01)

    assert angles(1.0).max() < 1
    assert (angles(1e-5) == 90).sum() >= 2


@pytest.mark.parametrize("objective", QUADRATIC)
@pytest.mark.parametrize("orthogonality", [0.05, 2.0])
def test_aligned_features_follow_the_closed_form(objective: Quadratic, orthogonality: float) -> None:
    weights = graph()
    values, functions = eigenfunctions(weights, 3)
    start = np.array([0.3, 0.2, 0.1])
    times = np.array([0.0, 0.2, 0.5, 1.0])
    run = simulate(
        functions * np.sqrt(start), weights, times, orthogonality=orthogonality, objective=objective, rtol=1e-11
    )
    P = np.maximum(penalties(values, objective), 0)
    curves = [energies_in_time(s, p, orthogonality, times) for s, p in zip(start, P, strict=True)]
    np.testing.assert_allclose(run.states["energies"], np.sort(np.stack(curves, axis=1))[:, ::-1], rtol=1e-8)


def test_energies_in_time_at_the_threshold_and_in_the_limit() -> None:
    """At P = 2 orthogonality e' = -8 orthogonality e^2: e = e(0) / (1 + 8 orthogonality e(0) t)."""
    times = np.array([0.0, 1.0, 10.0])
    np.testing.assert_allclose(energies_in_time(0.5, 0.25, 0.125, times), 0.5 / (1 + 0.5 * times), rtol=1e-14)
    late = np.array([1e6])
    assert energies_in_time(1e-6, 0.25, 1.0, late)[0] == pytest.approx(1 - 0.25 / 2, rel=1e-14)
    assert energies_in_time(0.5, 1.0, 0.1, late)[0] == 0


@pytest.mark.parametrize("objective", ON_PAIRS)
def test_gradient_descent_follows_the_flow_and_its_error_halves_with_the_step(objective: Objective) -> None:
    weights, F = graph(), random(12, 3, seed=2).numpy()
    exact = simulate(F, weights, np.array([0.0, 0.2]), orthogonality=1.0, objective=objective, rtol=1e-11).final["F"]
    errors = [
        np.abs(descend(F, weights, orthogonality=1.0, steps=n, objective=objective, rate=0.2 / n) - exact).max()
        for n in (100, 200, 400)
    ]
    assert errors[0] < 0.02
    assert errors[0] / errors[1] == pytest.approx(2, rel=0.05)
    assert errors[1] / errors[2] == pytest.approx(2, rel=0.05)


def test_bad_input() -> None:
    weights, F, times = graph(), np.ones((12, 3)), np.array([0.0, 1.0])
    with pytest.raises(UserError, match=r"shape of F.*\(11, 3\).*12"):
        simulate(F[1:], weights, times, orthogonality=1.0)
    with pytest.raises(UserError, match=r"shape of F.*\(12, 13\).*1 to 12"):
        descend(np.ones((12, 13)), weights, orthogonality=1.0, steps=1)
    with pytest.raises(UserError, match=r"orthogonality.*-1.*above 0"):
        simulate(F, weights, times, orthogonality=-1)
    with pytest.raises(UserError, match=r"objective.*'vicrge'.*Did you mean vicreg"):
        simulate(F, weights, times, orthogonality=1.0, objective="vicrge")  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"rate.*5\.0.*stable"):
        descend(random(12, 3).numpy(), weights, orthogonality=1.0, steps=100, rate=5.0)
