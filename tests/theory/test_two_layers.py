"""Two linear layers: autograd of InfoNCE, what is conserved, closed forms with their blow-up, and what depth costs."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import pytest
import torch
from numpy import ndarray

from eigenview.errors import UserError
from eigenview.methods.infonce import info_nce_terms
from eigenview.theory import infonce
from eigenview.theory.simulation import integrate
from eigenview.theory.two_layers import (
    Difference,
    alignment,
    blow_up_time,
    conserved,
    decaying_layers,
    one_layer_singular_value,
    simulate,
    singular_value_velocities,
    singular_values,
    velocities,
)
from tests.draws import random


def example() -> tuple[ndarray, ndarray, ndarray, ndarray]:
    """(W1, W2, x, x'): 5 inputs, 4 hidden, 3 outputs, 12 pairs."""
    x = random(12, 5)
    x_prime = x + 0.5 * random(12, 5, seed=1)
    return random(4, 5, seed=2).numpy(), random(3, 4, seed=3).numpy(), x.numpy(), x_prime.numpy()


def minus_gradients(W1: ndarray, W2: ndarray, x: ndarray, x_prime: ndarray, eps: float) -> tuple[ndarray, ndarray]:
    first, second = (torch.from_numpy(w).clone().requires_grad_() for w in (W1, W2))
    z, z_prime = (torch.from_numpy(v) @ first.T @ second.T for v in (x, x_prime))
    g1, g2 = torch.autograd.grad(info_nce_terms(z, z_prime, eps).sum(), (first, second))
    return -g1.numpy(), -g2.numpy()


def data(x: ndarray, x_prime: ndarray, eps: float = 1.0) -> Difference:
    return lambda W: infonce.difference(W, x, x_prime, eps)


@pytest.mark.parametrize("eps", [0.0, 1.0, 3.0])
def test_velocities_are_minus_the_gradients_of_infonce(eps: float) -> None:
    W1, W2, x, x_prime = example()
    computed = velocities(W1, W2, infonce.difference(W2 @ W1, x, x_prime, eps))
    for mine, expected in zip(computed, minus_gradients(W1, W2, x, x_prime, eps), strict=True):
        np.testing.assert_allclose(mine, expected, rtol=1e-12, atol=1e-12 * abs(expected).max())


def test_the_layers_difference_is_conserved_while_the_data_matrix_moves() -> None:
    W1, W2, x, x_prime = example()
    run = simulate(W1, W2, data(x, x_prime), np.linspace(0, 0.5, 5), rtol=1e-11, atol=1e-12)
    assert np.abs(run.final["W1"] - W1).max() > 0.1
    for first, second in zip(run.states["W1"], run.states["W2"], strict=True):
        np.testing.assert_allclose(conserved(first, second), conserved(W1, W2), atol=1e-9)


def test_balanced_growth_and_blow_up() -> None:
    """sigma(0) = 1/2, x = 1: 0.7071067812 at t = 1, infinite at t = 2; without depth it would be e^t / 2."""
    assert singular_values(0.5, 0.5, 1.0, 1.0) == pytest.approx((0.7071067812, 0.7071067812), abs=5e-11)
    assert blow_up_time(0.5, 0.5, 1.0) == 2.0
    assert blow_up_time(0.5, 0.5, -1.0) == blow_up_time(0.5, 0.5, 0.0) == math.inf
    assert one_layer_singular_value(0.5, 1.0, 1.0) == pytest.approx(math.e / 2)
    with pytest.raises(UserError, match=r"\bt\b.*2\.0.*below.* 2"):
        singular_values(0.5, 0.5, 1.0, 2.0)


@pytest.mark.parametrize("growth", [1.0, 0.0, -0.7])
@pytest.mark.parametrize(("sigma1", "sigma2"), [(0.5, 0.5), (0.8, 0.3), (0.3, 0.8), (0.5, 0.5 + 1e-9)])
def test_one_mode_in_time(sigma1: float, sigma2: float, growth: float) -> None:
    def field(_: float, state: Mapping[str, ndarray]) -> dict[str, ndarray]:
        return dict(zip("ab", singular_value_velocities(state["a"], state["b"], np.array([growth])), strict=True))

    times = np.array([0.0, 0.5, 1.0, 1.4])
    run = integrate(field, {"a": np.array([sigma1]), "b": np.array([sigma2])}, times, rtol=1e-12, atol=1e-13)
    for index, t in enumerate(times):
        a, b = singular_values(sigma1, sigma2, growth, float(t))
        assert (a, b) == pytest.approx((run.states["a"][index, 0], run.states["b"][index, 0]), rel=1e-9)
        assert a**2 - b**2 == pytest.approx(sigma1**2 - sigma2**2, abs=1e-12)


@pytest.mark.parametrize(("sigma1", "sigma2"), [(0.8, 0.3), (0.3, 0.8), (0.5, 0.5)])
def test_just_before_the_blow_up_the_values_are_huge(sigma1: float, sigma2: float) -> None:
    end = blow_up_time(sigma1, sigma2, 2.0)
    a, b = singular_values(sigma1, sigma2, 2.0, end * (1 - 1e-8))
    assert min(a, b) > 1000


def test_a_dying_mode_of_unequal_layers_keeps_the_larger_one() -> None:
    """sigma1 sigma2 -> 0 with sigma1^2 - sigma2^2 fixed, at times for which the exponentials overflow."""
    assert singular_values(0.3, 0.8, -5.0, 1000.0) == pytest.approx((0.0, math.sqrt(0.64 - 0.09)))
    assert singular_values(0.8, 0.3, -5.0, 1000.0) == pytest.approx((math.sqrt(0.64 - 0.09), 0.0))


def test_aligned_layers_stay_aligned_and_follow_the_closed_form() -> None:
    generator = np.random.default_rng(0)
    U2, M, V1 = (np.linalg.qr(generator.standard_normal((3, 3))).Q for _ in range(3))
    s1, s2, g = np.array([0.9, 0.6, 0.4]), np.array([0.8, 0.7, 0.3]), np.array([0.5, 0.3, -0.4])
    W1, W2 = (M * s1) @ V1.T, (U2 * s2) @ M.T
    D = (V1 * g) @ V1.T
    run = simulate(W1, W2, lambda W: D, np.array([0.0, 0.6]), rtol=1e-11, atol=1e-12)
    np.testing.assert_allclose(alignment(run.final["W1"], run.final["W2"]), np.eye(3), atol=1e-8)
    expected = [singular_values(a, b, x, 0.6) for a, b, x in zip(s1, s2, g, strict=True)]
    products = sorted((a * b for a, b in expected), reverse=True)
    np.testing.assert_allclose(run.final["singular_values"], products, rtol=1e-9)
    # against the growth rates themselves
    np.testing.assert_allclose(np.diagonal(V1.T @ D @ V1), g, atol=1e-12)


def test_alignment_of_known_layers() -> None:
    """W1 = diag(3, 2), and W2 reads the first hidden direction with weight 1, the second with 5: crossed."""
    np.testing.assert_allclose(alignment(np.diag([3.0, 2]), np.diag([1.0, 5])), [[0, 1], [1, 0]], atol=1e-15)
    np.testing.assert_allclose(alignment(np.diag([3.0, 2]), -np.diag([5.0, 1])), np.eye(2), atol=1e-15)
    turn = np.array([[math.cos(0.3), -math.sin(0.3)], [math.sin(0.3), math.cos(0.3)]])
    crossed = alignment(np.diag([3.0, 2]), np.diag([5.0, 1]) @ turn)
    np.testing.assert_allclose(np.diagonal(crossed), math.cos(0.3), rtol=1e-14)


def test_growth_aligns_unrelated_layers() -> None:
    """As the largest mode outgrows the others, the leading singular vectors of both layers align."""
    W1, W2 = (0.1 * random(6, 6, seed=seed).numpy() for seed in (0, 1))
    run = simulate(W1, W2, lambda W: np.eye(6), np.array([0.0, 5.0]), rtol=1e-9, atol=1e-11)
    top = [alignment(first, second)[0, 0] for first, second in zip(run.states["W1"], run.states["W2"], strict=True)]
    assert top[0] < 0.9
    assert top[1] > 0.99


def test_depth_spreads_the_spectrum() -> None:
    """Equal growth in all directions: one layer keeps all ratios of singular values, with two they grow.

    Balanced layers of product s: s / (1 - 2 s g t), so the ratio of s = 1/4 and 1/16 grows from 4 to 7 at t = 1.
    """
    roots = np.diag([0.5, 0.25])
    deep = simulate(roots, roots, lambda W: np.eye(2), np.array([0.0, 1.0]), rtol=1e-12, atol=1e-13)
    assert deep.final["singular_values"] == pytest.approx([1 / 2, 1 / 14], rel=1e-9)
    shallow = infonce.solution(roots @ roots, np.eye(2), np.array([1.0]))[0]
    assert shallow[0, 0] / shallow[1, 1] == pytest.approx(4, rel=1e-12)


def test_depth_collapses_dimensions_that_one_layer_learns() -> None:
    """The example of Jing et al.: isotropic data with little noise, so the 16 directions differ only in the start."""
    x, x_prime = infonce.gaussian_pairs(128, np.full(16, 1e-3), seed=0)
    W1, W2 = decaying_layers(16, 0.35, seed=0)
    times = np.array([0.0, 0.2])
    deep = simulate(W1, W2, data(x, x_prime), times, rtol=1e-6, atol=1e-9).final["singular_values"]
    shallow = infonce.simulate(W2 @ W1, x, x_prime, times, rtol=1e-6, atol=1e-9).final["singular_values"]
    assert (deep > 0.1 * deep[0]).sum() == 4
    assert (shallow > 0.1 * shallow[0]).sum() == 9


def test_gradient_descent_follows_the_flow_and_its_error_halves_with_the_step() -> None:
    W1, W2, x, x_prime = example()
    end = 0.02
    exact = simulate(W1, W2, data(x, x_prime), np.array([0.0, end]), rtol=1e-11, atol=1e-12).final["W1"]
    errors = []
    for steps in (100, 200, 400):
        first, second = W1, W2
        for _ in range(steps):
            rates = minus_gradients(first, second, x, x_prime, 1.0)
            first, second = first + end / steps * rates[0], second + end / steps * rates[1]
        errors.append(np.abs(first - exact).max())
    assert errors[0] < 0.05
    assert errors[0] / errors[1] == pytest.approx(2, rel=0.05)
    assert errors[1] / errors[2] == pytest.approx(2, rel=0.05)


def test_initial_layers_have_the_stated_spectrum() -> None:
    for layer in decaying_layers(16, 0.35, seed=3):
        np.testing.assert_allclose(np.linalg.svd(layer, compute_uv=False), np.exp(-0.35 * np.arange(16)), rtol=1e-10)


def test_bad_input() -> None:
    W1, W2, _, _ = example()
    times = np.array([0.0, 1.0])
    with pytest.raises(UserError, match=r"shape of W2.*\(3, 3\).*4"):
        simulate(W1, W2[:, 1:], lambda W: np.eye(5), times)
    with pytest.raises(UserError, match=r"shape of difference.*\(4, 4\).*5"):
        simulate(W1, W2, lambda W: np.eye(4), times)
    with pytest.raises(UserError, match=r"difference.*transpose"):
        simulate(W1, W2, lambda W: np.triu(np.ones((5, 5))), times)
    with pytest.raises(UserError, match=r"W1, W2.*t = 0 to 100.*without bound"):
        simulate(W1, W2, lambda W: np.eye(5), np.array([0.0, 100.0]))
    with pytest.raises(UserError, match=r"sigma1.*-0\.5.*above 0"):
        blow_up_time(-0.5, 0.5, 1.0)
    with pytest.raises(UserError, match=r"growth.*nan.*finite"):
        blow_up_time(0.5, 0.5, math.nan)
    with pytest.raises(UserError, match=r"\bt\b.*-1.*0 or more"):
        singular_values(0.5, 0.5, 1.0, -1.0)
    with pytest.raises(UserError, match=r"W1.*20"):
        alignment(np.full((4, 5), np.inf), W2)
    with pytest.raises(UserError, match=r"width.*0.*1 or more"):
        decaying_layers(0, 0.35, seed=0)
    with pytest.raises(UserError, match=r"decay.*-1.*0 or more"):
        decaying_layers(3, -1, seed=0)
