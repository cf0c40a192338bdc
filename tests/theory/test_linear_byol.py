"""Lemma 1: the field is minus BYOL's gradient over a whole distribution; closed forms; SGD follows the flow."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from eigenview.errors import UserError
from eigenview.methods.byol import BYOL, BYOLConfig
from eigenview.theory.linear_byol import (
    expected_loss,
    operator_without_stop_gradient,
    simulate,
    vector_field,
    without_predictor,
)
from eigenview.views import Views
from tests.theory.finite_data import draw, every_pair, images_with_views, moments

IMAGES = images_with_views()
X, X_PRIME = moments(IMAGES)
PAIRS = every_pair(IMAGES)
DATA: dict[str, Any] = {"X": X.numpy(), "X_prime": X_PRIME.numpy()}
RATES: dict[str, Any] = {"alpha_p": 1.7, "beta": 0.4, "eta": 0.3}


def matrices() -> tuple[Tensor, Tensor, Tensor]:
    """W_p (2 2), W (2 3), W_a (2 3), none symmetric or special."""
    return draw(2, 2, seed=1), draw(2, 3, seed=2), draw(2, 3, seed=3)


def byol(W_p: Tensor, W: Tensor, W_a: Tensor, *, stop_gradient: bool = True) -> Tensor:
    """The library's objective over all pairs of views, Euclidean; both directions without 1/2: four times J."""
    objective = BYOL(BYOLConfig(normalise=False, stop_gradient=stop_gradient))
    return objective(Views(p=PAIRS @ W.T @ W_p.T, z_target=PAIRS @ W_a.T)).total / 4


def test_the_expected_loss_is_the_mean_over_all_pairs_of_views() -> None:
    W_p, W, W_a = matrices()
    by_loops = [(W_p @ W @ x1 - W_a @ x2).square().sum() / 2 for image in IMAGES for x1 in image for x2 in image]
    expected = torch.stack(by_loops).mean()
    torch.testing.assert_close(expected_loss(W_p, W, W_a, X=X, X_prime=X_PRIME), expected, rtol=1e-13, atol=0)
    in_numpy = expected_loss(W_p.numpy(), W.numpy(), W_a.numpy(), **DATA)
    assert in_numpy == pytest.approx(expected.item(), rel=1e-13)
    assert byol(W_p, W, W_a).item() == pytest.approx(expected.item(), rel=1e-13)


@pytest.mark.parametrize("of", ["the objective on all pairs", "the expected loss"])
@pytest.mark.parametrize("stop_gradient", [True, False])
def test_the_field_is_minus_the_gradient(of: str, stop_gradient: bool) -> None:
    W_p, W, W_a = matrices()
    W_p.requires_grad_()
    W.requires_grad_()
    target = W_a if stop_gradient else W
    if of == "the expected loss":
        loss = expected_loss(W_p, W, target, X=X, X_prime=X_PRIME)
    else:
        loss = byol(W_p, W, target, stop_gradient=stop_gradient)
    # the predictor's learning rate alpha_p multiplies its gradient, not its weight decay
    gradients = torch.autograd.grad(loss, (W_p, W))
    field = vector_field(*(m.detach().numpy() for m in (W_p, W, target)), **DATA, **RATES, stop_gradient=stop_gradient)
    expected_p = -RATES["alpha_p"] * gradients[0] - RATES["eta"] * W_p.detach()
    expected_w = -gradients[1] - RATES["eta"] * W.detach()
    np.testing.assert_allclose(field["W_p"], expected_p.numpy(), atol=1e-12)
    np.testing.assert_allclose(field["W"], expected_w.numpy(), atol=1e-12)
    np.testing.assert_allclose(field["W_a"], 0.4 * (W - target).detach().numpy(), atol=1e-15)


def test_stop_gradient_with_the_online_target_is_another_field() -> None:
    """W_a = W held constant is Lemma 1; letting the gradient through is the loss's own, and differs."""
    W_p, W, _ = (m.numpy() for m in matrices())
    stopped, full = (vector_field(W_p, W, W, **DATA, stop_gradient=stop) for stop in (True, False))
    np.testing.assert_array_equal(stopped["W_p"], full["W_p"])
    assert np.abs(stopped["W"] - full["W"]).max() > 0.1


def test_without_stop_gradient_the_field_is_a_decaying_linear_operator() -> None:
    W_p, W, _ = (m.numpy() for m in matrices())
    H = operator_without_stop_gradient(W_p, **DATA, eta=0.3)
    rate = vector_field(W_p, W, W, **DATA, eta=0.3, stop_gradient=False)["W"]
    np.testing.assert_allclose(-H @ W.ravel(order="F"), rate.ravel(order="F"), atol=1e-12)
    np.testing.assert_allclose(H, H.T, atol=1e-14)
    assert np.linalg.eigvalsh(H)[0] >= 0.3
    run = simulate(W, np.linspace(0, 60, 121), W_p=W_p, **DATA, stop_gradient=False)
    sizes = np.linalg.norm(run.states["W"], axis=(1, 2))
    assert (np.diff(sizes) <= 0).all()
    assert sizes[-1] < 1e-2 * sizes[0]


def test_without_a_predictor_weights_decay_by_the_view_noise() -> None:
    _, W, _ = (m.numpy() for m in matrices())
    times = np.linspace(0, 4, 5)
    run = simulate(W, times, W_p=None, **DATA, eta=0.1)
    assert set(run.states) == {"W"}
    for t, state in zip(times, run.states["W"], strict=True):
        np.testing.assert_allclose(state, without_predictor(W, t, X_prime=DATA["X_prime"], eta=0.1), rtol=1e-7)
    isotropic = without_predictor(W, 2.0, X_prime=0.5 * np.eye(3), eta=0.1)
    np.testing.assert_allclose(isotropic, W * np.exp(-2 * (0.5 + 0.1)), rtol=1e-13)


def test_a_direction_without_view_noise_survives_without_a_predictor() -> None:
    W = np.ones((2, 2))
    end = without_predictor(W, 100.0, X_prime=np.diag([0.0, 1.0]))
    np.testing.assert_allclose(end, [[1, 0], [1, 0]], atol=1e-15)


def test_a_predictor_with_stop_gradient_keeps_the_encoder_alive() -> None:
    """The same start collapses without the predictor and without the stop-gradient."""
    W, W_p = 0.8 * np.eye(2), 0.5 * np.eye(2)
    options: dict[str, Any] = {"X": np.eye(2), "X_prime": 0.25 * np.eye(2), "eta": 0.05}
    times = np.array([0.0, 150.0])
    alive = simulate(W, times, W_p=W_p, **options).final
    p_plus = (1 + np.sqrt(1 - 4 * 0.05 * 1.25)) / 2.5
    np.testing.assert_allclose(alive["W_p"], p_plus * np.eye(2), atol=1e-5)
    np.testing.assert_allclose(alive["W"], p_plus * np.eye(2), atol=1e-5)
    for end in (
        simulate(W, times, W_p=None, **options).final["W"],
        simulate(W, times, W_p=W_p, stop_gradient=False, **options).final["W"],
    ):
        assert np.abs(end).max() < 1e-3


def test_the_target_follows_the_encoder_at_its_rate() -> None:
    """Without data W stands still, and W - W_a decays as e^(-beta t); by default W_a starts as W."""
    W, W_p = 0.5 * np.eye(2), np.eye(2)
    still: dict[str, Any] = {"X": np.zeros((2, 2)), "X_prime": np.zeros((2, 2)), "alpha_p": 0.0}
    run = simulate(W, np.array([0.0, 3.0]), W_p=W_p, W_a=np.zeros((2, 2)), beta=0.7, **still)
    np.testing.assert_allclose(run.final["W_a"], W * (1 - np.exp(-2.1)), rtol=1e-9)
    np.testing.assert_array_equal(simulate(W, np.array([0.0, 3.0]), W_p=W_p, beta=0.7, **still).states["W_a"][0], W)


def test_a_fast_target_is_the_online_network() -> None:
    W_p, W, _ = (m.numpy() for m in matrices())
    times = np.array([0.0, 2.0])
    online = simulate(W, times, W_p=W_p, **DATA, eta=0.1).final["W"]
    gaps = [
        np.abs(simulate(W, times, W_p=W_p, **DATA, eta=0.1, beta=beta).final["W"] - online).max() for beta in (50, 100)
    ]
    assert gaps[1] < 0.02
    assert gaps[0] / gaps[1] == pytest.approx(2, rel=0.1)


def test_sgd_on_the_objective_follows_the_flow_with_an_error_of_first_order() -> None:
    """Full-batch SGD of the library's BYOL with a target network, up to t = 1: half the step, half the error."""
    start, end = matrices(), 1.0
    run = simulate(start[1].numpy(), np.array([0.0, end]), W_p=start[0].numpy(), W_a=start[2].numpy(), **DATA, **RATES)
    errors: list[float] = []
    for steps in (50, 100, 200):
        lr = end / steps
        W_p, W = start[0].clone().requires_grad_(), start[1].clone().requires_grad_()
        W_a = start[2].clone()
        alpha_p, eta = RATES["alpha_p"], RATES["eta"]
        groups = [
            {"params": [W], "lr": lr, "weight_decay": eta},
            {"params": [W_p], "lr": lr * alpha_p, "weight_decay": eta / alpha_p},
        ]
        optimiser = torch.optim.SGD(groups)
        for _ in range(steps):
            optimiser.zero_grad()
            byol(W_p, W, W_a).backward()
            before = W.detach().clone()
            optimiser.step()
            W_a = W_a + lr * RATES["beta"] * (before - W_a)
        got = {"W_p": W_p.detach(), "W": W.detach(), "W_a": W_a}
        errors.append(max(np.abs(got[name].numpy() - run.final[name]).max() for name in got))
    assert errors[0] < 0.04
    assert errors[0] / errors[1] == pytest.approx(2, rel=0.1)
    assert errors[1] / errors[2] == pytest.approx(2, rel=0.05)


def test_bad_input() -> None:
    W_p, W, W_a = (m.numpy() for m in matrices())
    times = np.array([0.0, 1.0])
    bad: list[tuple[str, dict[str, Any]]] = [
        (r"shape of W_p.*\(2, 3\)", {"W_p": np.ones((2, 3))}),
        (r"shape of W_p.*\(3, 3\).*\(2, 2\)", {"W_p": np.eye(3)}),
        (r"X.*transpose", {"X": np.triu(np.ones((3, 3)))}),
        (r"eigenvalue of X_prime.*-1", {"X_prime": -np.eye(3)}),
        (r"shape of X.*\(2, 2\).*\(3, 3\)", {"X": np.eye(2)}),
        (r"eta.*-1.*0 or more", {"eta": -1}),
        (r"alpha_p.*nan.*0 or more", {"alpha_p": np.nan}),
        (r"beta.*-0\.1.*0 or more", {"beta": -0.1}),
        (r"beta.*None.*W_a", {"W_a": W_a}),
        (r"shape of W_a.*\(2, 2\).*\(2, 3\)", {"W_a": W_p, "beta": 1.0}),
        (r"beta.*1\.0.*None.*stop-gradient", {"beta": 1.0, "stop_gradient": False}),
    ]
    for message, change in bad:
        with pytest.raises(UserError, match=message):
            simulate(W, times, **({"W_p": W_p, **DATA} | change))
    with pytest.raises(UserError, match=r"shape of W\b.*\(3,\)"):
        simulate(W[0], times, W_p=W_p, **DATA)
    with pytest.raises(UserError, match=r"\bt\b.*-1.*0 or more"):
        without_predictor(W, -1, X_prime=DATA["X_prime"])
    with pytest.raises(UserError, match=r"shape of W_p.*\(2, 3\)"):
        operator_without_stop_gradient(W, **DATA)
