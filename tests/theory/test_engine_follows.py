"""The engine against the theory: a linear encoder trained by the real training loop has the simulated eigenvalues.

Spectra are those that the Monitor writes: eigenvalues of F over augmented views, largest first, and what W_p does along
them. Tolerance: 1 % of the largest eigenvalue ever simulated, at every diagnosis, at a step of dt = 0.1; it is the
error of Euler's method, and so half as large (within 40 to 60 %) at half the step.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from eigenview.engine.step import accumulate_gradients
from eigenview.methods.parts.joint_embedding import JointEmbedding
from eigenview.records import Batch
from eigenview.theory import directset, eigenvalues, linear_byol
from eigenview.views import Views
from tests.theory.linear_run import Setting, configuration, exact_views, module_of, train

K = 4
SIGMA2 = 0.25
DT = 0.1
TOLERANCE = 0.01


def orthogonal(seed: int, size: int = K) -> np.ndarray:
    return np.linalg.qr(np.random.default_rng(seed).standard_normal((size, size)))[0]


def aligned(p: list[float], s: list[float], **options: object) -> Setting:
    """W and W_p with eigenvalues s of F and p of W_p along the same directions; X = I, X' = sigma2 I."""
    U, V = orthogonal(1), orthogonal(2)
    W, W_p = U @ np.diag(np.sqrt(s)) @ V, U @ np.diag(p) @ U.T
    return Setting(W=W, W_p=W_p, X=np.eye(K), X_prime=SIGMA2 * np.eye(K), objective={}, **options)  # type: ignore[arg-type]


P, S = [0.6, 0.5, 0.45, 0.03], [0.5, 0.4, 0.35, 0.01]
END = 20.0
TIMES = np.linspace(0, END, 11)
MODES = {
    # the last mode starts below the edge of the basin of 0
    "three modes grow, one dies": aligned(P, S, eta=0.1),
    "slow target, fast predictor": aligned(P, S, eta=0.03, alpha_p=4.0, beta=0.5),
    # eta is beyond 1 / (4 (1 + 0.25)) = 0.2
    "collapse beyond the saddle-node": aligned(P, S, eta=0.25),
}


def simulated_modes(setting: Setting) -> dict[str, np.ndarray]:
    """F over augmented views and W_p by the decoupled equations, in the order in which a diagnosis sorts them."""
    solution = eigenvalues.simulate(
        np.array(P), np.array(S), TIMES, alpha_p=setting.alpha_p, eta=setting.eta, sigma2=SIGMA2, beta=setting.beta
    )
    return by_rank((1 + SIGMA2) * solution.states["s"], solution.states["p"])


def by_rank(F: np.ndarray, W_p: np.ndarray) -> dict[str, np.ndarray]:
    order = np.argsort(-F, axis=1)
    return {"F": np.take_along_axis(F, order, 1), "W_p": np.take_along_axis(W_p, order, 1)}


def largest_error(measured: dict[str, np.ndarray], simulated: dict[str, np.ndarray]) -> dict[str, float]:
    """Largest difference at any diagnosis in any mode, over the largest simulated value."""
    return {n: float(np.abs(measured[n] - v).max() / np.abs(v).max()) for n, v in simulated.items()}


def assert_follows(setting: Setting, simulated: dict[str, np.ndarray], tmp_path: Path) -> None:
    errors = []
    for dt in (DT, DT / 2):
        measured = train(setting, tmp_path / str(dt), dt=dt, end=END, epochs=10)
        np.testing.assert_allclose(measured["step"] * dt, TIMES)
        errors.append(largest_error(measured, simulated))
    for name in ("F", "W_p"):
        assert errors[0][name] < TOLERANCE, errors
        assert 0.4 < errors[1][name] / errors[0][name] < 0.6, errors


def test_the_views_have_the_moments_asked_for() -> None:
    X, X_prime = np.diag([1.0, 2.0, 0.5]), 0.3 * np.eye(3)
    a, b = (view.double().numpy() for view in exact_views(X, X_prime))
    for first, second, expected in ((a, a, X + X_prime), (b, b, X + X_prime), (a, b, X)):
        np.testing.assert_allclose(first.T @ second / len(a), expected, atol=1e-6)
    assert abs(float(np.mean(a**4) / np.mean(a**2) ** 2) - 3) < 1.5  # spread like a Gaussian, not on a few points


def test_the_loss_is_four_times_the_theorys() -> None:
    """Value and gradients for W and W_p, by autograd through the engine's own step."""
    setting = MODES["three modes grow, one dies"]
    module = module_of(setting, configuration(setting, DT, 1.0, 1), 10).double()
    views = [view.double() for view in exact_views(setting.X, setting.X_prime)]
    batch = Batch(views=tuple(views), whole=2)
    loss = accumulate_gradients(module.method, batch, module.clock(0), module.options).total.item()
    W, W_p = (torch.from_numpy(each).float().double().requires_grad_() for each in (setting.W, setting.W_p))
    X, X_prime = torch.from_numpy(setting.X), torch.from_numpy(setting.X_prime)
    J = linear_byol.expected_loss(W_p, W, W.detach(), X=X, X_prime=X_prime)
    J.backward()
    assert loss == pytest.approx(4 * J.item(), rel=1e-5)
    assert isinstance(module.method, JointEmbedding)
    network = module.method.network
    assert network.predictor is not None
    for part, theirs in ((network.encoder, W), (network.predictor, W_p)):
        assert theirs.grad is not None
        torch.testing.assert_close(part.weight.grad, 4 * theirs.grad, rtol=1e-4, atol=1e-6)
    with torch.no_grad():
        z = torch.stack(views) @ W.T
        p = z @ W_p.T
    assert module.method.objective(Views(z=z, p=p, z_target=z)).total.item() == pytest.approx(loss)


@pytest.mark.parametrize("name", MODES)
def test_aligned_modes_follow_the_decoupled_equations(name: str, tmp_path: Path) -> None:
    setting = MODES[name]
    simulated = simulated_modes(setting)
    assert_follows(setting, simulated, tmp_path)
    last, rest = simulated["W_p"][-1], eigenvalues.fixed_points(eta=setting.eta, sigma2=SIGMA2)
    assert rest.is_collapse == ("collapse" in name)
    if rest.p_plus is None:
        assert (simulated["F"][-1] < 0.1 * simulated["F"][0]).all()
        assert (last < 0.25).all()
    else:
        np.testing.assert_allclose(last[:3], rest.p_plus, rtol=0.1)
        assert rest.p_minus is not None
        saved = setting.alpha_p > 1  # a fast predictor widens the way out of collapse
        assert (last[3] > rest.p_minus) if saved else (last[3] < P[3])


def test_unaligned_matrices_and_unequal_moments_follow_lemma_1(tmp_path: Path) -> None:
    """W and W_p drawn at random, X with a spectrum, X' not a multiple of it: F and W_p by Lemma 1's matrices."""
    rng = np.random.default_rng(3)
    X_prime = orthogonal(4) @ np.diag([0.1, 0.2, 0.3, 0.5]) @ orthogonal(4).T
    X_prime = (X_prime + X_prime.T) / 2
    setting = Setting(
        W=0.7 * np.eye(K) + 0.2 * rng.standard_normal((K, K)),
        W_p=0.6 * np.eye(K) + 0.1 * rng.standard_normal((K, K)),
        X=np.diag([1.6, 1.2, 0.9, 0.6]),
        X_prime=X_prime,
        eta=0.06,
        alpha_p=2.0,
        beta=0.5,
        objective={},
    )
    solution = linear_byol.simulate(
        setting.W,
        TIMES,
        W_p=setting.W_p,
        X=setting.X,
        X_prime=X_prime,
        alpha_p=setting.alpha_p,
        beta=setting.beta,
        eta=setting.eta,
    )
    W, W_p = solution.states["W"], solution.states["W_p"]
    s, v = np.linalg.eigh(W @ (setting.X + X_prime) @ W.transpose(0, 2, 1))
    assert_follows(setting, by_rank(s, np.einsum("tij,tik,tkj->tj", v, W_p, v)), tmp_path)


def test_directset_keeps_what_views_share_and_drops_the_rest(tmp_path: Path) -> None:
    """DirectCopy as the theory has it: F itself, of the present batch, at alpha = 1.

    The program's F is of augmented views, (1 + sigma2) w^2 in a nuisance mode. In u = sqrt(1 + sigma2) w the theory's
    equation u' = p (1 - (1 + sigma2) p) u - eta u with p = u^2 is the same as in w: it is u that is followed.
    """
    sigma2 = np.array([0.0, 0.0, 1.0, 1.0])
    w = np.array([0.95, 0.85, 0.5, 0.4])
    V = orthogonal(5)
    exactly = {"rho": 0.0, "eps": 0.0}
    setting = Setting(
        W=orthogonal(6) @ np.diag(w) @ V.T,
        W_p=None,
        X=np.eye(K),
        X_prime=V @ np.diag(sigma2) @ V.T,
        eta=0.2,
        method="directcopy",
        objective=exactly,
        unscaled=True,
    )
    u = directset.simulate_modes(w * np.sqrt(1 + sigma2), TIMES, alpha=1.0, eta=0.2, sigma2=sigma2).states["w"]
    assert_follows(setting, by_rank(u**2, u**2), tmp_path)
    rest = directset.fixed_points(alpha=1.0, eta=0.2, sigma2=1.0)
    assert rest.nuisance == 0
    np.testing.assert_allclose(u[-1, :2], rest.invariant, rtol=0.05)
    assert (u[-1, 2:] < 0.05).all()
