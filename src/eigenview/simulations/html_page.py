"""The page figure.html: statements, numbers and interactive plots, in the report's style; loads nothing."""

from __future__ import annotations

import html
import math

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

import eigenview
from eigenview.report.plot import BLUE, GREY, ORANGE, Entry, Figure, empty_figure, page_figure
from eigenview.report.tables import Cell, Table, TableRow
from eigenview.simulations import THEORIES, plot_data
from eigenview.simulations.result import Cloud, Number
from eigenview.simulations.sweep import Study

HEIGHT = 320


def render(study: Study, command: str) -> str:
    """The page as HTML text; `command` is the command line that repeats the simulation."""
    loaders = [PackageLoader("eigenview.simulations", "template"), PackageLoader("eigenview.report", "template")]
    environment = Environment(
        loader=ChoiceLoader(loaders), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    # the report's shared template parts use this filter
    environment.filters["options"] = str
    environment.policies["json.dumps_kwargs"] = {"allow_nan": False, "separators": (",", ":")}
    figures = [_curves(k, plot) for k, plot in enumerate(plot_data.plots(study))]
    clouds = plot_data.clouds(study)
    figures += [_cloud(k, cloud, plot_data.colour_range(clouds)) for k, cloud in enumerate(clouds)]
    return environment.get_template("simulation.html").render(
        name=study.name,
        question=THEORIES[study.name][1],
        statements=[(label, result.statements) for label, result in study.results],
        numbers=_table(study),
        figures=figures,
        assumptions=study.assumptions,
        command=command,
        version=eigenview.__version__,
        plotlyjs=Markup(get_plotlyjs()),
    )


def format_number(quantity: str, value: Number | None, digits: int = 10) -> str:
    """A cell of the table, to `digits` digits. An infinite time is shown as `never`, a missing number as nothing."""
    if value is None:
        return ""
    if isinstance(value, float) and math.isinf(value):
        return "never" if "time" in quantity else "infinite"
    return f"{value:.{digits}g}" if isinstance(value, float) else str(value)


def _table(study: Study) -> Table:
    labels = [label or "value" for label, _ in study.results]
    rows = [
        TableRow(name, [Cell(format_number(name, result.numbers.get(name))) for _, result in study.results])
        for name in study.quantities
    ]
    return Table(["quantity", *labels], rows, [])


def _curves(k: int, plot: plot_data.Plot) -> Figure:
    panel = plot.panel
    figure = empty_figure(panel.x, panel.y)
    figure.update_layout(height=HEIGHT, hovermode="closest")
    for is_log, update in ((panel.is_log, figure.update_yaxes), (panel.is_log_x, figure.update_xaxes)):
        if is_log:
            update(type="log", exponentformat="power")
    for line in plot.lines:
        figure.add_scatter(
            x=[_rounded(value) for value in line.x],
            y=[None if value is None else _rounded(value) for value in line.y],
            mode="lines+markers" if len(line.x) <= 12 and len(line.x) > 2 else "lines",
            line={"color": line.colour, "dash": line.dash, "width": 2},
            hovertemplate="%{y:.4~g} at %{x:.4~g}<extra>" + html.escape(line.name) + "</extra>",
        )
    legend = [Entry(name, colour, dash, 2) for name, colour, dash in plot.legend]
    return Figure(f"curves-{k}", panel.title, panel.caption, legend, figure.to_plotly_json())


def _cloud(k: int, cloud: Cloud, colour_limit: float) -> Figure:
    figure = empty_figure("", "")
    figure.update_layout(height=HEIGHT, hovermode="closest", yaxis={"scaleanchor": "x"})
    figure.add_scatter(
        x=[_rounded(value) for value in cloud.points[:, 0].tolist()],
        y=[_rounded(value) for value in cloud.points[:, 1].tolist()],
        mode="markers",
        marker={
            "color": [_rounded(value) for value in cloud.values.tolist()],
            "colorscale": [[0, BLUE], [0.5, "#b4babf"], [1, ORANGE]],
            "cmin": -colour_limit,
            "cmax": colour_limit,
            "size": 7,
            "colorbar": {"thickness": 10, "outlinewidth": 0, "tickfont": {"color": GREY}},
        },
        hovertemplate="%{marker.color:.3~g}<extra></extra>",
    )
    return page_figure(f"cloud-{k}", cloud.title, cloud.caption, figure, named=False)


def _rounded(value: float) -> float:
    """Rounded to seven digits: enough for a screen, and it makes the page a third of the size."""
    return float(f"{value:.7g}")
