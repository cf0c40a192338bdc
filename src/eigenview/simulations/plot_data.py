"""Turns results into lines with colours, dashes and legends; the interactive page and the PNG both draw from these."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from eigenview.report.plot import DASHES, GREY, PALETTE
from eigenview.simulations.result import Cloud, Curve, Panel
from eigenview.simulations.sweep import Study


@dataclass(frozen=True)
class Line:
    """One drawn line. Its name includes the value of the sweep."""

    name: str
    colour: str
    dash: str
    x: list[float]
    y: list[float | None]
    """None where nothing is drawn."""


@dataclass(frozen=True)
class Plot:
    """One plot: the panels of one title, of all values of the sweep, drawn into the same axes."""

    panel: Panel
    """The panel of the first value; title, caption and axes are taken from it."""
    lines: list[Line]
    legend: list[tuple[str, str, str]]
    """Name, colour and dash of each entry; empty if there is only one curve."""


def lines_of(curve: Curve) -> list[tuple[str, list[float], list[float | None]]]:
    """The lines of a curve as (name, x, y), numbered if there are several; y is None where it is not finite."""
    columns = curve.y if curve.y.ndim == 2 else curve.y[:, None]
    names = [f"{curve.name} {k + 1}" for k in range(columns.shape[1])] if columns.shape[1] > 1 else [curve.name]
    x = curve.x.tolist()
    return [
        (name, x, [value if math.isfinite(value) else None for value in line.tolist()])
        for name, line in zip(names, columns.T, strict=True)
    ]


def plots(study: Study) -> list[Plot]:
    """One plot for all panels of the same title.

    Without a sweep every curve has a colour. In a sweep every value has a colour and every curve a dash; a curve that
    is identical for all values is drawn once, in grey.
    """
    by_title: dict[str, list[tuple[int, str, Panel]]] = {}
    for k, (label, result) in enumerate(study.results):
        for panel in result.panels:
            by_title.setdefault(panel.title, []).append((k, label, panel))
    return [Plot(panels[0][2], _lines(panels), _legend(panels)) for panels in by_title.values()]


def clouds(study: Study) -> list[Cloud]:
    """Clouds of all values of the sweep: shared ones once, the others with the value in their title."""
    kept: list[Cloud] = []
    for k, (label, result) in enumerate(study.results):
        for cloud in result.clouds:
            if cloud.is_shared and k:
                continue
            title = cloud.title if cloud.is_shared or not label else f"{cloud.title}, {label}"
            kept.append(Cloud(title, cloud.caption, cloud.points, cloud.values, cloud.is_shared))
    return kept


def colour_range(shown: Sequence[Cloud]) -> float:
    """Largest absolute value of all clouds. They share one colour scale, so that a function near 0 looks like 0."""
    return max([float(np.abs(cloud.values).max()) for cloud in shown], default=1.0) or 1.0


def _legend(panels: Sequence[tuple[int, str, Panel]]) -> list[tuple[str, str, str]]:
    """Without a sweep the curves. In a sweep first the values, by colour, then the curves, in grey, by dash."""
    names = {curve.name: j for _, _, panel in panels for j, curve in enumerate(panel.curves)}
    if not panels[0][1]:
        curves = [(name, PALETTE[j % len(PALETTE)], DASHES[j % len(DASHES)]) for name, j in names.items()]
        return curves if len(curves) > 1 else []
    values = [(label, PALETTE[k % len(PALETTE)], "solid") for k, label, _ in panels]
    if all(_is_common(panels, j) for j in names.values()):
        values = []
    return values + ([(name, GREY, DASHES[j % len(DASHES)]) for name, j in names.items()] if len(names) > 1 else [])


def _lines(panels: Sequence[tuple[int, str, Panel]]) -> list[Line]:
    lines: list[Line] = []
    for k, label, panel in panels:
        for j, curve in enumerate(panel.curves):
            is_common = _is_common(panels, j)
            if is_common and k != panels[0][0]:
                continue
            colour = GREY if is_common else PALETTE[(k if label else j) % len(PALETTE)]
            name = curve.name if is_common or not label else f"{curve.name}, {label}"
            for _, x, y in lines_of(curve):
                shown = [None if panel.is_log and value is not None and value <= 0 else value for value in y]
                lines.append(Line(name, colour, DASHES[j % len(DASHES)], x, shown))
    return lines


def _is_common(panels: Sequence[tuple[int, str, Panel]], index: int) -> bool:
    """Whether there is a sweep and all its values have an identical curve at this index."""
    first = panels[0][2].curves
    if len(panels) == 1 or index >= len(first):
        return False
    return all(_has_curve(panel, index, first[index]) for _, _, panel in panels)


def _has_curve(panel: Panel, index: int, curve: Curve) -> bool:
    """Whether a panel has this curve at this index."""
    if index >= len(panel.curves):
        return False
    other = panel.curves[index]
    return np.array_equal(other.x, curve.x) and np.array_equal(other.y, curve.y, equal_nan=True)
