"""The linear dynamics of InfoNCE: autograd of the loss, naive sums, the matrix exponential, predicted loss of rank."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy import ndarray
from scipy.linalg import expm

from eigenview.errors import UserError
from eigenview.methods import infonce as objective
from eigenview.theory.infonce import (
    covariances,
    difference,
    gaussian_pairs,
    num_lost,
    pair_weights,
    simulate,
    solution,
    velocity,
)
from eigenview.theory.simulation import integrate
from tests.draws import random

EPS = [0.0, 1.0, 3.0]


def example() -> tuple[ndarray, ndarray, ndarray]:
    """(W, x, x'): 4 outputs, 5 inputs, 12 pairs away from the origin."""
    x = random(12, 5) + 2
    return random(4, 5, seed=2).numpy(), x.numpy(), (x + 0.5 * random(12, 5, seed=1)).numpy()


def loss(W: ndarray, x: ndarray, x_prime: ndarray, eps: float) -> float:
    z, z_prime = torch.from_numpy(x @ W.T), torch.from_numpy(x_prime @ W.T)
    return objective.info_nce_terms(z, z_prime, eps).sum().item()


def minus_gradient(W: ndarray, x: ndarray, x_prime: ndarray, eps: float) -> ndarray:
    weights = torch.from_numpy(W).clone().requires_grad_()
    z, z_prime = torch.from_numpy(x) @ weights.T, torch.from_numpy(x_prime) @ weights.T
    return -torch.autograd.grad(objective.info_nce_terms(z, z_prime, eps).sum(), weights)[0].numpy()


@pytest.mark.parametrize("eps", EPS)
@pytest.mark.parametrize("scale", [0.01, 1.0, 5.0])
def test_velocity_is_minus_the_gradient_of_the_objective(eps: float, scale: float) -> None:
    """With far apart embeddings (scale 5) the weights are all but one-hot; the identity still holds."""
    W, x, x_prime = example()
    expected = minus_gradient(scale * W, x, x_prime, eps)
    np.testing.assert_allclose(
        velocity(scale * W, x, x_prime, eps), expected, rtol=1e-12, atol=1e-12 * abs(expected).max()
    )


@pytest.mark.parametrize("eps", EPS)
def test_weights_are_the_objectives(eps: float) -> None:
    W, x, x_prime = example()
    z, z_prime = x @ W.T, x_prime @ W.T
    expected = objective.pair_weights(torch.from_numpy(z), torch.from_numpy(z_prime), eps).numpy()
    np.testing.assert_allclose(pair_weights(z, z_prime, eps), expected, rtol=1e-12, atol=1e-15)
    if eps == 0:
        np.testing.assert_allclose(pair_weights(z, z_prime, eps).sum(axis=1), 1, rtol=1e-14)


def test_covariances_are_the_naive_sums() -> None:
    _, x, x_prime = example()
    alpha = np.random.default_rng(0).uniform(size=(12, 12))
    np.fill_diagonal(alpha, 0)
    negatives, augmentation = np.zeros((5, 5)), np.zeros((5, 5))
    for i in range(12):
        for j in range(12):
            negatives += alpha[i, j] * np.outer(x[i] - x[j], x[i] - x[j])
        augmentation += alpha[i].sum() * np.outer(x[i] - x_prime[i], x[i] - x_prime[i])
    result = covariances(x, x_prime, alpha)
    np.testing.assert_allclose(result.negatives, negatives, rtol=1e-12)
    np.testing.assert_allclose(result.augmentation, augmentation, rtol=1e-12)
    np.testing.assert_allclose(result.difference, negatives - augmentation, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("ratio", [1.9, 2.1])
def test_a_small_network_loses_directions_of_more_than_twice_the_variance(ratio: float) -> None:
    """Views whose mean squared difference is exactly `ratio` times the covariance: all eigenvalues change sign at 2."""
    x, _ = gaussian_pairs(30, np.ones(3), seed=0)
    y = (x - x.mean(axis=0))[np.random.default_rng(1).permutation(30)]
    x_prime = x + (ratio * 30 / 29) ** 0.5 * y  # the mean over 30, the covariance over 29
    D = difference(np.zeros((2, 3)), x, x_prime, eps=1.0)
    np.testing.assert_allclose(D, 29 * (2 - ratio) * np.cov(x.T), rtol=1e-10, atol=1e-10)
    assert num_lost(D) == (3 if ratio > 2 else 0)


def test_constant_solution_is_the_matrix_exponential_and_grows_along_eigenvectors() -> None:
    W, _, _ = example()
    Q = np.linalg.qr(random(5, 5, seed=3).numpy()).Q
    values = np.array([1.0, 0.3, 0.0, -0.5, -2.0])
    D = (Q * values) @ Q.T
    times = np.array([0.0, 0.7, 2.0])
    W_t = solution(W, D, times)
    for t, each in zip(times, W_t, strict=True):
        np.testing.assert_allclose(each, W @ expm(t * D), rtol=1e-11, atol=1e-12)
        lengths = np.linalg.norm(each @ Q, axis=0)
        np.testing.assert_allclose(lengths, np.linalg.norm(W @ Q, axis=0) * np.exp(values * t), rtol=1e-11)
    flow = integrate(lambda t, s: {"W": s["W"] @ D}, {"W": W}, times)
    np.testing.assert_allclose(flow.states["W"], W_t, rtol=1e-8, atol=1e-10)


def test_negative_eigenvalues_cost_rank() -> None:
    Q = np.linalg.qr(random(5, 5, seed=3).numpy()).Q
    D = (Q * [1.0, 0.5, 0.2, -3.0, -4.0]) @ Q.T
    assert num_lost(D) == 2
    assert num_lost(D @ D) == 0
    W = solution(random(5, 5, seed=4).numpy(), D, np.array([10.0]))[0]
    s = np.linalg.svd(W, compute_uv=False)
    assert s[2] > 1
    assert s[3] < 1e-12 * s[0]  # e^{-30} against e^{10}


def test_simulation_of_a_small_network_follows_the_constant_solution() -> None:
    W, x, x_prime = example()
    W = 1e-5 * W
    D = difference(np.zeros_like(W), x, x_prime, eps=1.0)
    times = np.linspace(0, 3 / np.abs(np.linalg.eigvalsh(D)).max(), 4)
    result = simulate(W, x, x_prime, times, eps=1.0, rtol=1e-10, atol=1e-16)
    np.testing.assert_allclose(result.states["W"], solution(W, D, times), rtol=1e-5, atol=1e-11)
    np.testing.assert_allclose(result.states["eigenvalues"][0], np.linalg.eigvalsh(D)[::-1], rtol=1e-6)


@pytest.mark.parametrize("eps", [0.0, 1.0])
def test_augmented_coordinates_are_lost(eps: float) -> None:
    """Sixteen coordinates, noise of three standard deviations on the last eight: W keeps the first eight."""
    x, x_prime = gaussian_pairs(128, np.repeat([0.0, 3.0], 8), seed=0)
    W = 0.1 * random(16, 16, seed=1).numpy()
    result = simulate(W, x, x_prime, np.linspace(0, 0.05, 6), eps=eps, rtol=1e-6, atol=1e-8)
    assert ((result.states["eigenvalues"] < 0).sum(axis=1) == 8).all()
    s = result.final["singular_values"]
    assert s[7] > 0.9
    assert s[8] < 0.01 * s[7]
    kept, lost = result.final["W"][:, :8], result.final["W"][:, 8:]
    assert np.linalg.norm(lost) < 0.05 * np.linalg.norm(kept)  # not 0: in a sample the noise correlates with the data
    losses = [loss(w, x, x_prime, eps) for w in result.states["W"]]
    assert (np.diff(losses) < 0).all()


def test_gradient_descent_follows_the_flow_and_its_error_halves_with_the_step() -> None:
    W, x, x_prime = example()
    end = 0.02
    exact = simulate(0.3 * W, x, x_prime, np.array([0.0, end]), eps=1.0, rtol=1e-11, atol=1e-12).final["W"]
    errors = []
    for steps in (100, 200, 400):
        w = 0.3 * W
        for _ in range(steps):
            w = w + end / steps * minus_gradient(w, x, x_prime, 1.0)
        errors.append(np.abs(w - exact).max())
    assert errors[0] < 0.05
    assert errors[0] / errors[1] == pytest.approx(2, rel=0.05)
    assert errors[1] / errors[2] == pytest.approx(2, rel=0.05)


def test_bad_input() -> None:
    W, x, x_prime = example()
    times = np.array([0.0, 1.0])
    with pytest.raises(UserError, match=r"eps.*-1.*0 or more"):
        simulate(W, x, x_prime, times, eps=-1)
    with pytest.raises(UserError, match=r"shape of x_prime.*\(11, 5\).*\(12, 5\)"):
        simulate(W, x, x_prime[1:], times)
    with pytest.raises(UserError, match=r"shape of W.*\(4, 4\).*5"):
        simulate(W[:, 1:], x, x_prime, times)
    with pytest.raises(UserError, match=r"shape of x.*\(1, 5\).*2"):
        simulate(W, x[:1], x_prime[:1], times)
    with pytest.raises(UserError, match=r"x and x_prime.*60"):
        simulate(W, np.full_like(x, np.nan), x_prime, times)
    with pytest.raises(UserError, match=r"difference.*transpose"):
        solution(W, np.triu(np.ones((5, 5))), times)
    with pytest.raises(UserError, match=r"difference.*transpose"):
        num_lost(np.triu(np.ones((5, 5))))
    with pytest.raises(UserError, match=r"times.*-1.*0 or more"):
        solution(W, np.eye(5), np.array([-1.0]))
    with pytest.raises(UserError, match=r"noise.*-1.*0 or more"):
        gaussian_pairs(5, np.array([-1.0]), seed=0)
    with pytest.raises(UserError, match=r"samples.*1.*2"):
        gaussian_pairs(1, np.ones(2), seed=0)


def test_a_solution_that_is_no_number_any_more_is_refused() -> None:
    """Along the eigenvalue 2 W is exp(2 t): a float64 holds it, and its square, up to t = 150."""
    start, difference = np.eye(2), np.diag([2.0, -1.0])
    assert np.isfinite(np.square(solution(start, difference, np.array([150.0])))).all()
    with pytest.raises(UserError, match="no number any more at t = 151; allowed here: up to 150"):
        solution(start, difference, np.array([0.0, 151.0]))
