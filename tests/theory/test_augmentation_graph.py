"""Eigenfunctions of T_M where they are known in closed form, and angles between spans of features."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy import ndarray
from numpy.polynomial.hermite_e import hermegauss, hermeval

from eigenview.errors import UserError
from eigenview.theory.augmentation_graph import (
    eigenfunctions,
    linear_readout,
    measure,
    nystroem,
    operator,
    principal_angles,
)
from eigenview.theory.point_cloud import point_cloud, view_affinity
from tests.draws import random
from tests.theory.graphs import graph


def test_eigenfunctions_solve_the_equation_and_are_orthonormal() -> None:
    weights = graph()
    values, functions = eigenfunctions(weights, 12)
    np.testing.assert_allclose(operator(weights) @ functions, functions * values, atol=1e-13)
    np.testing.assert_allclose((functions.T * measure(weights)) @ functions, np.eye(12), atol=1e-13)
    assert values[0] == pytest.approx(1, abs=1e-14)
    assert (np.diff(values) < 0).all()
    np.testing.assert_allclose(np.abs(functions[:, 0]), 1, atol=1e-13)
    few = eigenfunctions(weights, 3)
    np.testing.assert_array_equal(few.values, values[:3])
    assert few.functions.shape == (12, 3)


def test_a_ring_has_waves() -> None:
    """Half the views stay, a quarter moves to each neighbour: eigenvalues (1 + cos(2 pi m / n)) / 2."""
    n = 9
    weights = np.eye(n) / 2 + (np.roll(np.eye(n), 1, axis=0) + np.roll(np.eye(n), -1, axis=0)) / 4
    wave = np.array([(1 + math.cos(2 * math.pi * m / n)) / 2 for m in (0, 1, 1, 2, 2, 3, 3, 4, 4)])
    values, functions = eigenfunctions(weights, n)
    np.testing.assert_allclose(values, wave, atol=1e-14)
    angle = 2 * math.pi * np.arange(n) / n
    exact = np.stack([np.ones(n), np.cos(angle), np.sin(angle)], axis=1)
    assert principal_angles(functions[:, :3], exact, measure(weights)).max() < 1e-10


def test_images_whose_views_never_meet_are_told_apart_exactly() -> None:
    weights = np.kron(np.eye(3), np.ones((4, 4)))
    values, functions = eigenfunctions(weights, 4)
    np.testing.assert_allclose(values, [1, 1, 1, 0], atol=1e-14)
    blocks = np.kron(np.eye(3), np.ones((4, 1)))
    assert principal_angles(functions[:, :3], blocks, measure(weights)).max() < 1e-10


def test_gaussian_views_have_hermite_eigenfunctions_on_and_off_the_graph() -> None:
    """Views with correlation r: eigenvalues r^m, Hermite polynomials, by Gauss-Hermite quadrature as a graph."""
    r, n = 0.5, 60
    nodes, quadrature = hermegauss(n)

    def joint(x: ndarray, y: ndarray) -> ndarray:
        """Density of two views over the product of their marginals (Mehler)."""
        x = x[:, None]
        return np.exp(-(r**2 * (x**2 + y**2) - 2 * r * x * y) / (2 * (1 - r**2))) / math.sqrt(1 - r**2)

    mass = quadrature / quadrature.sum()
    known = eigenfunctions(mass[:, None] * joint(nodes, nodes) * mass, 5)
    np.testing.assert_allclose(known.values, r ** np.arange(5), atol=1e-8)
    x = np.linspace(-2, 2, 11)
    extended = nystroem(joint(x, nodes) * mass, known)
    for m in range(5):
        exact = hermeval(x, [0] * m + [1]) / math.sqrt(math.factorial(m))
        sign = np.sign(exact[-1] * extended[-1, m])
        np.testing.assert_allclose(sign * extended[:, m], exact, atol=1e-6)


def test_nystroem_gives_the_graphs_own_points_back() -> None:
    known = eigenfunctions(graph(), 5)
    np.testing.assert_allclose(nystroem(7 * graph(), known), known.functions, atol=1e-12)
    cloud = point_cloud()
    known = eigenfunctions(view_affinity(cloud.points, cloud.points, cloud.images, 0.35), 6)
    own = nystroem(view_affinity(cloud.points[:20], cloud.points, cloud.images, 0.35), known)
    np.testing.assert_allclose(own, known.functions[:20], atol=1e-10)


def test_principal_angles_of_known_planes() -> None:
    pi = np.array([0.5, 0.25, 0.125, 0.125])
    e = np.eye(4) / np.sqrt(pi)[:, None]
    for turn in (1e-9, 0.3, 1.2):
        turned = np.stack([e[:, 0], math.cos(turn) * e[:, 1] + math.sin(turn) * e[:, 2]], axis=1)
        mixed = turned @ np.array([[2.0, 1], [0, 3]])  # another basis of the same plane
        angles = principal_angles(mixed, e[:, :2], pi)
        assert angles[0] == pytest.approx(0, abs=1e-13)
        assert angles[1] == pytest.approx(math.degrees(turn), rel=1e-6)
    lost = np.stack([e[:, 0], 1e-4 * e[:, 1]], axis=1)  # energy 1e-8
    assert principal_angles(lost, e[:, :2], pi)[1] == 90
    assert principal_angles(lost, e[:, :2], pi, floor=1e-9)[1] < 1e-8
    assert principal_angles(0 * lost, e[:, :2], pi).tolist() == [90, 90]


def test_the_linear_readout_is_weighted_ridge_regression() -> None:
    """By least squares on rows times sqrt(pi), with sqrt(ridge) I appended; a function in the span is reproduced."""
    pi, F, targets = measure(graph()), random(12, 3, seed=1).numpy(), random(12, 2, seed=2).numpy()
    root = np.sqrt(pi)[:, None]
    rows = np.concatenate([root * F, 0.1 * np.eye(3)])
    slopes = np.linalg.lstsq(rows, np.concatenate([root * targets, np.zeros((3, 2))]), rcond=None)[0]
    np.testing.assert_allclose(linear_readout(F, targets, pi, ridge=0.01), F @ slopes, atol=1e-12)
    inside = F @ np.array([[1.0], [2.0], [-1.0]])
    np.testing.assert_allclose(linear_readout(F, inside, pi, ridge=0.0), inside, atol=1e-12)


def test_bad_input() -> None:
    weights = graph()
    with pytest.raises(UserError, match=r"functions.*13.*12"):
        eigenfunctions(weights, 13)
    with pytest.raises(UserError, match=r"weights.*transpose"):
        eigenfunctions(np.triu(weights), 2)
    with pytest.raises(UserError, match=r"weights.*-.*0 or more"):
        eigenfunctions(-weights, 2)
    isolated = weights.copy()
    isolated[3] = isolated[:, 3] = 0
    with pytest.raises(UserError, match=r"weights.*0.*above 0.*point"):
        eigenfunctions(isolated, 2)
    known = eigenfunctions(weights, 3)
    with pytest.raises(UserError, match=r"affinity.*\(2, 11\).*12"):
        nystroem(np.ones((2, 11)), known)
    with pytest.raises(UserError, match=r"affinity.*0.*above 0"):
        nystroem(np.zeros((2, 12)), known)
    with pytest.raises(UserError, match=r"eigenvalue.*above 1e-10"):
        nystroem(np.ones((1, 4)), eigenfunctions(np.ones((4, 4)), 2))
    F = np.ones((12, 3))
    with pytest.raises(UserError, match=r"singular value of exact.*above 0"):
        principal_angles(F, F, measure(weights))
