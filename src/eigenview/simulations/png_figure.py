"""The plots of the page as a PNG, for documents; needs matplotlib."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eigenview import runfiles
from eigenview.errors import UserError
from eigenview.report.plot import BLUE, DASH_PATTERNS, ORANGE
from eigenview.simulations import plot_data
from eigenview.simulations.result import Cloud
from eigenview.simulations.sweep import Study

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DPI = 110
WIDTH, HEIGHT = 5.0, 3.5  # of one plot, in inches
LEGEND_WIDTH = 72  # of one plot, in characters


def check_available() -> None:
    """Raise UserError if matplotlib is not installed; called before anything is computed."""
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise UserError(
            "--png needs matplotlib, which is not installed: uv sync --extra figures, or pip install "
            "'eigenview[figures]'; figure.html shows the same plots without it."
        ) from None


def write(study: Study, path: Path) -> None:
    """Write the PNG atomically."""
    check_available()
    buffer = io.BytesIO()
    draw(study).savefig(buffer, format="png", dpi=DPI, metadata={"Software": None})
    runfiles.write_bytes(path, buffer.getvalue())


def draw(study: Study) -> Figure:
    """All plots of the study in one figure, two in a row."""
    from matplotlib.figure import Figure

    plots, clouds = plot_data.plots(study), plot_data.clouds(study)
    total = len(plots) + len(clouds)
    columns = min(total, 2)
    rows = -(-total // columns)
    figure = Figure(figsize=(WIDTH * columns, HEIGHT * rows), layout="constrained")
    axes: list[Any] = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axis, plot in zip(axes, plots, strict=False):
        _curves(axis, plot)
    for axis, cloud in zip(axes[len(plots) :], clouds, strict=False):
        _cloud(figure, axis, cloud, plot_data.colour_range(clouds))
    for axis in axes[total:]:
        axis.set_axis_off()
    return figure


def _curves(axis: Any, plot: plot_data.Plot) -> None:
    from matplotlib.lines import Line2D

    panel = plot.panel
    for line in plot.lines:
        y = [float("nan") if value is None else value for value in line.y]
        marker = "o" if 2 < len(line.x) <= 12 else None
        axis.plot(line.x, y, color=line.colour, ls=_dashes(line.dash), lw=1.4, marker=marker, ms=4)
    if panel.is_log:
        axis.set_yscale("log")
    if panel.is_log_x:
        axis.set_xscale("log")
    axis.set_title(panel.title, fontsize=11)
    axis.set(xlabel=panel.x, ylabel=panel.y)
    axis.grid(alpha=0.25)
    if plot.legend:
        names = [name for name, _, _ in plot.legend]
        handles = [Line2D([], [], color=colour, ls=_dashes(dash), lw=1.4) for _, colour, dash in plot.legend]
        columns = max(1, min(len(names), LEGEND_WIDTH // (max(map(len, names)) + 7)))  # 7: the line in front of a name
        below = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.19)}  # inside the axes it would cover curves
        axis.legend(handles, names, ncols=columns, fontsize=8, frameon=False, **below)


def _dashes(dash: str) -> Any:
    """A dash of the interactive page in matplotlib's notation."""
    pattern = DASH_PATTERNS[dash]
    return "solid" if pattern == "none" else (0, [float(part) / 2 for part in pattern.split()])


def _cloud(figure: Any, axis: Any, cloud: Cloud, colour_limit: float) -> None:
    from matplotlib.colors import LinearSegmentedColormap

    colours = LinearSegmentedColormap.from_list("two sides", [BLUE, "#d8dcdf", ORANGE])
    x, y = cloud.points.T
    scale = {"cmap": colours, "vmin": -colour_limit, "vmax": colour_limit}
    drawn = axis.scatter(x, y, c=cloud.values, s=18, edgecolors="none", **scale)
    axis.set_aspect("equal")
    axis.set_title(cloud.title, fontsize=11)
    figure.colorbar(drawn, ax=axis)
