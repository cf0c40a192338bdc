"""Loss terms, spread and effective rank over the epochs, one run or several overlaid."""

from __future__ import annotations

from collections.abc import Sequence

from eigenview.report.measures import MEASURES, RANK, SPREAD, Measure, first_present
from eigenview.report.numbers import number, short
from eigenview.report.plot import (
    LAYERS,
    OUTPUTS,
    PALETTE,
    Figure,
    Points,
    empty_figure,
    epochs,
    finite_points,
    line,
    page_figure,
    thin,
)
from eigenview.report.read import RunRecord


def loss_figures(records: Sequence[RunRecord]) -> list[Figure]:
    """A small plot per loss term, with a line per run that has it; one of the total if there are several terms."""
    terms = list(dict.fromkeys(name for r in records for row in r.metrics for name in row.get("terms") or {}))
    names = (["loss"] if len(terms) != 1 else []) + terms
    plots: list[Figure] = []
    for i, name in enumerate(names):
        figure = empty_figure("epoch", "loss" if name == "loss" else f"{name} (weighted)")
        caption = ""
        for k, r in enumerate(records):
            rows = r.metrics
            values = [row.get("loss") if name == "loss" else (row.get("terms") or {}).get(name) for row in rows]
            x, y = thin(*finite_points(epochs(rows), values))
            if any(v is not None for v in y):
                figure.add_scatter(x=x, y=y, **line(r.name, k, marked=len(x) == 1))  # one point makes no line
                caption = _first_and_last(y)
        if not figure.data:
            continue
        if len(records) > 1:
            caption = "Compare runs of one method only: scales differ." if name == "loss" else "One line per run."
        title = "Total loss" if name == "loss" and terms else name.replace("_", " ").capitalize()
        plots.append(page_figure(f"loss-{i}", title, caption, figure, named=len(records) > 1))
    return plots


def collapse_figures(records: Sequence[RunRecord]) -> list[Figure]:
    """Spread and effective rank over the epochs, the untrained value dotted; h and z in one plot for a single run."""
    panels = [("h", "z")] if len(records) == 1 else [("h",), ("z",)]
    plots: list[Figure] = []
    for kind, wanted in (("spread", SPREAD), ("rank", RANK)):
        for layers in panels:
            figure = _collapse_figure(records, kind, wanted, layers)
            if figure is not None:
                plots.append(figure)
    return plots


def _collapse_figure(
    records: Sequence[RunRecord], kind: str, wanted: tuple[str, ...], layers: tuple[str, ...]
) -> Figure | None:
    keys = (key for r in records for row in r.diagnostics for layer in layers for key in row.get(layer) or {})
    key = first_present(keys, wanted)
    if key is None:
        return None
    measure = MEASURES.get(key, Measure(key, ""))
    figure = empty_figure("epoch", measure.name)
    for k, r in enumerate(records):
        for j, layer in enumerate(layers):
            style = k if len(records) > 1 else j
            values = [(row.get(layer) or {}).get(key) for row in r.diagnostics]
            x, y = finite_points(epochs(r.diagnostics), values)
            if all(v is None for v in y):
                continue
            if number(r.diagnostics[0].get("step")) == 0 and number(values[0]) is not None and len(x) > 1:
                look = {"color": PALETTE[style % len(PALETTE)], "width": 1.2, "dash": "dot"}
                ends, level = [x[0], x[-1]], number(values[0])
                figure.add_scatter(x=ends, y=[level] * 2, mode="lines", line=look, hoverinfo="skip")
            x, y = thin(x, y)
            label = LAYERS[layer] if len(records) == 1 else r.name
            figure.add_scatter(x=x, y=y, **line(label, style, marked=len(x) <= 60))
    if not figure.data:
        return None
    figure.update_yaxes(rangemode="tozero")
    title = "Spread" if kind == "spread" else "Effective rank"
    where = f" {OUTPUTS[layers[0]]}" if len(layers) == 1 else ""
    watch = f"A fall {'towards 0' if kind == 'spread' else 'far below the untrained value'} indicates collapse."
    caption = (
        f"{measure.name[:1].upper()}{measure.name[1:]}{where}: {measure.meaning}. Dotted: before training. {watch}"
    )
    title += f" of {layers[0]}" if where else ""
    return page_figure(f"{kind}-{'-'.join(layers)}", title, caption, figure)


def _first_and_last(y: Points) -> str:
    values = [v for v in y if v is not None]
    if len(values) == 1:
        return f"{short(values[0])} at the only step that was written."
    # the mean of the last tenth: single batches are noisy
    last = sum(values[-max(1, len(values) // 10) :]) / max(1, len(values) // 10)
    return f"From {short(values[0])} at the start to {short(last)} at the end."
