"""What all plots of the page share: colours, axes, lines, and the preparation of the data.

Colours can be read on white and on near-black, by the colour-blind and in print; lines also differ in dash or marker.
Text and grid colours are set by the page's style sheet, according to the reader's theme.
"""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import plotly.graph_objects as go

from eigenview.report.numbers import number

MAX_POINTS = 2000

# Okabe and Ito's palette without its yellow, in lightness that can be read on both themes
BLUE, ORANGE, GREEN, PURPLE, RED, SKY = "#1f7fc4", "#e08a00", "#009e73", "#c2679b", "#d55e00", "#56b4e9"
GREY = "#8a9299"
PALETTE = (BLUE, ORANGE, GREEN, PURPLE, RED, SKY, GREY)
DASHES = ("solid", "dash", "dashdot", "longdash", "longdashdot")
DASH_PATTERNS = {"solid": "none", "dot": "2 2", "dash": "6 3", "dashdot": "6 3 2 3", "longdash": "10 3"}
DASH_PATTERNS |= {"longdashdot": "10 3 2 3"}
MARKERS = ("circle", "square", "diamond", "triangle-up", "cross", "x", "star")
HOVER = "%{y:.3~g} at %{x:.4~g}<extra>%{fullData.name}</extra>"

LAYERS = {"h": "representation h", "z": "embedding z"}
OUTPUTS = {"h": "of the encoder's output", "z": "of the projector's output"}

Points = list[float | None]


@dataclass(frozen=True)
class Entry:
    """An entry of the legend: a name and how its line is drawn."""

    name: str
    colour: str
    dash: str
    width: float

    @property
    def pattern(self) -> str:
        """The dash in SVG's notation."""
        return DASH_PATTERNS[self.dash]


@dataclass(frozen=True)
class Figure:
    """One plot of the page: `caption` is a sentence on what to look at."""

    key: str
    title: str
    caption: str
    legend: list[Entry]
    spec: dict[str, Any]


def log_step(low: float, high: float) -> int | str:
    """`dtick` of a logarithmic axis: at most nine powers of ten, with 2 and 5 between them if there are few."""
    decades = math.log10(high / low)
    return "D2" if decades < 2 else math.ceil(decades / 8)


def empty_figure(x_title: str, y_title: str, *, is_log: bool = False) -> go.Figure:
    """A figure without data: transparent, light grid, axis titles. The style sheet replaces the greys."""
    axis: dict[str, Any] = {
        "gridcolor": "rgba(128,136,144,0.25)",
        "linecolor": "rgba(128,136,144,0.6)",
        "zeroline": False,
        "showline": True,
        "ticks": "outside",
        "ticklen": 4,
        "automargin": True,
    }
    if is_log:
        axis |= {"type": "log", "dtick": 1, "exponentformat": "power"}
    return go.Figure(
        layout={
            "template": go.layout.Template(),
            "paper_bgcolor": "rgba(0,0,0,0)",
            "plot_bgcolor": "rgba(0,0,0,0)",
            "font": {"family": "system-ui, sans-serif", "size": 12, "color": GREY},
            "margin": {"l": 56, "r": 12, "t": 12, "b": 44},
            "height": 260,
            "hovermode": "x",
            "showlegend": False,
            "xaxis": axis | {"title": {"text": html.escape(x_title), "standoff": 8}},
            "yaxis": axis | {"title": {"text": html.escape(y_title), "standoff": 8}, "nticks": 6},
        }
    )


def line(name: str, style: int, *, marked: bool = False) -> dict[str, Any]:
    """Arguments of add_scatter for the line of number `style`: colour, dash and marker differ together."""
    colour = PALETTE[style % len(PALETTE)]
    look = {"color": colour, "width": 2, "dash": DASHES[style % len(DASHES)]}
    arguments = {
        "name": html.escape(name),
        "line": look,
        "mode": "lines+markers" if marked else "lines",
        "hovertemplate": HOVER,
    }
    if marked:
        arguments["marker"] = {"symbol": MARKERS[style % len(MARKERS)], "size": 6, "color": colour}
    return arguments


def page_figure(key: str, title: str, caption: str, figure: go.Figure, *, named: bool = True) -> Figure:
    """The figure for the page, with a legend unless `named` is False.

    The legend is HTML, not Plotly's, because it wraps on a phone, where Plotly's would leave no room for the plot.
    """
    spec = figure.to_plotly_json()
    lines = [trace for trace in spec["data"] if trace.get("name")] if named else []
    entries = [
        Entry(html.unescape(t["name"]), t["line"]["color"], t["line"]["dash"], t["line"]["width"]) for t in lines
    ]
    return Figure(key, title, caption, entries, spec)


def thin(x: list[float], y: Points) -> tuple[list[float], Points]:
    """At most MAX_POINTS points: both ends, and the lowest, the highest and a gap of each stretch; no spike is lost."""
    if len(x) <= MAX_POINTS:
        return x, y
    kept = {0, len(x) - 1}
    edges = np.linspace(0, len(x), (MAX_POINTS - 2) // 3 + 1).astype(int)
    for start, stop in pairwise(edges.tolist()):
        values = {i: v for i in range(start, stop) if (v := y[i]) is not None}
        if values:
            kept |= {min(values, key=values.__getitem__), max(values, key=values.__getitem__)}
        if len(values) < stop - start:
            kept.add(next(i for i in range(start, stop) if y[i] is None))
    chosen = sorted(kept)
    return [x[i] for i in chosen], [y[i] for i in chosen]


def epochs(rows: list[dict[str, Any]]) -> list[float | None]:
    """The epoch of each row, None if it has none."""
    return [number(row.get("epoch")) for row in rows]


def finite_points(x: list[float | None], values: Sequence[Any]) -> tuple[list[float], Points]:
    """Points that have an epoch; a value that is not a finite number is a gap."""
    pairs = [(place, number(value)) for place, value in zip(x, values, strict=True) if place is not None]
    return [place for place, _ in pairs], [value for _, value in pairs]
