"""Eigenvalues under BYOL's and IsoLoss's gradients: autograd of the losses, closed forms, conserved lengths."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from eigenview.errors import UserError
from eigenview.methods.isoloss import straight_through
from eigenview.methods.parts.isoloss_values import cosine_value, euclidean_value
from eigenview.methods.parts.regression import between_views
from eigenview.theory.isoloss import (
    Method,
    Metric,
    embedding_field,
    euclidean_solution,
    euclidean_time,
    settling_times,
    sign_symmetric,
    simulate,
    simulate_embeddings,
    vector_field,
)
from eigenview.theory.simulation import Simulation, integrate
from tests.theory.finite_data import draw

LAM = np.array([0.2, 0.5, 1.0])
METRICS: tuple[Metric, ...] = ("euclidean", "cosine")
METHODS: tuple[Method, ...] = ("byol", "isoloss")


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("method", METHODS)
def test_the_embeddings_field_is_minus_the_objectives_gradient(metric: Metric, method: Method) -> None:
    """Both views equal, W_p = diag(lam) constant. The objective has 2 - 2 cos and no 1/2, and a mean over samples."""
    z = draw(6, 3, seed=0).expand(2, -1, -1).clone().requires_grad_()
    p = z * torch.from_numpy(LAM)
    prediction = p if method == "byol" else straight_through(z, p)
    loss = between_views(prediction, z.detach(), [(0, 1), (1, 0)], metric == "cosine")
    gradient = torch.autograd.grad(loss, z)[0][0]
    field = embedding_field(z[0].detach().numpy(), LAM, metric=metric, method=method, eta=0.7)
    np.testing.assert_allclose(field, (-0.7 * gradient * 6 / 2).numpy(), atol=1e-13)


@pytest.mark.parametrize("metric", METRICS)
def test_the_published_value_form_of_isoloss_has_the_same_field(metric: Metric) -> None:
    z = draw(6, 3, seed=0).requires_grad_()
    lam = torch.from_numpy(LAM)
    p, t = (z * lam).detach(), z.detach()
    value = euclidean_value(z, p, t) if metric == "euclidean" else cosine_value(z, p, t, torch.diag(lam.sqrt()))
    field = embedding_field(z.detach().numpy(), LAM, metric=metric, method="isoloss")
    np.testing.assert_allclose(field, (-torch.autograd.grad(value, z)[0] * 6 / 2).numpy(), atol=1e-13)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("alpha", [0.5, 1.0, 2.0])
def test_view_correlation_as_a_linear_encoder_sees_it(method: Method, alpha: float) -> None:
    """z = w x over two-point noise, E[x^2] = 1, E[x x'] = r: lam = w^(2 alpha) follows the Euclidean equation."""
    r, w = 0.7, torch.tensor(0.8, dtype=torch.float64, requires_grad=True)
    signs = torch.cartesian_prod(*[torch.tensor([1.0, -1.0], dtype=torch.float64)] * 3).T
    x1, x2 = (r**0.5 * signs[0] + (1 - r) ** 0.5 * noise for noise in signs[1:])
    lam = w.item() ** (2 * alpha)
    z, t = w * x1[None, :, None], (w * x2[None, :, None]).detach()
    p = lam * z
    loss = ((p if method == "byol" else straight_through(z, p)) - t).square().sum(dim=-1).mean() / 2
    w_rate = -torch.autograd.grad(loss, w)[0].item()
    expected = alpha * 2 * w.item() ** (2 * alpha - 1) * w_rate
    got = vector_field(np.array([lam]), metric="euclidean", method=method, alpha=alpha, eta=1.0, r=r)
    assert got.item() == pytest.approx(expected, rel=1e-12)


def test_published_times_and_values() -> None:
    assert euclidean_solution(np.array(0.1), 2.0, method="isoloss") == pytest.approx(0.4508530604, abs=6e-11)
    byol = euclidean_time(0.1, np.array([0.5, 0.9]), method="byol")
    assert byol == pytest.approx([10.1972245773, 13.2833380436], abs=6e-11)
    assert euclidean_time(0.1, 0.9, method="isoloss") == pytest.approx(4.3944491547, abs=6e-11)
    mean_field = vector_field(LAM, metric="cosine", method="byol")
    assert mean_field == pytest.approx([0.0268705334, 0.0997819209, -0.0552650671], abs=6e-11)
    mean_field = vector_field(LAM, metric="cosine", method="isoloss")
    assert mean_field == pytest.approx([0.1343526668, 0.1995638419, -0.0552650671], abs=6e-11)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("alpha", "eta", "r"), [(0.5, 1.0, 1.0), (1.0, 0.3, 0.6), (0.25, 2.0, 0.9)])
def test_closed_forms_are_the_simulation(method: Method, alpha: float, eta: float, r: float) -> None:
    start, times = np.array([0.02, 0.1, 0.5]), np.linspace(0, 20, 6)
    options: dict[str, Any] = {"method": method, "alpha": alpha, "eta": eta, "r": r}
    run = simulate(start, times, metric="euclidean", **options)
    closed = euclidean_solution(start, times[:, None], **options)
    np.testing.assert_allclose(run.states["lam"], closed, atol=1e-9)
    end = closed[2]
    np.testing.assert_allclose(euclidean_time(start, end, **options), times[2], rtol=1e-9)


def test_weak_modes_take_long_under_byol_and_not_under_isoloss() -> None:
    """From lam0 to 0.9 at alpha = 1/2: about 1 / lam0 against ln(1 / lam0)."""
    weak = np.array([1e-2, 1e-3])
    byol, iso = (euclidean_time(weak, 0.9, method=method) for method in METHODS)
    assert byol[1] / byol[0] == pytest.approx(10, rel=0.15)
    assert iso[1] - iso[0] == pytest.approx(np.log(10), rel=0.01)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("alpha", [0.5, 1.0])
def test_eigenvalues_follow_the_embeddings_if_all_have_the_same_length(
    metric: Metric, method: Method, alpha: float
) -> None:
    """Samples that differ in signs only have equal |z| and |p|, for which the mean field is exact."""
    z = sign_symmetric(np.array([[0.9, 0.6, 0.3]]))
    times = np.linspace(0, 3, 4)
    samples = simulate_embeddings(z, times, metric=metric, method=method, alpha=alpha, eta=0.8)
    measured = np.mean(samples.states["z"] ** 2, axis=1) ** alpha
    law = simulate(measured[0], times, metric=metric, method=method, alpha=alpha, eta=0.8)
    np.testing.assert_allclose(law.states["lam"], measured, atol=1e-9)
    assert np.abs(measured[-1] - measured[0]).max() > 0.02


@pytest.mark.parametrize("method", METHODS)
def test_the_euclidean_equation_is_exact_for_every_distribution_of_embeddings(method: Method) -> None:
    z = sign_symmetric(draw(20, 3, seed=4).numpy() * np.array([1.2, 0.6, 0.2]))
    times = np.array([0.0, 4.0])
    samples = simulate_embeddings(z, times, metric="euclidean", method=method)
    measured = np.sqrt(np.mean(samples.states["z"] ** 2, axis=1))
    law = simulate(measured[0], times, metric="euclidean", method=method)
    np.testing.assert_allclose(law.final["lam"], measured[-1], atol=1e-8)


@pytest.mark.parametrize("method", METHODS)
def test_the_cosines_mean_field_has_the_signs_of_gaussian_embeddings_and_their_order_where_modes_are_many(
    method: Method,
) -> None:
    """With three modes only signs agree: under IsoLoss the smallest outgrows the middle one, against the mean field."""
    many = np.tile([0.2, 0.3, 0.5, 0.7, 0.9, 1.0], 4)
    for lam, samples in ((LAM, 100_000), (many, 20_000)):
        z = draw(samples, len(lam), seed=5).numpy() * lam
        rate = embedding_field(z, lam, metric="cosine", method=method)
        measured = np.mean(z * rate, axis=0) / lam  # of lam = sqrt(E z^2)
        law = vector_field(lam, metric="cosine", method=method)
        assert (np.sign(measured) == np.sign(law)).all()
        if lam is many:
            groups = measured.reshape(4, 6).mean(axis=0)
            assert (np.argsort(groups) == np.argsort(law[:6])).all()
            np.testing.assert_allclose(groups, law[:6], atol=0.3 * np.abs(law).max())
        elif method == "isoloss":
            assert measured[0] > 2 * measured[1]
            assert law[0] < law[1]


def conserved(method: Method) -> tuple[np.ndarray, np.ndarray]:
    """|z|^2 and z^T W_p z of four samples in time, under the cosine at fixed W_p = diag(lam)."""
    z = draw(4, 3, seed=6).numpy()
    run = integrate(
        lambda _, y: {"z": embedding_field(y["z"], LAM, metric="cosine", method=method)},
        {"z": z},
        np.linspace(0, 5, 11),
    )
    return np.sum(run.states["z"] ** 2, axis=-1), np.sum(LAM * run.states["z"] ** 2, axis=-1)


def test_byol_conserves_length_and_isoloss_the_predictors_form() -> None:
    length, form = conserved("byol")
    np.testing.assert_allclose(length, np.broadcast_to(length[0], length.shape), rtol=1e-9)
    assert np.abs(form[-1] / form[0] - 1).max() > 0.05
    length, form = conserved("isoloss")
    np.testing.assert_allclose(form, np.broadcast_to(form[0], form.shape), rtol=1e-9)
    assert (np.diff(length, axis=0) >= 0).all()
    assert np.abs(length[-1] / length[0] - 1).max() > 0.05


@pytest.mark.parametrize("method", METHODS)
def test_fixed_points_of_both_metrics(method: Method) -> None:
    """Euclidean: 0 is unstable, r stable. Cosine: any common value, and modes that are 0 stay 0."""
    near = np.array([1e-3, 0.7 - 1e-3, 0.7 + 1e-3, 2.0])
    rates = vector_field(near, metric="euclidean", method=method, r=0.7)
    assert (np.sign(rates) == [1, 1, -1, -1]).all()
    same = vector_field(np.array([0.4, 0.4, 0.0, 0.4]), metric="cosine", method=method)
    np.testing.assert_allclose(same, 0, atol=1e-15)
    run = simulate(LAM, np.array([0.0, 200.0]), metric="cosine", method=method)
    assert np.ptp(run.final["lam"]) < 1e-3
    if method == "byol":  # |z|^2 = sum s is conserved in the mean field too
        assert (run.final["lam"] ** 2).sum() == pytest.approx((LAM**2).sum(), rel=1e-9)


def test_settling_times_by_hand_and_of_a_run() -> None:
    lam = np.array([[0.0, 1, 1], [0.95, 0.5, 1], [0.5, 1, 1], [0.95, 1, 1], [1, 1, 1]])
    toy = Simulation(np.arange(5.0), {"lam": lam})
    np.testing.assert_array_equal(settling_times(toy, 0.1), [3, 2, 0])
    times = np.linspace(0, 60, 6001)
    run = simulate(np.array([0.1, 0.02]), times, metric="euclidean", method="isoloss")
    expected = euclidean_time(np.array([0.1, 0.02]), 0.9, method="isoloss")
    np.testing.assert_allclose(settling_times(run, 0.1), expected, atol=0.011)


def test_bad_input() -> None:
    times = np.array([0.0, 1.0])
    options: dict[str, Any] = {"metric": "euclidean", "method": "byol"}
    bad: list[tuple[str, Any, dict[str, Any]]] = [
        (r"lam.*-0\.2.*0 or more", -LAM, {}),
        (r"alpha.*0.*above 0", LAM, {"alpha": 0}),
        (r"eta.*0.*above 0", LAM, {"eta": 0}),
        (r"r\b.*1\.5.*1", LAM, {"r": 1.5}),
        (r"r\b.*0\.5.*1.*cosine", LAM, {"r": 0.5, "metric": "cosine"}),
        (r"lam.*0.*above 0", 0 * LAM, {"metric": "cosine"}),
        (r"metric.*l2.*euclidean, cosine", LAM, {"metric": "l2"}),
        (r"method.*simclr.*byol, isoloss", LAM, {"method": "simclr"}),
        (r"shape of lam.*\(2, 2\)", np.eye(2), {}),
    ]
    for message, lam, change in bad:
        with pytest.raises(UserError, match=message):
            simulate(lam, times, **(options | change))
    with pytest.raises(UserError, match=r"F\b.*\d.*sign_symmetric"):
        simulate_embeddings(np.array([[1.0, 1], [2, 1]]), times, metric="cosine", method="byol")
    with pytest.raises(UserError, match=r"sample.*0.*cosine"):
        simulate_embeddings(np.diag([1.0, 0]), times, metric="cosine", method="byol")
    with pytest.raises(UserError, match=r"end.*1\.0.*r = 1"):
        euclidean_time(0.1, 1.0, method="byol")
    with pytest.raises(UserError, match=r"end.*0\.2.*start"):
        euclidean_time(0.5, 0.2, method="byol")
    with pytest.raises(UserError, match=r"\bt\b.*-1.*0 or more"):
        euclidean_solution(np.array([0.1]), -1.0, method="byol")
    with pytest.raises(UserError, match=r"z.*13.*12"):
        sign_symmetric(np.ones((1, 13)))
