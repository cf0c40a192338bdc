"""Stepwise learning: autograd of the Barlow Twins energy, logistic curves, and the order and time of each step."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from numpy import ndarray

from eigenview.errors import UserError
from eigenview.functional.moments import pair_diagonals, pair_sq_norms
from eigenview.theory.modes import (
    aligned_start,
    amplitudes,
    correlations,
    cross_correlation,
    cross_moment,
    effective_amplitudes,
    largest_step,
    loss,
    modes,
    simulate,
    take_off_times,
    velocity,
)
from tests.draws import random

GAMMA = np.array([4.0, 2.5, 1.5, 0.8, 0.4, -0.5])
VECTORS = np.linalg.qr(random(6, 6, seed=5).numpy()).Q
MOMENT = (VECTORS * GAMMA) @ VECTORS.T


def energy(W: torch.Tensor, x: torch.Tensor, x_prime: torch.Tensor) -> torch.Tensor:
    """||C - I||_F^2 by the terms of Barlow Twins, unstandardised, off-diagonal weight 1, each pair both ways."""
    z = torch.stack([torch.cat([x, x_prime]) @ W.T, torch.cat([x_prime, x]) @ W.T])
    return pair_sq_norms(z)[0] - 2 * pair_diagonals(z).sum() + z.shape[-1]


def minus_gradient(W: ndarray, x: torch.Tensor, x_prime: torch.Tensor) -> ndarray:
    weights = torch.from_numpy(W).clone().requires_grad_()
    return -torch.autograd.grad(energy(weights, x, x_prime), weights)[0].numpy()


def example() -> tuple[ndarray, torch.Tensor, torch.Tensor]:
    """(W, x, x'): 3 outputs, 6 inputs, 20 pairs."""
    x = random(20, 6)
    return random(3, 6, seed=2).numpy(), x, x + 0.7 * random(20, 6, seed=1)


@pytest.mark.parametrize("samples", [3, 20])  # Gram matrices, and cross-moments
def test_velocity_is_minus_the_gradient_of_the_objective(samples: int) -> None:
    W, x, x_prime = example()
    x, x_prime = x[:samples], x_prime[:samples]
    expected = minus_gradient(W, x, x_prime)
    computed = velocity(W, cross_moment(x.numpy(), x_prime.numpy()))
    np.testing.assert_allclose(computed, expected, rtol=1e-11, atol=1e-12 * abs(expected).max())


def test_cross_moment_is_the_naive_sum() -> None:
    _, x, x_prime = example()
    expected = sum(torch.outer(a, b) + torch.outer(b, a) for a, b in zip(x, x_prime, strict=True)) / 40
    np.testing.assert_allclose(cross_moment(x.numpy(), x_prime.numpy()), expected, rtol=1e-13, atol=1e-14)


def test_loss_is_that_of_the_objective() -> None:
    W, x, x_prime = example()
    C = cross_correlation(W, cross_moment(x.numpy(), x_prime.numpy()))
    assert loss(np.linalg.eigvalsh(C)).item() == pytest.approx(
        energy(torch.from_numpy(W), x, x_prime).item(), rel=1e-12
    )


def test_modes_come_largest_first() -> None:
    values, vectors = modes(MOMENT)
    np.testing.assert_allclose(values, GAMMA, rtol=1e-12)
    np.testing.assert_allclose(np.abs(vectors.T @ VECTORS), np.eye(6), atol=1e-12)


def test_an_aligned_start_follows_the_closed_form_in_every_mode() -> None:
    """Also a mode of eigenvalue 0, which stays, one below 0, which dies, and one that starts above its end."""
    gamma = np.array([2.0, 1.0, 0.0, -0.5])
    start = np.array([0.05, 1.7, 0.3, 0.4])
    V = np.linalg.qr(random(4, 4, seed=7).numpy()).Q
    U = np.linalg.qr(random(4, 4, seed=8).numpy()).Q
    times = np.linspace(0, 1.5, 7)
    run = simulate(aligned_start(start, V, U), (V * gamma) @ V.T, times)
    expected = U @ (amplitudes(start, gamma, times)[:, :, None] * V.T)
    np.testing.assert_allclose(run.states["W"], expected, atol=1e-8)
    spectrum = np.sort(correlations(start, gamma, times), axis=1)[:, ::-1]
    np.testing.assert_allclose(run.states["correlation"], spectrum, atol=1e-8)


def test_the_ends_of_the_closed_form() -> None:
    start, gamma = np.array([0.01, 0.2, 0.3, 0.0]), np.array([2.0, 0.0, -0.5, 1.0])
    np.testing.assert_array_equal(amplitudes(start, gamma, np.array([0.0]))[0], start)
    end = amplitudes(start, gamma, np.array([1e6]))[0]  # no float holds e^{8e6}
    np.testing.assert_allclose(end, [2**-0.5, 0.2, 0.0, 0.0], rtol=1e-12)


def test_take_off_by_hand() -> None:
    """gamma = 1/2, gamma s^2 = 1/4: half way after log(3)/4, at three quarters after log(9)/4."""
    start, gamma = np.array([0.5**0.5]), np.array([0.5])
    assert take_off_times(start, gamma)[0] == pytest.approx(math.log(3) / 4, rel=1e-14)
    assert take_off_times(start, gamma, level=0.75)[0] == pytest.approx(math.log(9) / 4, rel=1e-14)
    assert take_off_times(start, gamma, level=0.2)[0] == 0  # it starts above


@pytest.mark.parametrize("level", [0.1, 0.5, 0.9])
def test_at_the_take_off_each_mode_is_at_the_level(level: float) -> None:
    start = np.array([1e-3, 2e-3, 1e-4, 1e-3, 1e-3])
    times = take_off_times(start, GAMMA[:5], level)
    at = np.diagonal(correlations(start, GAMMA[:5], times))
    np.testing.assert_allclose(at, level, rtol=1e-10)


def test_from_equal_small_starts_modes_are_learned_in_the_order_of_their_eigenvalues() -> None:
    start = np.full(6, 1e-4)
    times = take_off_times(start, GAMMA)
    assert (np.diff(times) > 0).all()
    assert times[5] == np.inf
    np.testing.assert_allclose(times[:5], -np.log(GAMMA[:5] * 1e-8) / (8 * GAMMA[:5]), rtol=1e-7)
    assert take_off_times(np.array([0.0]), np.array([1.0]))[0] == np.inf


def test_a_small_random_start_follows_its_effective_amplitudes() -> None:
    """The largest error of the four curves falls with the start; take-off times become exact."""
    W = random(4, 6, seed=9).numpy()
    errors, delays = [], []
    for scale in (1e-1, 1e-2, 1e-3, 1e-4):
        start = effective_amplitudes(scale * W, modes(MOMENT).vectors)
        times = np.linspace(0, 1.5 * take_off_times(start, GAMMA[:4]).max(), 400)
        run = simulate(scale * W, MOMENT, times, atol=1e-14)
        predicted = np.sort(correlations(start, GAMMA[:4], times), axis=1)[:, ::-1]
        errors.append(np.abs(run.states["correlation"] - predicted).max())
        measured = [np.interp(0.5, curve, times) for curve in run.states["correlation"].T]
        delays.append(np.abs(measured / np.sort(take_off_times(start, GAMMA[:4])) - 1).max())
    assert (np.diff(errors) < 0).all()
    assert errors[-1] < 0.02
    assert delays[-1] < 2e-3


def test_loss_falls_by_one_per_mode_and_the_leading_eigenspace_is_learned() -> None:
    W = 1e-6 * random(3, 6, seed=9).numpy()
    start = effective_amplitudes(W, modes(MOMENT).vectors)
    t = take_off_times(start, GAMMA[:3])
    times = np.array([0.0, (t[0] + t[1]) / 2, (t[1] + t[2]) / 2, 2 * t[2]])
    run = simulate(W, MOMENT, times, atol=1e-16)
    np.testing.assert_allclose(loss(run.states["correlation"]), [3, 2, 1, 0], atol=0.02)
    assert np.linalg.norm(run.final["W"] @ VECTORS[:, 3:]) < 1e-3 * np.linalg.norm(run.final["W"])


def test_gradient_descent_follows_the_flow_and_its_error_halves_with_the_step() -> None:
    W, x, x_prime = example()
    end = 0.05
    moment = cross_moment(x.numpy(), x_prime.numpy())
    exact = simulate(0.2 * W, moment, np.array([0.0, end]), rtol=1e-12).final["W"]
    errors = []
    for steps in (100, 200, 400):
        w = 0.2 * W
        for _ in range(steps):
            w = w + end / steps * minus_gradient(w, x, x_prime)
        errors.append(np.abs(w - exact).max())
    assert errors[0] < 0.05
    assert errors[0] / errors[1] == pytest.approx(2, rel=0.05)
    assert errors[1] / errors[2] == pytest.approx(2, rel=0.05)


@pytest.mark.parametrize(("factor", "is_stable"), [(0.99, True), (1.01, False)])
def test_the_largest_step_is_where_a_learned_mode_becomes_unstable(factor: float, is_stable: bool) -> None:
    learned = aligned_start(GAMMA[:3] ** -0.5, VECTORS)
    W = learned + 1e-6 * random(3, 6, seed=1).numpy()
    before = np.abs(cross_correlation(W, MOMENT) - np.eye(3)).max()
    for _ in range(300):
        W = W + factor * largest_step(GAMMA) * velocity(W, MOMENT)
    after = np.abs(cross_correlation(W, MOMENT) - np.eye(3)).max()
    assert after < 0.1 * before if is_stable else after > 10 * before


def test_bad_input() -> None:
    W, times = np.ones((2, 6)), np.array([0.0, 1.0])
    with pytest.raises(UserError, match=r"cross-moment.*transpose"):
        simulate(W, np.triu(np.ones((6, 6))), times)
    with pytest.raises(UserError, match=r"cross-moment.*transpose"):
        modes(np.triu(np.ones((6, 6))))
    with pytest.raises(UserError, match=r"cross-moment.*\(5, 5\).*6"):
        simulate(W, np.eye(5), times)
    with pytest.raises(UserError, match=r"start.*-0\.1.*0 or more"):
        amplitudes(np.array([-0.1]), np.array([1.0]), times)
    with pytest.raises(UserError, match=r"shape of start.*\(2,\).*\(1,\)"):
        take_off_times(np.ones(2), np.ones(1))
    with pytest.raises(UserError, match=r"level.*1.*below 1"):
        take_off_times(np.ones(1), np.ones(1), level=1.0)
    with pytest.raises(UserError, match=r"gamma.*1"):
        correlations(np.ones(1), np.array([np.nan]), times)
    with pytest.raises(UserError, match=r"outputs of W.*7.*6"):
        effective_amplitudes(np.ones((7, 6)), np.eye(6))
    with pytest.raises(UserError, match=r"start.*7.*6"):
        aligned_start(np.ones(7), np.eye(6))
    with pytest.raises(UserError, match=r"shape of x_prime.*\(3, 2\).*\(4, 2\)"):
        cross_moment(np.ones((4, 2)), np.ones((3, 2)))
    with pytest.raises(UserError, match=r"cross-moment.*-1\.0.*above 0"):
        largest_step(np.array([-1.0, -2.0]))
