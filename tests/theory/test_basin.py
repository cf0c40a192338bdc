"""The basin of collapse: its edge by theory and by the stable manifold of the saddle, and what enlarges it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from eigenview.errors import UserError
from eigenview.theory.basin import basin_edge, basin_elasticities
from eigenview.theory.eigenvalues import fixed_points, simulate, vector_field
from eigenview.theory.simulation import integrate

SETTING: dict[str, Any] = {"eta": 0.1, "sigma2": 0.25}


def test_the_basin_edge_has_its_known_values() -> None:
    """On s = p^2 / alpha_p the edge is p_minus; alpha_p and s come only as their product, at any p."""
    p_minus = fixed_points(**SETTING).p_minus
    assert p_minus is not None
    assert basin_edge(p_minus, alpha_p=2.0, **SETTING) == pytest.approx(p_minus**2 / 2, rel=1e-6)
    one, four = (basin_edge(0.05, alpha_p=alpha_p, **SETTING) for alpha_p in (1.0, 4.0))
    assert one / four == pytest.approx(4, rel=1e-6)


def test_the_basin_edge_is_the_stable_manifold_of_the_saddle() -> None:
    """Integrated backwards in time from the saddle along its stable eigenvector, to p = 0.05."""
    p_minus = fixed_points(**SETTING).p_minus
    assert p_minus is not None
    a, saddle = 1.25, np.array([p_minus, p_minus**2])
    p, s = saddle
    jacobian = np.array([[-a * s - 0.1, 1 - a * p], [2 * s * (1 - 2 * a * p), 0]])
    values, vectors = np.linalg.eig(jacobian)
    assert values.min() == pytest.approx(-0.2)  # the invariant's -2 eta
    stable = vectors[:, np.argmin(values)] * -np.sign(vectors[0, np.argmin(values)])  # towards smaller p
    p0, s0 = saddle + 1e-5 * stable

    def backwards(_: float, y: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        rates = vector_field(y["p"], y["s"], 1.0, alpha_p=1.0, **SETTING)
        return {name: -rates[name] for name in y}

    curve = integrate(backwards, {"p": p0, "s": s0}, np.linspace(0, 45, 4501))
    states = curve.states
    first = int(np.argmax(states["p"] < 0.05))
    assert first > 0
    on_curve = np.interp(-0.05, -states["p"][: first + 1], states["s"][: first + 1])
    assert basin_edge(0.05, **SETTING) == pytest.approx(on_curve, rel=1e-4)


def test_starts_on_both_sides_of_the_edge_end_apart_with_a_target_network() -> None:
    for tau, beta in ((1.0, None), (1.0, 0.3), (0.3, 0.3)):
        edge = basin_edge(0.05, tau=tau, beta=beta, **SETTING)
        p, s = np.full(2, 0.05), edge * np.array([0.999, 1.001])
        end = simulate(p, s, np.array([0.0, 300.0]), tau=tau, beta=beta, **SETTING).final["p"]
        assert end[0] < 0.05
        assert end[1] == pytest.approx(0.6828427125, abs=1e-4)


def test_no_edge_beyond_the_saddle_node_and_none_that_matters_for_a_large_predictor() -> None:
    assert basin_edge(0.5, eta=0.21, sigma2=0.25) == math.inf
    assert basin_edge(0.3, eta=4e-4, sigma2=0.25) == 0


def test_what_enlarges_the_basin() -> None:
    """alpha_p by -1 exactly; more weight decay and more view noise enlarge it, a stronger target shrinks it."""
    effects = basin_elasticities(0.05, **SETTING)
    assert effects["alpha_p"] == pytest.approx(-1, abs=1e-4)
    assert effects["eta"] > 1
    assert effects["sigma2"] > 0.1
    assert effects["tau"] < -1
    assert set(effects) == {"alpha_p", "tau", "eta", "sigma2"}


def test_a_slow_target_enlarges_the_basin_where_it_starts_small_and_shrinks_it_where_it_starts_as_the_encoder() -> None:
    """A mode at the edge shrinks at first, so a lagging target is larger than the encoder unless it starts smaller."""
    from_small = [basin_edge(0.05, tau=0.2, beta=beta, **SETTING) for beta in (0.3, 0.03)]
    from_copy = [basin_edge(0.05, tau=1.0, beta=beta, **SETTING) for beta in (0.3, 0.03)]
    assert from_small[1] > 2 * from_small[0]
    assert from_copy[1] < 0.9 * from_copy[0] < from_copy[0]


def test_bad_input() -> None:
    with pytest.raises(UserError, match=r"eta.*0.*above 0"):
        basin_edge(0.1, eta=0, sigma2=0)
    with pytest.raises(UserError, match=r"basin.*0"):
        basin_elasticities(0.3, eta=4e-4, sigma2=0.25)
