"""The point cloud has its stated moments, its graph is the density ratio of two views, its clusters can be learned."""

from __future__ import annotations

import numpy as np
import pytest
from numpy import ndarray
from scipy.integrate import quad

from eigenview.errors import UserError
from eigenview.theory.augmentation_graph import (
    eigenfunctions,
    energies,
    linear_readout,
    measure,
    nystroem,
    principal_angles,
)
from eigenview.theory.point_cloud import augmentation, plane_eigenfunctions, point_cloud, view_affinity
from eigenview.theory.spectral import descend, learned_energies
from tests.draws import random


def test_the_point_cloud_has_its_stated_moments() -> None:
    cloud = point_cloud(clusters=3, images=40, views=50, spread=0.2, noise=0.4, seed=1)
    assert cloud.points.shape == (6000, 2)
    assert np.bincount(cloud.cluster).tolist() == [2000, 2000, 2000]
    assert (cloud.points - cloud.images[cloud.image]).std() == pytest.approx(0.4, rel=0.03)
    spread = [cloud.images[40 * c : 40 * c + 40].std(axis=0, ddof=1) for c in range(3)]
    assert np.mean(spread) == pytest.approx(0.2, rel=0.1)
    single = point_cloud(spread=0.0)
    np.testing.assert_allclose(np.linalg.norm(single.images, axis=1), 1.2, rtol=1e-14)


def test_affinity_is_the_density_ratio_of_two_views() -> None:
    """Two images, by the definition p(x, y) / (p(x) p(y)); far away nothing underflows to 0/0."""
    images = np.array([[0.0, 0.0], [1.0, 0.5]])
    x, y = random(3, 2).numpy(), random(4, 2, seed=1).numpy()

    def likelihood(v: ndarray) -> ndarray:
        return np.exp(-((v[:, None] - images) ** 2).sum(axis=2) / (2 * 0.7**2))

    px, py = likelihood(x), likelihood(y)
    ratio = (px @ py.T / 2) / np.outer(px.mean(axis=1), py.mean(axis=1))
    np.testing.assert_allclose(2 * view_affinity(x, y, images, 0.7), ratio, rtol=1e-12)
    assert np.isfinite(view_affinity(np.full((1, 2), 1e4), y, images, 0.7)).all()


def test_the_distribution_of_images_and_views_has_the_graph() -> None:
    cloud = point_cloud(clusters=3, images=2, views=4)
    law = augmentation(cloud.points, cloud.images, 0.5)
    np.testing.assert_allclose(law.views.sum(axis=0), 1.0)
    assert law.image.sum() == pytest.approx(1)
    weights = view_affinity(cloud.points, cloud.points, cloud.images, 0.5)
    np.testing.assert_allclose((law.views * law.image) @ law.views.T, weights / weights.sum(), rtol=1e-12)
    # p(a | x) by Bayes from p(x | a), every point weighing the same
    near = np.exp(-((cloud.points[:, None] - cloud.images) ** 2).sum(axis=2) / (2 * 0.5**2))
    posterior = near / near.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(law.views, posterior / posterior.sum(axis=0), rtol=1e-12)


@pytest.mark.parametrize("apart", [0.5, 2.0, 4.0])
def test_two_images_in_the_plane_by_one_integral(apart: float) -> None:
    """Two images: f = p(1 | v) - p(2 | v) = tanh(d x / (2 s^2)) along their line, lambda_2 = E f^2."""
    s = 0.7

    def density(x: float) -> float:
        sides = np.exp(-((x - np.array([-apart / 2, apart / 2])) ** 2) / (2 * s**2))
        return float(sides.mean() / np.sqrt(2 * np.pi * s**2))

    f = lambda x: np.tanh(apart * x / (2 * s**2))  # noqa: E731
    expected = quad(lambda x: f(x) ** 2 * density(x), -apart - 8 * s, apart + 8 * s, epsabs=1e-12, limit=200)[0]
    found = plane_eigenfunctions(np.array([[-apart / 2, 0.0], [apart / 2, 0.0]]), s, 2)
    np.testing.assert_allclose(found.eigenfunctions.values, [1, expected], atol=1e-6)
    shape = f(found.points[:, 0]) / expected**0.5
    sign = np.sign(found.pi @ (shape * found.eigenfunctions.functions[:, 1]))
    np.testing.assert_allclose(sign * found.eigenfunctions.functions[:, 1], shape, atol=1e-5)


def test_eigenfunctions_of_the_plane_are_the_limit_of_the_graphs() -> None:
    """Orthonormal and centred under pi; a cloud of 6,000 views gives nearly the same values and functions."""
    cloud = point_cloud(views=200, seed=3)
    found = plane_eigenfunctions(cloud.images, 0.35, 5)
    values, functions = found.eigenfunctions
    np.testing.assert_allclose((functions.T * found.pi) @ functions, np.eye(5), atol=1e-9)
    np.testing.assert_allclose(np.abs(functions[:, 0]), 1.0, atol=1e-6)
    assert found.pi.sum() == pytest.approx(1)
    finer = plane_eigenfunctions(cloud.images, 0.35, 5, step=0.125)
    np.testing.assert_allclose(finer.eigenfunctions.values, values, atol=1e-6)
    points = cloud.points[::4]  # 1,500 views
    graph = eigenfunctions(view_affinity(points, points, cloud.images, 0.35), 5)
    np.testing.assert_allclose(graph.values, values, atol=0.02)
    carried = nystroem(view_affinity(found.points, points, cloud.images, 0.35), graph)
    assert principal_angles(carried, functions, found.pi).max() < 5


def test_the_point_cloud_at_low_and_high_orthogonality() -> None:
    """Five overlapping clusters: the five leading eigenfunctions separate them, if the weight is high enough."""
    cloud = point_cloud()
    weights = view_affinity(cloud.points, cloud.points, cloud.images, 0.35)
    pi, exact = measure(weights), eigenfunctions(weights, 6)
    assert exact.values[4] > 2 * exact.values[5]
    F = 0.1 * random(240, 5, seed=2).numpy()
    high = descend(F, weights, orthogonality=1.0, steps=1000)
    assert principal_angles(high, exact.functions[:, :5], pi).max() < 5
    assert energies(high, pi).min() > 0.9
    low = descend(F, weights, orthogonality=0.01, steps=3000)
    assert principal_angles(low, exact.functions[:, :5], pi)[3:].tolist() == [90, 90]
    np.testing.assert_allclose(energies(low, pi), learned_energies(exact.values[:5], 0.01), atol=0.01)

    def readout(table: ndarray) -> float:
        """Fraction of the variance of the clusters' indicators that a linear readout explains."""
        targets = np.eye(5)[cloud.cluster]
        residual = targets - linear_readout(table, targets, pi)
        return 1 - (pi @ residual**2).sum() / (pi @ (targets - pi @ targets) ** 2).sum()

    assert readout(high) > 0.75
    assert readout(low) < 0.5


def test_bad_input() -> None:
    with pytest.raises(UserError, match=r"clusters.*0.*1 or more"):
        point_cloud(clusters=0)
    with pytest.raises(UserError, match=r"noise.*0.*above 0"):
        point_cloud(noise=0)
    with pytest.raises(UserError, match=r"spread.*-1.*0 or more"):
        point_cloud(spread=-1)
    images = np.zeros((2, 2))
    with pytest.raises(UserError, match=r"functions.*3.*1 to 2"):
        plane_eigenfunctions(images, 0.3, 3)
    with pytest.raises(UserError, match=r"step.*0.*above 0"):
        plane_eigenfunctions(images, 0.3, 1, step=0)
    with pytest.raises(UserError, match=r"step.*0\.001.*million points.*larger step"):
        plane_eigenfunctions(images, 0.3, 1, step=0.001)
    with pytest.raises(UserError, match=r"noise.*0.*above 0"):
        augmentation(images, images, 0)
