"""Independent modes: published numbers, the invariant, fixed points and their stability."""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np
import pytest
import torch

from eigenview.errors import UserError
from eigenview.theory import linear_byol
from eigenview.theory.eigenvalues import (
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


def test_above_the_saddle_node_everything_collapses_and_the_description_says_so() -> None:
    gone = fixed_points(eta=0.21, sigma2=0.25)
    assert gone.is_collapse
    assert gone.p_minus is gone.p_plus is None
    assert gone.eta_bound == pytest.approx(0.2)
    assert gone.s_plus(1.0) == 0
    assert re.search(r"collapses.*eta = 0\.21 .*= 0\.2\b", gone.describe())
    ends = simulate_reduced(np.linspace(0, 3, 10), np.array([0.0, 400.0]), eta=0.21, sigma2=0.25).final["p"]
    assert np.abs(ends).max() < 1e-9
    assert fixed_points(tau=0, eta=0.0, sigma2=0).is_collapse
    assert re.search(r"= 0\.117.*= 0\.682.*collapse.*eta = 0\.2\b", fixed_points(**SETTING).describe())
    assert re.search(r"eta = 0\.2\b.*p = 0\.4\b", fixed_points(eta=0.2, sigma2=0.25).describe())
    assert re.search(r"0\.8\b", fixed_points(eta=0, sigma2=0.25).describe())


def test_for_small_weight_decay_the_threshold_is_eta_over_tau() -> None:
    p_minus = fixed_points(tau=0.5, eta=1e-12, sigma2=0.25).p_minus
    assert p_minus == pytest.approx(2e-12, rel=1e-10)


@pytest.mark.parametrize(("start", "end"), [(0.12, 0.68), (0.1, 0.001), (2.0, 0.7)])
def test_the_time_by_partial_fractions_is_that_of_the_simulation(start: float, end: float) -> None:
    time = reduced_time(start, end, **SETTING)
    run = simulate_reduced(np.array([start]), np.array([0.0, time]), **SETTING)
    assert run.final["p"].item() == pytest.approx(end, abs=1e-8)
    for wrong in (0.05 if end > 0.1 else 0.11, 0.6828427125 + (1 if end < 0.68284 else -0.2)):
        with pytest.raises(UserError, match=r"end.*\d"):
            reduced_time(start, wrong, **SETTING)


def test_bad_input() -> None:
    times = np.array([0.0, 1.0])
    p, s = np.ones(2), np.ones(2)
    bad: list[tuple[str, Any, dict[str, Any]]] = [
        (r"p and s.*\(2,\).*\(3,\)", (p, np.ones(3)), {}),
        (r"\bs\b.*-1.*0 or more", (p, -s), {}),
        (r"sigma2.*-1.*0 or more", (p, s), {"sigma2": -1}),
        (r"eta.*-0\.1.*0 or more", (p, s), {"eta": -0.1}),
        (r"tau.*-1.*0 or more", (p, s), {"tau": -1}),
        (r"beta.*-1.*0 or more", (p, s), {"beta": -1}),
        (r"alpha_p.*nan.*0 or more", (p, s), {"alpha_p": math.nan}),
    ]
    for message, (first, second), options in bad:
        with pytest.raises(UserError, match=message):
            simulate(first, second, times, **options)
    with pytest.raises(UserError, match=r"sigma2.*-1.*0 or more"):
        fixed_points(eta=0.1, sigma2=-1)
    with pytest.raises(UserError, match=r"eta.*0\.3.*0\.2"):
        reduced_time(0.1, 0.01, eta=0.3, sigma2=0.25)
