"""Time on the axes is that of the mean loss: the curves are gradient descent on it with small steps."""

from __future__ import annotations

import numpy as np
from numpy import ndarray

from eigenview.simulations import infonce, two_layers
from eigenview.simulations.result import Result
from eigenview.theory.infonce import gaussian_pairs, velocity
from eigenview.theory.two_layers import decaying_layers

SAMPLES, END, STEPS = 8, 0.5, 4000


def at_the_end(result: Result, title: str) -> ndarray:
    (panel,) = [panel for panel in result.panels if panel.title == title]
    assert panel.curves[0].x[-1] == END
    return panel.curves[0].y[-1]


def test_infonce_runs_in_the_time_of_the_mean_loss() -> None:
    result = infonce.simulate(infonce.Options(kept=2, noisy=1, width=3, samples=SAMPLES, end=END, scale=0.5))
    x, x_prime = gaussian_pairs(SAMPLES, np.array([0.0, 0.0, 3.0]), seed=0)
    W = 0.5 * np.random.default_rng([0, 1]).standard_normal((3, 3))
    for _ in range(STEPS):
        W = W + END / STEPS * velocity(W, x, x_prime, 1.0) / SAMPLES
    expected = np.linalg.svd(W, compute_uv=False)
    np.testing.assert_allclose(at_the_end(result, "Singular values of W"), expected, rtol=5e-3)


def test_one_and_two_layers_run_in_the_same_time() -> None:
    result = two_layers.simulate(two_layers.Options(width=3, decay=0.5, samples=SAMPLES, end=END, noise=0.1))
    x, x_prime = gaussian_pairs(SAMPLES, np.full(3, 0.1), seed=0)
    W1, W2 = decaying_layers(3, 0.5, seed=0)
    one = W2 @ W1
    for _ in range(STEPS):
        one = one + END / STEPS * velocity(one, x, x_prime, 1.0) / SAMPLES
        slope = velocity(W2 @ W1, x, x_prime, 1.0) / SAMPLES  # of the product; each layer by the chain rule
        W1, W2 = W1 + END / STEPS * W2.T @ slope, W2 + END / STEPS * slope @ W1.T
    for title, W in (("one layer", one), ("two layers", W2 @ W1)):
        expected = np.linalg.svd(W, compute_uv=False)
        np.testing.assert_allclose(at_the_end(result, f"Singular values, {title}"), expected, rtol=5e-3)
