"""Symmetrised dynamics: agreement with the gradient of Lemma 1, the commutator's equation, alignment in time."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from eigenview.errors import UserError
from eigenview.theory import eigenvalues, linear_byol
from eigenview.theory.symmetrised import (
    alignment_margin,
    alignment_matrix,
    perturbed_start,
    relative_commutator,
    simulate,
    time_to_align,
    vector_field,
)
from tests.theory.finite_data import draw

RATES: dict[str, Any] = {"alpha_p": 1.7, "tau": 0.9, "eta": 0.3, "sigma2": 0.25}
SETTING: dict[str, Any] = {"tau": 1.0, "eta": 0.1, "sigma2": 0.25}
S = np.array([0.2, 0.4, 0.6, 0.8])
P_PLUS = 0.6828427125


def symmetric_pair(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """A symmetric W_p (eigenvalues of both signs) and a second moment F that share no eigenvector."""
    A, B = draw(4, 4, seed=seed).numpy(), draw(4, 4, seed=seed + 1).numpy()
    return (A + A.T) / 2, B @ B.T / 4


@pytest.mark.parametrize("symmetrise", [True, False])
def test_the_field_is_minus_the_gradient_of_the_expected_loss(symmetrise: bool) -> None:
    """X = I, X' = sigma2 I, W_a = tau W. Symmetrised: the gradient within symmetric matrices, W_p = (A + A^T) / 2.

    F = W W^T moves by the product rule.
    """
    A, W = draw(3, 3, seed=1).requires_grad_(), draw(3, 3, seed=2).requires_grad_()
    W_p = (A + A.T) / 2 if symmetrise else A
    identity = torch.eye(3, dtype=torch.float64)
    loss = linear_byol.expected_loss(
        W_p, W, (RATES["tau"] * W).detach(), X=identity, X_prime=RATES["sigma2"] * identity
    )
    dA, dW = torch.autograd.grad(loss, (A, W))
    W_rate = -dW - RATES["eta"] * W.detach()
    F_rate = W_rate @ W.detach().T + W.detach() @ W_rate.T
    matrix, F = W_p.detach().numpy(), (W @ W.T).detach().numpy()
    field = vector_field(matrix, F, **RATES, symmetrise=symmetrise)
    np.testing.assert_allclose(field["W_p"], (-RATES["alpha_p"] * dA).numpy() - RATES["eta"] * matrix, atol=1e-12)
    np.testing.assert_allclose(field["F"], F_rate.numpy(), atol=1e-12)


def test_the_commutator_obeys_its_equation() -> None:
    """[F, W_p]' = -{K, [F, W_p]}, far from alignment too."""
    for seed in range(5):
        W_p, F = symmetric_pair(seed)
        rate = vector_field(W_p, F, **RATES)
        gap = F @ W_p - W_p @ F
        gap_rate = rate["F"] @ W_p + F @ rate["W_p"] - rate["W_p"] @ F - W_p @ rate["F"]
        K = alignment_matrix(W_p, F, **RATES)
        np.testing.assert_allclose(gap_rate, -(K @ gap + gap @ K), atol=1e-11)


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize(("alpha_p", "at_20"), [(1, 1e-4), (4, 1e-8)])
def test_a_perturbed_start_aligns_and_every_mode_survives(alpha_p: float, at_20: float, seed: int) -> None:
    """The numbers of the formula sheet, 2.5."""
    W_p, F = perturbed_start(np.sqrt(S), S, 0.05, seed)
    run = simulate(W_p, F, np.linspace(0, 20, 201), alpha_p=alpha_p, **SETTING)
    commutator = relative_commutator(run.states["W_p"], run.states["F"])
    assert commutator[0] > 0.01
    assert (np.diff(commutator) < 0).all()
    assert commutator[-1] < at_20
    late = simulate(run.final["W_p"], run.final["F"], np.array([0.0, 150.0]), alpha_p=alpha_p, **SETTING).final
    np.testing.assert_allclose(np.linalg.eigvalsh(late["W_p"]), P_PLUS, atol=1e-9)
    np.testing.assert_allclose(np.linalg.eigvalsh(late["F"]), P_PLUS**2 / alpha_p, atol=1e-9)


def test_the_smallest_eigenvalue_of_k_bounds_the_decay() -> None:
    W_p, F = perturbed_start(np.sqrt(S), S, 0.1)
    run = simulate(W_p, F, np.linspace(0, 10, 401), alpha_p=1.0, **SETTING)
    pairs = list(zip(run.states["W_p"], run.states["F"], strict=True))
    sizes = np.array([np.linalg.norm(f @ w - w @ f) for w, f in pairs])
    rates = np.array(
        [
            2 * np.linalg.eigvalsh(alignment_matrix((w + w.T) / 2, (f + f.T) / 2, alpha_p=1.0, **SETTING))[0]
            for w, f in pairs
        ]
    )
    decay = np.concatenate([[0], np.cumsum((rates[1:] + rates[:-1]) / 2 * np.diff(run.times))])
    assert rates.min() > 0
    assert (sizes <= sizes[0] * np.exp(-decay) * (1 + 1e-3)).all()


def test_the_margin_is_the_condition_of_the_paper_and_k_per_mode() -> None:
    p, s = np.array([0.1, 0.5, 0.9]), np.array([0.3, 0.02, 0.7])
    margin = alignment_margin(p, s, **RATES)
    K = alignment_matrix(np.diag(p), np.diag(s), **RATES)
    np.testing.assert_allclose(np.diag(margin), K, atol=1e-15)
    left = p * (0.9 - 1.25 * p)
    right = (1.7 * 1.25 * s + 3 * 0.3) / 2
    np.testing.assert_allclose(margin, right - left, atol=1e-15)
    base = alignment_margin(p, s, **RATES)
    for change in ({"eta": 0.4}, {"alpha_p": 2.0}, {"tau": 0.8}):
        assert (alignment_margin(p, s, **(RATES | change)) > base).all()


def test_where_the_margin_is_negative_the_commutator_grows() -> None:
    """No weight decay, a slow predictor, small s and p = tau / (2 (1 + sigma2)), where the drive is largest."""
    options: dict[str, Any] = {"alpha_p": 0.1, "tau": 1.0, "eta": 0.0, "sigma2": 0.25}
    p, s = np.full(2, 0.4), np.array([0.05, 0.1])
    assert (alignment_margin(p, s, **options) < 0).all()
    W_p, F = perturbed_start(p, s, 0.01)
    run = simulate(W_p, F, np.linspace(0, 1, 11), **options)
    sizes = np.linalg.norm(run.states["F"] @ run.states["W_p"] - run.states["W_p"] @ run.states["F"], axis=(1, 2))
    assert (np.diff(sizes) > 0).all()


def test_a_commuting_start_follows_the_decoupled_modes_in_any_basis() -> None:
    U = np.linalg.qr(draw(4, 4, seed=3).numpy())[0]
    p, times = np.array([0.1, 0.3, 0.7, 0.9]), np.linspace(0, 6, 7)
    W_p, F = (U * p) @ U.T, (U * S) @ U.T
    run = simulate((W_p + W_p.T) / 2, (F + F.T) / 2, times, alpha_p=2.0, **SETTING)
    modes = eigenvalues.simulate(p, S, times, alpha_p=2.0, **SETTING)
    for name, values in (("W_p", modes.states["p"]), ("F", modes.states["s"])):
        rotated = U.T @ run.states[name] @ U
        np.testing.assert_allclose(rotated, values[:, :, None] * np.eye(4), atol=1e-9)
    assert time_to_align(run, 1e-9) == 0


def test_without_symmetrising_it_is_lemma_1() -> None:
    """F = W W^T of the full-matrix simulation, W_a = W; the symmetrised run is close but another."""
    W_p, F = perturbed_start(np.sqrt(S), S, 0.05)
    W, times = np.sqrt(F), np.array([0.0, 4.0])
    full = linear_byol.simulate(W, times, W_p=W_p, X=np.eye(4), X_prime=0.25 * np.eye(4), eta=0.1).final
    same = simulate(W_p, F, times, symmetrise=False, **SETTING).final
    np.testing.assert_allclose(same["W_p"], full["W_p"], atol=1e-9)
    np.testing.assert_allclose(same["F"], full["W"] @ full["W"].T, atol=1e-9)
    other = simulate(W_p, F, times, **SETTING).final
    assert 1e-6 < np.abs(other["W_p"] - same["W_p"]).max() < 1e-2


def test_relative_commutator_and_time_to_align_by_hand() -> None:
    A, B = np.array([[1.0, 0], [0, -1]]), np.array([[0.0, 1], [1, 0]])
    # A B - B A = [[0, 2], [-2, 0]]: norm sqrt 8 over sqrt 2 sqrt 2
    assert relative_commutator(A, B) == pytest.approx(np.sqrt(2))
    np.testing.assert_array_equal(relative_commutator(np.stack([A, 0 * A]), np.stack([A, A])), [0, 0])
    W_p, F = perturbed_start(np.sqrt(S), S, 0.05)
    run = simulate(W_p, F, np.linspace(0, 20, 201), **SETTING)
    values = relative_commutator(run.states["W_p"], run.states["F"])
    t = time_to_align(run, 1e-3)
    assert (values[run.times >= t] < 1e-3).all()
    assert values[run.times < t][-1] >= 1e-3
    assert time_to_align(run, 1e-12) == np.inf


def test_the_perturbation_is_symmetric_and_of_the_given_size() -> None:
    W_p, F = perturbed_start(np.zeros(400), np.ones(400), 0.05, seed=1)
    np.testing.assert_array_equal(F, np.eye(400))
    np.testing.assert_array_equal(W_p, W_p.T)
    off = W_p[np.triu_indices(400, 1)]
    assert off.std() == pytest.approx(0.05 / np.sqrt(2), rel=0.01)  # 80 thousand draws: standard error 0.25 percent
    assert W_p.diagonal().std() == pytest.approx(0.05, rel=0.15)


def test_bad_input() -> None:
    W_p, F, times = np.eye(2), np.eye(2), np.array([0.0, 1.0])
    bad: list[tuple[str, Any, dict[str, Any]]] = [
        (r"shape of W_p.*\(2, 3\)", (np.ones((2, 3)), F), {}),
        (r"W_p.*transpose", (np.triu(np.ones((2, 2))), F), {}),
        (r"shape of F.*\(3, 3\).*\(2, 2\)", (W_p, np.eye(3)), {}),
        (r"eigenvalue of F.*-1", (W_p, -F), {}),
        (r"sigma2.*-0\.1.*0 or more", (W_p, F), {"sigma2": -0.1}),
        (r"tau.*-1.*0 or more", (W_p, F), {"tau": -1}),
    ]
    for message, (first, second), options in bad:
        with pytest.raises(UserError, match=message):
            simulate(first, second, times, **options)
    with pytest.raises(UserError, match=r"p and s.*\(2,\).*\(3,\)"):
        perturbed_start(np.ones(2), np.ones(3), 0.1)
    with pytest.raises(UserError, match=r"\bs\b.*-1.*0 or more"):
        perturbed_start(np.ones(2), -np.ones(2), 0.1)
    with pytest.raises(UserError, match=r"W_p.*transpose"):
        alignment_matrix(np.triu(np.ones((2, 2))), F, **RATES)
