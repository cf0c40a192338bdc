"""DirectSet(alpha): the table of fixed points, thresholds, the full-matrix run that ends on them."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch

from eigenview.errors import UserError
from eigenview.functional.predictors import predictor_matrix
from eigenview.theory.directset import (
    fixed_points,
    mode_field,
    nuisance_threshold,
    simulate,
    simulate_modes,
    vector_field,
)
from eigenview.theory.linear_byol import expected_loss
from tests.theory.finite_data import draw

ALPHAS = (0.25, 0.5, 1, 2)
NUISANCE = np.diag([0.0, 0, 1, 1])


@pytest.mark.parametrize("alpha", ALPHAS)
def test_the_field_is_minus_the_gradient_with_the_predictor_held_constant(alpha: float) -> None:
    """The library's own DirectSet predictor (no eps, no norm) of F = W W^T, and the expected loss at W_a = W."""
    W = draw(3, 4, seed=1).requires_grad_()
    W_p = predictor_matrix((W @ W.T).detach(), alpha, 0.0, normalise_by="none")
    A = draw(4, 4, seed=2)
    X_prime = A @ A.T
    loss = expected_loss(W_p, W, W.detach(), X=torch.eye(4, dtype=torch.float64), X_prime=X_prime)
    expected = -torch.autograd.grad(loss, W)[0] - 0.1 * W.detach()
    field = vector_field(W.detach().numpy(), alpha=alpha, eta=0.1, X_prime=X_prime.numpy())
    np.testing.assert_allclose(field, expected.numpy(), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("alpha", ALPHAS)
def test_a_mode_is_a_diagonal_entry_of_the_full_field(alpha: float) -> None:
    w = np.array([0.3, 0.9, 0.4, 1.1])
    full = vector_field(np.diag(w), alpha=alpha, eta=0.2, X_prime=0.7 * NUISANCE)
    modes = mode_field(w, alpha=alpha, eta=0.2, sigma2=0.7 * NUISANCE.diagonal())
    np.testing.assert_allclose(full, np.diag(modes), atol=1e-14)


# the last of the first row is the square root of the one before it
TABLE = [
    (0.2, 1.0, (0.5236067977, 0.7236067977, 0.8506508084, 0.9223073286)),
    (0.1, 0.0, (0.7872983346, 0.8872983346, 0.9419651451, 0.9705488886)),
]


@pytest.mark.parametrize(("eta", "sigma2", "expected"), TABLE)
def test_the_table_of_singular_values(eta: float, sigma2: float, expected: tuple[float, ...]) -> None:
    points = [fixed_points(alpha=alpha, eta=eta, sigma2=sigma2) for alpha in ALPHAS]
    assert [p.invariant for p in points] == pytest.approx(expected, abs=6e-11)
    nuisance = [0.0] * 4 if sigma2 else [p.invariant for p in points]  # without noise no direction is a nuisance
    assert [p.nuisance for p in points] == nuisance
    tiny = fixed_points(alpha=1, eta=4e-4, sigma2=1)
    assert tiny.invariant == pytest.approx(0.9997998999, abs=6e-11)


@pytest.mark.parametrize("alpha", ALPHAS)
@pytest.mark.parametrize("eta", [0.2, 0.1])
def test_fixed_points_are_zeros_of_the_field_and_edges_divide_the_starts(alpha: float, eta: float) -> None:
    """sigma2 = 1: at eta = 0.2 the nuisance vanishes, at 0.1 (below 1/8) it stays."""
    points = fixed_points(alpha=alpha, eta=eta, sigma2=1.0)
    rest = np.array([points.invariant, points.invariant_edge, points.nuisance])
    np.testing.assert_allclose(mode_field(rest, alpha=alpha, eta=eta, sigma2=np.array([0, 0, 1.0])), 0, atol=1e-15)
    starts = points.invariant_edge * np.array([0.99, 1.01])
    end = simulate_modes(starts, np.array([0.0, 400.0]), alpha=alpha, eta=eta, sigma2=np.zeros(2)).final["w"]
    np.testing.assert_allclose(end, [0, points.invariant], atol=1e-6)
    if eta == 0.1:
        starts = points.nuisance_edge * np.array([0.99, 1.01])
        end = simulate_modes(starts, np.array([0.0, 600.0]), alpha=alpha, eta=eta, sigma2=np.ones(2)).final["w"]
        np.testing.assert_allclose(end, [0, points.nuisance], atol=1e-6)
    else:
        starts = np.array([0.1, 1.0, 3.0])
        end = simulate_modes(starts, np.array([0.0, 400.0]), alpha=alpha, eta=eta, sigma2=np.ones(3)).final["w"]
        assert end.max() < 1e-6


@pytest.mark.parametrize(("alpha", "expected"), list(zip(ALPHAS[1:], TABLE[0][2][1:], strict=True)))
def test_a_full_matrix_run_keeps_the_invariant_and_drops_the_nuisance_subspace(alpha: float, expected: float) -> None:
    """Start 0.9 I plus small noise, in a basis that is not the subspaces' own; without noise w P_S is the end."""
    U = np.linalg.qr(draw(4, 4, seed=5).numpy())[0]
    P_B = U @ NUISANCE @ U.T
    P_B = (P_B + P_B.T) / 2
    for noise in (0.0, 0.02):
        start = 0.9 * np.eye(4) + noise * draw(4, 4, seed=0).numpy()
        W = simulate(start, np.array([0.0, 600.0]), alpha=alpha, eta=0.2, X_prime=P_B).final["W"]
        np.testing.assert_allclose(np.linalg.svd(W)[1], [expected, expected, 0, 0], atol=1e-8)
        np.testing.assert_allclose(W.T @ W, expected**2 * (np.eye(4) - P_B), atol=1e-8)
        if noise == 0:
            np.testing.assert_allclose(W, expected * (np.eye(4) - P_B), atol=1e-8)


def test_the_nuisance_threshold() -> None:
    assert nuisance_threshold(1.0) == 0.125
    assert nuisance_threshold(0.0) == 0.25
    below, at, above = (fixed_points(alpha=1, eta=0.125 + d, sigma2=1.0) for d in (-1e-9, 0, 1e-9))
    assert below.nuisance > 0.499
    assert at.nuisance == pytest.approx(0.5)
    assert above.nuisance == 0
    assert above.invariant > 0.9


def test_signal_to_noise_against_alpha() -> None:
    """Below the threshold smaller alpha separates more: with p_S / p_B = R the ratio is R^(1 / alpha)."""
    ratios = np.array([fixed_points(alpha=alpha, eta=0.1, sigma2=1.0).signal_to_noise for alpha in ALPHAS])
    p_S, p_B = (1 + np.sqrt(0.6)) / 2, (1 + np.sqrt(0.2)) / 4
    np.testing.assert_allclose(ratios, (p_S / p_B) ** (1 / np.array(ALPHAS)), rtol=1e-12)
    assert (np.diff(ratios) < 0).all()
    assert fixed_points(alpha=1, eta=0.2, sigma2=1.0).signal_to_noise == np.inf
    # the same from a run
    run = simulate(0.9 * np.eye(4), np.array([0.0, 400.0]), alpha=2, eta=0.1, X_prime=NUISANCE).final["W"]
    assert (run[0, 0] / run[2, 2]) ** 2 == pytest.approx(ratios[-1], rel=1e-6)


def test_description_in_one_sentence() -> None:
    gone = fixed_points(alpha=1, eta=0.26, sigma2=1.0)
    assert (gone.invariant, gone.nuisance) == (0, 0)
    assert re.search(r"collapses.*eta = 0\.26.*1/4", gone.describe())
    with pytest.raises(UserError, match=r"eta.*0\.26.*1/4"):
        _ = gone.signal_to_noise
    assert re.search(r"nuisance.*vanish.*0\.2.*0\.125", fixed_points(alpha=1, eta=0.2, sigma2=1.0).describe())
    assert re.search(r"ratio.* 2\.45", fixed_points(alpha=1, eta=0.1, sigma2=1.0).describe())


def test_bad_input() -> None:
    times = np.array([0.0, 1.0])
    for message, options in [
        (r"alpha.*0.*above 0", {"alpha": 0}),
        (r"eta.*-1.*0 or more", {"eta": -1}),
        (r"sigma2.*-1.*0 or more", {"sigma2": -1}),
    ]:
        with pytest.raises(UserError, match=message):
            fixed_points(**({"alpha": 1, "eta": 0.1, "sigma2": 1} | options))
    with pytest.raises(UserError, match=r"shape of W.*\(3,\)"):
        simulate(np.ones(3), times, alpha=1, eta=0.1, X_prime=np.eye(3))
    with pytest.raises(UserError, match=r"shape of X_prime.*\(2, 2\).*\(3, 3\)"):
        simulate(np.ones((2, 3)), times, alpha=1, eta=0.1, X_prime=np.eye(2))
    with pytest.raises(UserError, match=r"X_prime.*transpose"):
        simulate(np.eye(4), times, alpha=1, eta=0.1, X_prime=np.triu(np.ones((4, 4))))
    with pytest.raises(UserError, match=r"eigenvalue of X_prime.*-1"):
        simulate(np.eye(4), times, alpha=1, eta=0.1, X_prime=-NUISANCE)
    with pytest.raises(UserError, match=r"\bw\b.*-1.*0 or more"):
        simulate_modes(-np.ones(2), times, alpha=1, eta=0.1, sigma2=np.ones(2))
    with pytest.raises(UserError, match=r"sigma2.*-1.*0 or more"):
        simulate_modes(np.ones(2), times, alpha=1, eta=0.1, sigma2=-np.ones(2))
    with pytest.raises(UserError, match=r"w and sigma2.*\(2,\).*\(3,\)"):
        simulate_modes(np.ones(2), times, alpha=1, eta=0.1, sigma2=np.ones(3))
