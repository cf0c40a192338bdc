"""From outcomes to plots, the same for the interactive page and the PNG: what is drawn, in which colour and dash."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from eigenview.report.plot import DASHES, GREY, PALETTE
from eigenview.simulations.outcome import Cloud, Curve, Panel
from eigenview.simulations.sweep import Study


@dataclass(frozen=True)
class Line:
    """One line, with its name in full."""

    name: str
    colour: str
    dash: str
    x: list[float]
    y: list[float | None]


@dataclass(frozen=True)
class Plot:
    """A panel with the lines of every value of the sweep."""

    panel: Panel
    """Of the first value: title, caption and axes."""
    lines: list[Line]
    legend: list[tuple[str, str, str]]
    """Name, colour and dash of each entry; none where the title says all."""


def members(curve: Curve) -> list[tuple[str, list[float], list[float | None]]]:
    """The single lines of a family: name, x, y with None for a gap."""
    family = curve.y if curve.y.ndim == 2 else curve.y[:, None]
    names = [f"{curve.name} {k + 1}" for k in range(family.shape[1])] if family.shape[1] > 1 else [curve.name]
    x = curve.x.tolist()
    return [
        (name, x, [value if math.isfinite(value) else None for value in line.tolist()])
        for name, line in zip(names, family.T, strict=True)
    ]


def plots(study: Study) -> list[Plot]:
    """Panels of the same title share a plot: one setting has a colour per curve, several have a colour per setting.

    A curve that is the same for all settings is drawn once, in grey.
    """
    found: dict[str, list[tuple[int, str, Panel]]] = {}
    for k, (label, outcome) in enumerate(study.outcomes):
        for panel in outcome.panels:
            found.setdefault(panel.title, []).append((k, label, panel))
    return [Plot(same[0][2], _lines(same), _legend(same)) for same in found.values()]


def clouds(study: Study) -> list[Cloud]:
    """Clouds of all settings, shared ones once, the others with the setting in their title."""
    kept: list[Cloud] = []
    for k, (label, outcome) in enumerate(study.outcomes):
        for cloud in outcome.clouds:
            if cloud.is_shared and k:
                continue
            title = cloud.title if cloud.is_shared or not label else f"{cloud.title}, {label}"
            kept.append(Cloud(title, cloud.caption, cloud.points, cloud.values, cloud.is_shared))
    return kept


def colour_range(shown: Sequence[Cloud]) -> float:
    """Largest absolute value of all clouds: they share one scale, so that what vanished looks it."""
    return max([float(np.abs(cloud.values).max()) for cloud in shown], default=1.0) or 1.0


def _legend(same: Sequence[tuple[int, str, Panel]]) -> list[tuple[str, str, str]]:
    """Curves by colour and dash; in a sweep, values by colour and then curves, in grey, by dash."""
    names = {curve.name: j for _, _, panel in same for j, curve in enumerate(panel.curves)}
    if not same[0][1]:
        curves = [(name, PALETTE[j % len(PALETTE)], DASHES[j % len(DASHES)]) for name, j in names.items()]
        return curves if len(curves) > 1 else []
    values = [(label, PALETTE[k % len(PALETTE)], "solid") for k, label, _ in same]
    if all(_is_common(same, j) for j in names.values()):
        values = []
    return values + ([(name, GREY, DASHES[j % len(DASHES)]) for name, j in names.items()] if len(names) > 1 else [])


def _lines(same: Sequence[tuple[int, str, Panel]]) -> list[Line]:
    lines: list[Line] = []
    for k, label, panel in same:
        for j, curve in enumerate(panel.curves):
            is_common = _is_common(same, j)
            if is_common and k != same[0][0]:
                continue
            colour = GREY if is_common else PALETTE[(k if label else j) % len(PALETTE)]
            name = curve.name if is_common or not label else f"{curve.name}, {label}"
            for _, x, y in members(curve):
                shown = [None if panel.is_log and value is not None and value <= 0 else value for value in y]
                lines.append(Line(name, colour, DASHES[j % len(DASHES)], x, shown))
    return lines


def _is_common(same: Sequence[tuple[int, str, Panel]], index: int) -> bool:
    """Whether all settings, more than one, have the same curve in this place."""
    first = same[0][2].curves
    return len(same) > 1 and index < len(first) and all(_has(panel, index, first[index]) for _, _, panel in same)


def _has(panel: Panel, index: int, curve: Curve) -> bool:
    """Whether a panel of another setting has the same curve in the same place."""
    if index >= len(panel.curves):
        return False
    other = panel.curves[index]
    return np.array_equal(other.x, curve.x) and np.array_equal(other.y, curve.y, equal_nan=True)
