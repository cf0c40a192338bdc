"""Durations: no part reaches 60, and each text reads back as the number within half of its smallest unit."""

from __future__ import annotations

import re

import pytest

from eigenview.durations import duration, rough_duration

UNITS = {"s": 1, "min": 60, "h": 3600, "d": 86400}


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.04, "0.0 s"),
        (9.96, "10 s"),
        (59.6, "1 min 00 s"),
        (239.6, "4 min 00 s"),
        (330.4, "5 min 30 s"),
        (3599.7, "1 h 00 min"),
        (7199, "2 h 00 min"),
        (47.995 * 3600, "2 d 0 h"),
        (100 * 3600, "4 d 4 h"),
    ],
)
def test_known_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_every_duration_reads_back() -> None:
    for tenth in range(0, 200_000, 37):
        for seconds in (tenth / 10, tenth * 3.0):
            parts = re.findall(r"([\d.]+) (s|min|h|d)", duration(seconds))
            last = 0.1 if "." in parts[-1][0] else UNITS[parts[-1][1]]
            assert abs(sum(float(n) * UNITS[u] for n, u in parts) - seconds) <= last / 2 + 1e-9
            assert all(float(n) < 60 for n, u in parts if u in ("s", "min"))


def test_a_rough_duration_never_says_90_of_a_smaller_unit() -> None:
    assert [rough_duration(s) for s in (0.2, 89.4, 89.6, 89.6 * 60, 47.6 * 3600, 86400 * 2.5)] == [
        "1 second",
        "89 seconds",
        "1 minute",
        "1 hour",
        "2.0 days",
        "2.5 days",
    ]
