"""The point cloud is drawn as it says, its graph is the density ratio of two views, and its clusters can be learned."""

from __future__ import annotations

import numpy as np
import pytest
from numpy import ndarray

from eigenview.errors import UserError
from eigenview.theory.point_cloud import point_cloud, view_affinity
from eigenview.theory.spectral import descend, eigenfunctions, energies, learned_energies, measure, principal_angles
from tests.draws import random


def test_the_point_cloud_is_what_it_says() -> None:
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


def test_the_point_cloud_at_low_and_high_orthogonality() -> None:
    """Five overlapping clusters: the five leading eigenfunctions tell them apart, if the weight lets them in."""
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
        """Share of the clusters' indicators that a linear readout explains; its ridge keeps it off lost directions."""
        wanted = np.eye(5)[cloud.cluster]
        read = np.linalg.solve((table.T * pi) @ table + 1e-3 * np.eye(5), (table.T * pi) @ wanted)
        return 1 - (pi @ (wanted - table @ read) ** 2).sum() / (pi @ (wanted - pi @ wanted) ** 2).sum()

    assert readout(high) > 0.75
    assert readout(low) < 0.5


def test_bad_input_is_refused_in_words() -> None:
    with pytest.raises(UserError, match="clusters is 0"):
        point_cloud(clusters=0)
    with pytest.raises(UserError, match=r"noise is 0.*above 0"):
        point_cloud(noise=0)
    with pytest.raises(UserError, match=r"spread is -1"):
        point_cloud(spread=-1)
