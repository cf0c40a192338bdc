"""Decoupled modes: published numbers, the invariant, fixed points and their stability, the edge of the basin."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch

from eigenview.errors import UserError
from eigenview.theory import linear_byol
from eigenview.theory.eigenvalues import (
    basin_edge,
    basin_elasticities,
    fixed_points,
    invariance_residual,
    invariant,
    reduced_field,
    reduced_slope,
    reduced_time,
    simulate,
    simulate_reduced,
    vector_field,
)
from eigenview.theory.simulation import integrate

SETTING: dict[str, Any] = {"eta": 0.1, "sigma2": 0.25}


def one_mode(p: float, s: float) -> tuple[np.ndarray, np.ndarray]:
    return np.array([p]), np.array([s])


def test_the_field_is_minus_the_gradient_of_the_expected_loss_of_one_mode() -> None:
    """W_p = p, W = w, W_a = tau w as 1 x 1 matrices; s = w^2 and tau = a / w move by the chain rule."""
    p, w = (torch.tensor([[x]], dtype=torch.float64, requires_grad=True) for x in (0.3, 0.7))
    tau, alpha_p, eta, sigma2, beta = 0.8, 1.7, 0.1, 0.25, 0.4
    one = torch.ones(1, 1, dtype=torch.float64)
    loss = linear_byol.expected_loss(p, w, tau * w.detach(), X=one, X_prime=sigma2 * one)
    dp, dw = (g.item() for g in torch.autograd.grad(loss, (p, w)))
    w_rate, a = -dw - eta * 0.7, tau * 0.7
    field = vector_field(*one_mode(0.3, 0.49), np.array([tau]), alpha_p=alpha_p, eta=eta, sigma2=sigma2, beta=beta)
    assert field["p"].item() == pytest.approx(-alpha_p * dp - eta * 0.3, abs=1e-14)
    assert field["s"].item() == pytest.approx(2 * 0.7 * w_rate, abs=1e-14)
    assert field["tau"].item() == pytest.approx(beta * (0.7 - a) / 0.7 - a * w_rate / 0.49, abs=1e-14)
    assert 0.49 * field["tau"].item() == pytest.approx(beta * (1 - tau) * 0.49 - tau * field["s"].item() / 2, abs=1e-14)


def test_modes_with_a_target_network_are_those_of_the_full_matrices() -> None:
    p, s, times = np.array([0.2, 0.5, 0.9]), np.array([0.3, 0.1, 0.5]), np.linspace(0, 8, 5)
    W = np.diag(np.sqrt(s))
    full = linear_byol.simulate(
        W, times, W_p=np.diag(p), W_a=0.6 * W, X=np.eye(3), X_prime=0.25 * np.eye(3), alpha_p=2.0, beta=0.3, eta=0.1
    )
    run = simulate(p, s, times, tau=0.6, alpha_p=2.0, beta=0.3, **SETTING)
    diagonals = {name: np.diagonal(m, axis1=1, axis2=2) for name, m in full.states.items()}
    np.testing.assert_allclose(run.states["p"], diagonals["W_p"], atol=1e-9)
    np.testing.assert_allclose(run.states["s"], diagonals["W"] ** 2, atol=1e-9)
    np.testing.assert_allclose(run.states["tau"], diagonals["W_a"] / diagonals["W"], atol=1e-9)


@pytest.mark.parametrize(("alpha_p", "p", "s"), [(1, 0.6284621258, 0.4354313821), (2, 0.6976740134, 0.3003958279)])
def test_numbers_at_t_5(alpha_p: float, p: float, s: float) -> None:
    run = simulate(*one_mode(0.3, 0.2), np.linspace(0, 5, 51), alpha_p=alpha_p, **SETTING, rtol=1e-13)
    assert run.final["p"].item() == pytest.approx(p, abs=6e-11)
    assert run.final["s"].item() == pytest.approx(s, abs=6e-11)
    assert invariance_residual(run, alpha_p=alpha_p, eta=0.1) < 1e-12


def test_the_invariant_holds_for_many_modes_and_a_moving_target() -> None:
    generator = np.random.default_rng(0)
    p, s = generator.uniform(0, 1, (2, 50))
    for beta in (None, 0.2):
        run = simulate(p, s, np.linspace(0, 30, 31), tau=0.7, alpha_p=3.0, beta=beta, **SETTING, rtol=1e-13)
        assert invariance_residual(run, alpha_p=3.0, eta=0.1) < 1e-12
    np.testing.assert_allclose(invariant(p, s, alpha_p=2.0), s - p**2 / 2)
    wrong = simulate(p, s, np.linspace(0, 30, 31), alpha_p=2.0, **SETTING)
    assert invariance_residual(wrong, alpha_p=3.0, eta=0.1) > 1e-2


@pytest.mark.parametrize(
    ("tau", "sigma2", "eta", "p_minus", "p_plus"),
    [
        (1, 0.25, 0.1, 0.1171572875, 0.6828427125),
        (1, 0, 0.1, 0.1127016654, 0.8872983346),
        (0.8, 0.5, 0.05, 0.0723016035, 0.4610317298),
        (1, 0.25, 0.2, 0.4, 0.4),
    ],
)
def test_fixed_points(tau: float, sigma2: float, eta: float, p_minus: float, p_plus: float) -> None:
    points = fixed_points(tau=tau, eta=eta, sigma2=sigma2)
    assert points.p_minus == pytest.approx(p_minus, abs=6e-11)
    assert points.p_plus == pytest.approx(p_plus, abs=6e-11)
    assert points.p_minus is not None
    assert points.p_plus is not None
    both = np.array([points.p_minus, points.p_plus])
    options: dict[str, Any] = {"tau": tau, "eta": eta, "sigma2": sigma2}
    np.testing.assert_allclose(reduced_field(both, **options), 0, atol=1e-16)
    slopes = reduced_slope(np.array([0.0, *both]), **options)
    if points.p_minus < points.p_plus:
        assert (np.sign(slopes) == [-1, 1, -1]).all()  # 0 and p_plus stable, p_minus not
    else:
        np.testing.assert_allclose(slopes, [-eta, 0, 0], atol=1e-15)
    # the fixed point of the whole system, whatever alpha_p
    for alpha_p in (1.0, 4.0):
        s = np.array([p_plus**2 / alpha_p])
        assert points.s_plus(alpha_p) == pytest.approx(s.item(), rel=1e-9)
        rates = vector_field(both[1:], np.array([points.s_plus(alpha_p)]), tau, alpha_p=alpha_p, eta=eta, sigma2=sigma2)
        assert max(abs(rates["p"].item()), abs(rates["s"].item())) < 1e-15


def test_the_second_moment_at_rest_is_the_published_one() -> None:
    assert fixed_points(**SETTING).s_plus(1.0) == pytest.approx(0.4662741700, abs=6e-11)


def test_the_slope_is_the_derivative_of_the_field() -> None:
    p, h, options = np.linspace(-0.5, 1, 7), 1e-6, {"tau": 0.9, **SETTING}
    difference = (reduced_field(p + h, **options) - reduced_field(p - h, **options)) / (2 * h)
    np.testing.assert_allclose(reduced_slope(p, **options), difference, atol=1e-8)


def test_two_starts_of_the_formula_sheet_and_the_sides_of_p_minus() -> None:
    run = simulate(np.array([0.05, 0.5]), np.array([0.0025, 0.5]), np.array([0.0, 400.0]), **SETTING)
    # 4e-19 in exact arithmetic of e^(-eta t); the integrator's absolute tolerance is 1e-12 a step
    assert abs(run.final["p"][0]) < 1e-11
    assert run.final["p"][1] == pytest.approx(0.6828427125, abs=6e-11)
    p_minus = fixed_points(**SETTING).p_minus
    assert p_minus is not None
    ends = simulate_reduced(p_minus + np.array([-1e-4, 1e-4]), np.array([0.0, 400.0]), **SETTING).final["p"]
    np.testing.assert_allclose(ends, [0, 0.6828427125], atol=1e-9)


def test_a_collapsing_start_falls_as_the_weight_decay_says() -> None:
    """With a tolerance that resolves it: 4e-19 at t = 400."""
    tight = integrate(
        lambda _, y: {"p": reduced_field(y["p"], tau=1.0, **SETTING)},
        {"p": 0.05},
        np.array([0.0, 400.0]),
        rtol=1e-12,
        atol=1e-40,
    )
    assert tight.final["p"] == pytest.approx(4e-19, rel=0.15)


def test_beyond_the_saddle_node_the_record_says_that_everything_collapses() -> None:
    gone = fixed_points(eta=0.21, sigma2=0.25)
    assert gone.is_collapse
    assert gone.p_minus is gone.p_plus is None
    assert gone.eta_bound == pytest.approx(0.2)
    assert gone.s_plus(1.0) == 0
    assert "Everything collapses" in gone.describe()
    assert "0.21" in gone.describe()
    assert "= 0.2," in gone.describe()
    ends = simulate_reduced(np.linspace(0, 3, 10), np.array([0.0, 400.0]), eta=0.21, sigma2=0.25).final["p"]
    assert np.abs(ends).max() < 1e-9
    assert fixed_points(tau=0, eta=0.0, sigma2=0).is_collapse
    assert "starts below it collapse; beyond eta = 0.2" in fixed_points(**SETTING).describe()
    assert "two fixed points are one, p = 0.4" in fixed_points(eta=0.2, sigma2=0.25).describe()
    assert "every start p > 0 goes to 0.8" in fixed_points(eta=0, sigma2=0.25).describe()


def test_for_small_weight_decay_the_threshold_is_eta_over_tau() -> None:
    p_minus = fixed_points(tau=0.5, eta=1e-12, sigma2=0.25).p_minus
    assert p_minus == pytest.approx(2e-12, rel=1e-10)


@pytest.mark.parametrize(("start", "end"), [(0.12, 0.68), (0.1, 0.001), (2.0, 0.7)])
def test_the_time_by_partial_fractions_is_that_of_the_simulation(start: float, end: float) -> None:
    time = reduced_time(start, end, **SETTING)
    run = simulate_reduced(np.array([start]), np.array([0.0, time]), **SETTING)
    assert run.final["p"].item() == pytest.approx(end, abs=1e-8)
    for wrong in (0.05 if end > 0.1 else 0.11, 0.6828427125 + (1 if end < 0.68284 else -0.2)):
        with pytest.raises(UserError, match="end is"):
            reduced_time(start, wrong, **SETTING)


def test_the_basin_ends_where_theory_has_it() -> None:
    """On s = p^2 / alpha_p the edge is p_minus; alpha_p and s come only as their product, at any p."""
    p_minus = fixed_points(**SETTING).p_minus
    assert p_minus is not None
    assert basin_edge(p_minus, alpha_p=2.0, **SETTING) == pytest.approx(p_minus**2 / 2, rel=1e-6)
    one, four = (basin_edge(0.05, alpha_p=alpha_p, **SETTING) for alpha_p in (1.0, 4.0))
    assert one / four == pytest.approx(4, rel=1e-6)


def test_the_basin_edge_is_the_stable_manifold_of_the_saddle() -> None:
    """Integrated backwards in time from the saddle along its stable eigenvector, to p = 0.05 on the way out."""
    p_minus = fixed_points(**SETTING).p_minus
    assert p_minus is not None
    a, saddle = 1.25, np.array([p_minus, p_minus**2])
    p, s = saddle
    jacobian = np.array([[-a * s - 0.1, 1 - a * p], [2 * s * (1 - 2 * a * p), 0]])
    values, vectors = np.linalg.eig(jacobian)
    assert values.min() == pytest.approx(-0.2)  # the invariant's -2 eta
    stable = vectors[:, np.argmin(values)] * -np.sign(vectors[0, np.argmin(values)])  # towards smaller p
    p0, s0 = saddle + 1e-5 * stable

    def backwards(_: float, y: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        rates = vector_field(y["p"], y["s"], 1.0, alpha_p=1.0, **SETTING)
        return {name: -rates[name] for name in y}

    curve = integrate(backwards, {"p": p0, "s": s0}, np.linspace(0, 45, 4501))
    states = curve.states
    first = int(np.argmax(states["p"] < 0.05))
    assert first > 0
    on_curve = np.interp(-0.05, -states["p"][: first + 1], states["s"][: first + 1])
    assert basin_edge(0.05, **SETTING) == pytest.approx(on_curve, rel=1e-4)


def test_starts_on_both_sides_of_the_edge_end_apart_with_a_target_network() -> None:
    for tau, beta in ((1.0, None), (1.0, 0.3), (0.3, 0.3)):
        edge = basin_edge(0.05, tau=tau, beta=beta, **SETTING)
        p, s = np.full(2, 0.05), edge * np.array([0.999, 1.001])
        end = simulate(p, s, np.array([0.0, 300.0]), tau=tau, beta=beta, **SETTING).final["p"]
        assert end[0] < 0.05
        assert end[1] == pytest.approx(0.6828427125, abs=1e-4)


def test_no_edge_beyond_the_saddle_node_and_none_that_matters_for_a_large_predictor() -> None:
    assert basin_edge(0.5, eta=0.21, sigma2=0.25) == math.inf
    assert basin_edge(0.3, eta=4e-4, sigma2=0.25) == 0


def test_what_enlarges_the_basin() -> None:
    """alpha_p by -1 exactly; more weight decay and more view noise enlarge it, a stronger target shrinks it."""
    effects = basin_elasticities(0.05, **SETTING)
    assert effects["alpha_p"] == pytest.approx(-1, abs=1e-4)
    assert effects["eta"] > 1
    assert effects["sigma2"] > 0.1
    assert effects["tau"] < -1
    assert set(effects) == {"alpha_p", "tau", "eta", "sigma2"}


def test_a_slow_target_enlarges_the_basin_where_it_starts_small_and_shrinks_it_where_it_starts_as_the_encoder() -> None:
    """The mode at the edge first shrinks: a target that lags behind is then larger than the encoder, unless it began
    smaller."""
    from_small = [basin_edge(0.05, tau=0.2, beta=beta, **SETTING) for beta in (0.3, 0.03)]
    from_copy = [basin_edge(0.05, tau=1.0, beta=beta, **SETTING) for beta in (0.3, 0.03)]
    assert from_small[1] > 2 * from_small[0]
    assert from_copy[1] < 0.9 * from_copy[0] < from_copy[0]


def test_bad_input() -> None:
    times = np.array([0.0, 1.0])
    p, s = np.ones(2), np.ones(2)
    bad: list[tuple[str, Any, dict[str, Any]]] = [
        ("the shapes of p and s", (p, np.ones(3)), {}),
        ("an entry of s is", (p, -s), {}),
        ("sigma2 is -1", (p, s), {"sigma2": -1}),
        ("eta is -0.1", (p, s), {"eta": -0.1}),
        ("tau is -1", (p, s), {"tau": -1}),
        ("beta is -1", (p, s), {"beta": -1}),
        ("alpha_p is nan", (p, s), {"alpha_p": math.nan}),
    ]
    for message, (first, second), options in bad:
        with pytest.raises(UserError, match=message):
            simulate(first, second, times, **options)
    with pytest.raises(UserError, match="eta is 0; allowed: above 0"):
        basin_edge(0.1, eta=0, sigma2=0)
    with pytest.raises(UserError, match="sigma2 is -1"):
        fixed_points(eta=0.1, sigma2=-1)
    with pytest.raises(UserError, match=r"below the saddle-node at 0\.2"):
        reduced_time(0.1, 0.01, eta=0.3, sigma2=0.25)
    with pytest.raises(UserError, match="edge of the basin"):
        basin_elasticities(0.3, eta=4e-4, sigma2=0.25)
