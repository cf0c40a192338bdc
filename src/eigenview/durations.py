"""Durations as text, the same everywhere: estimate, time left, summary and report."""

from __future__ import annotations


def duration(seconds: float) -> str:
    """The two largest of days, hours, minutes and seconds: `42 s`, `3 min 59 s`, `2 h 05 min`, `3 d 4 h`.

    The whole is rounded once to the smallest unit shown, so that no part reaches 60.
    """
    if seconds < 9.95:
        return f"{max(0.0, seconds):.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    minutes = round(seconds / 60)
    if minutes < 48 * 60:
        return f"{minutes // 60} h {minutes % 60:02d} min"
    hours = round(seconds / 3600)
    return f"{hours // 24} d {hours % 24} h"


def rough_duration(seconds: float) -> str:
    """One unit, for an estimate: `42 seconds`, `4 minutes`, `3 hours`, `2.5 days`."""
    for name, length, most in (("second", 1, 90), ("minute", 60, 90), ("hour", 3600, 48)):
        count = max(1, round(seconds / length))
        if count < most:
            return f"{count} {name}{'s' if count > 1 else ''}"
    return f"{seconds / 86400:.1f} days"
