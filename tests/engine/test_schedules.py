"""Schedules at the points where their value is known."""

from __future__ import annotations

import pytest

from eigenview.engine.schedules import learning_rate


def test_learning_rate_at_its_corners() -> None:
    def rate(step: int) -> float:
        return learning_rate(step, 110, 10, peak=2.0, final_fraction=0.1)

    assert [rate(0), rate(5), rate(10)] == pytest.approx([0, 1, 2])
    assert rate(60) == pytest.approx((2 + 0.2) / 2)
    assert rate(110) == rate(1000) == pytest.approx(0.2)
    assert all(rate(k) > rate(k + 1) for k in range(10, 110))


def test_without_warm_up_the_first_step_has_the_peak() -> None:
    assert learning_rate(0, 10, 0, peak=3.0) == 3
    assert learning_rate(0, 1, 0, peak=3.0) == 3
    assert learning_rate(10, 10, 10, peak=3.0) == 3  # a run that is all warm-up
