"""The integrator: known solutions, names and shapes, and errors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from eigenview.errors import UserError
from eigenview.theory.directset import simulate_modes
from eigenview.theory.simulation import (
    Method,
    check_finite,
    check_nonnegative,
    check_number,
    check_per_mode,
    check_second_moment,
    check_square,
    check_symmetric,
    check_values,
    integrate,
)

TIMES = np.linspace(0, 3, 7)


@pytest.mark.parametrize("method", ["DOP853", "LSODA"])
def test_states_of_any_shape_follow_their_known_solutions(method: Method) -> None:
    """A number that decays, and a matrix that a skew-symmetric one rotates: R(t) = rotation by t."""
    turn = np.array([[0.0, -1.0], [1.0, 0.0]])

    def field(t: float, y: Mapping[str, Any]) -> dict[str, Any]:
        assert y["decay"].shape == ()
        return {"rotation": turn @ y["rotation"], "decay": -2 * y["decay"] + 0 * t}

    solved = integrate(field, {"decay": 3.0, "rotation": np.eye(2)}, TIMES, method=method)
    np.testing.assert_array_equal(solved.times, TIMES)
    np.testing.assert_allclose(solved.states["decay"], 3 * np.exp(-2 * TIMES), rtol=1e-7)
    c, s = np.cos(TIMES), np.sin(TIMES)
    np.testing.assert_allclose(solved.states["rotation"], np.stack([c, -s, s, c], 1).reshape(-1, 2, 2), atol=1e-7)
    np.testing.assert_array_equal(solved.final["rotation"], solved.states["rotation"][-1])


def test_tighter_tolerances_give_a_smaller_error() -> None:
    errors = [
        np.abs(integrate(lambda t, y: {"y": -y["y"]}, {"y": 1.0}, TIMES, rtol=r, atol=r).final["y"] - np.exp(-3))
        for r in (1e-4, 1e-7, 1e-12)
    ]
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < 1e-12


@pytest.mark.parametrize("method", ["DOP853", "LSODA"])
def test_a_solution_that_blows_up_is_an_error_that_names_the_time(method: Method) -> None:
    with pytest.raises(UserError, match=r"y.* t = 0 to 3 .*t = 1[: ]"):
        integrate(lambda _, y: {"y": y["y"] ** 2}, {"y": 1.0}, TIMES, method=method)


@pytest.mark.parametrize("method", ["DOP853", "LSODA"])
@pytest.mark.parametrize("when", [-1, 1])
def test_rates_that_are_not_numbers_are_an_error(method: Method, when: float) -> None:
    with pytest.raises(UserError, match=r"integration of y "):
        integrate(lambda t, y: {"y": y["y"] * (np.nan if t > when else -1.0)}, {"y": 1.0}, TIMES, method=method)


@pytest.mark.parametrize("method", ["DOP853", "LSODA"])
def test_no_more_evaluations_than_allowed(method: Method) -> None:
    """An undamped oscillation: neither method can lengthen its steps, so the integration ends at the maximum."""
    calls = 0

    def field(_: float, y: Mapping[str, Any]) -> dict[str, Any]:
        nonlocal calls
        calls += 1
        return {"x": y["v"], "v": -y["x"]}

    start, times = {"x": 1.0, "v": 0.0}, np.array([0.0, 1e9])
    message = r"x, v.* t = 0 to 1e\+09 .*t = \d+.* 3,000 .*" + method + ".*shorter time"
    with pytest.raises(UserError, match=message):
        integrate(field, start, times, method=method, evaluations=3000)
    assert calls == 3000
    # a sufficient maximum changes nothing
    free, enough = (integrate(field, start, TIMES, method=method, evaluations=n).states["x"] for n in (10**6, 3000))
    np.testing.assert_array_equal(enough, free)
    with pytest.raises(UserError, match=r"evaluations.*0.*1"):
        integrate(field, start, TIMES, evaluations=0)


def test_matrices_are_given_fewer_evaluations_by_default() -> None:
    """Each of theirs takes a millisecond: 100,000 would be minutes without an answer."""
    calls = 0

    def field(_: float, y: Mapping[str, Any]) -> dict[str, Any]:
        nonlocal calls
        calls += 1
        return {"x": y["v"], "v": -y["x"]}

    start = {"x": np.ones(40), "v": np.zeros(40)}
    with pytest.raises(UserError, match="evaluated the rates 10,000 times"):
        integrate(field, start, np.array([0.0, 1e9]))
    assert calls == 10_000


def test_a_stiff_system_is_stopped_with_one_method_and_solved_with_the_other() -> None:
    """y' = -1e6 (y - cos t) follows cos t: explicit steps are bounded by 1e-6, implicit ones by the cosine."""

    def field(t: float, y: Mapping[str, Any]) -> dict[str, Any]:
        return {"y": -1e6 * (y["y"] - np.cos(t))}

    with pytest.raises(UserError, match=r"t = 0\.\d+.*5,000.*LSODA.*stiff"):
        integrate(field, {"y": 1.0}, TIMES, evaluations=5000)
    solved = integrate(field, {"y": 1.0}, TIMES, method="LSODA", evaluations=5000)
    np.testing.assert_allclose(solved.states["y"], np.cos(TIMES), atol=1e-5)


def test_a_simulation_that_would_take_days_is_stopped() -> None:
    """As by `eigenview simulate directset --end 1e12`."""
    with pytest.raises(UserError, match=r"w.* t = 0 to 1e\+12 .*t = .*100,000 "):
        simulate_modes(np.array([0.5, 0.9]), np.array([0.0, 1e12]), alpha=0.5, eta=0.1, sigma2=np.zeros(2))


@pytest.mark.parametrize("times", [[0.0], [0, 1, 1], [1, 0], [0, np.inf], [[0, 1]]])
def test_times_must_increase(times: list[float]) -> None:
    with pytest.raises(UserError, match=r"times.*increasing"):
        integrate(lambda _, y: dict(y), {"y": 1.0}, np.array(times))


def test_a_start_that_is_not_finite_and_a_rate_of_another_shape_are_refused() -> None:
    with pytest.raises(UserError, match=r"start of y.*nan"):
        integrate(lambda _, y: dict(y), {"y": np.nan}, TIMES)
    with pytest.raises(ValueError, match=r"rate of y.*\(\).*\(2,\)"):
        integrate(lambda _, y: {"y": y["y"].sum()}, {"y": np.ones(2)}, TIMES)


def test_checks_of_arguments() -> None:
    check_number("x", 0.0, 0)
    for bad in (-1.0, np.nan, np.inf):
        with pytest.raises(UserError, match=r"x.*(-1|nan|inf).*0 or more"):
            check_number("x", bad, 0)
    with pytest.raises(UserError, match=r"x.*0.*above 0.*1"):
        check_number("x", 0.0, 0, 1, strict=True)
    with pytest.raises(UserError, match=r"x.*2.*0 or more.*1"):
        check_number("x", 2, 0, 1)
    check_nonnegative(a=0, b=1.0)
    with pytest.raises(UserError, match=r"b.*-1.*0 or more"):
        check_nonnegative(a=0, b=-1)
    check_finite("x", np.ones(3))
    with pytest.raises(UserError, match=r"entries of x and y.*2"):
        check_finite("x and y", np.array([1, np.nan]), np.array([np.inf]))
    check_per_mode("p", np.ones(3), "s", np.ones(3))
    for p, s in ((np.ones(3), np.ones(2)), (np.ones((2, 2)), np.ones((2, 2)))):
        with pytest.raises(UserError, match=r"shapes of p and s.*\("):
            check_per_mode("p", p, "s", s)
    with pytest.raises(UserError, match=r"\bs\b.*-0\.5"):
        check_values("s", np.array([1, -0.5]))
    with pytest.raises(UserError, match=r"shape of A.*\(2, 3\)"):
        check_square("A", np.ones((2, 3)))
    with pytest.raises(UserError, match=r"shape of A.*\(2, 2\).*\(3, 3\)"):
        check_square("A", np.eye(2), 3)
    with pytest.raises(UserError, match=r"A.*transpose.*0\.1"):
        check_symmetric("A", np.array([[1, 0.1], [0, 1]]))
    check_symmetric("A", np.zeros((2, 2)))
    check_second_moment("A", np.array([[1.0, 1], [1, 1]]))
    with pytest.raises(UserError, match=r"eigenvalue of A.*-0\.01.*0 or more"):
        check_second_moment("A", np.diag([1, -0.01]))
