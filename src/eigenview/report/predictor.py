"""Figures of the predictor: the eigenvalues of F over the epochs, and how W_p scales and aligns with its modes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go

from eigenview.report.numbers import number, percent
from eigenview.report.plot import (
    DASHES,
    HOVER,
    Figure,
    Points,
    empty_figure,
    epochs,
    finite_points,
    line,
    log_step,
    page_figure,
    thin,
)
from eigenview.report.read import RunRecord
from eigenview.report.spectrum import DRAWN, SPECTRUM_POINTS

MAX_MODES = 12
MAX_MARKED = 60  # points of a line that each get a marker
TALL = 320
STOPS = ((31, 127, 196), (150, 95, 185), (224, 138, 0))  # blue, violet, orange: distinct for the colour-blind too

ALIGNMENT_TITLE = "Alignment of F and the predictor"


def predictor_figures(records: Sequence[RunRecord]) -> list[Figure]:
    """Figures of the runs with predictor diagnostics: one run over the epochs, or the last modes of several."""
    if not any("F" in r.spectra or _measure(r, "alignment")[0] for r in records):
        return []
    if len(records) == 1:
        plots = [_modes(records[0], "F"), _modes(records[0], "W_p"), _alignment(records[0]), _target(records[0])]
    else:
        plots = [_compared_measure(records, "alignment"), _compared_measure(records, "commutator")]
        plots += [_compared_spectrum(records, "F"), _compared_spectrum(records, "W_p")]
    return [figure for figure in plots if figure is not None]


def chosen_modes(width: int) -> list[int]:
    """At most MAX_MODES of the modes 0..width-1: all if they are few, else closest together at both ends."""
    if width <= MAX_MODES:
        return list(range(width))
    from_end = np.geomspace(1, width / 2, MAX_MODES // 2).round().astype(int) - 1
    return sorted({*from_end.tolist(), *(width - 1 - from_end[:-1]).tolist()})


def _modes(record: RunRecord, name: str) -> Figure | None:
    """A line per mode, by rank at each epoch: eigenvalues of F on a log axis, or v . W_p v along the same modes."""
    eigenvalues = _eigenvalues(record)
    if eigenvalues is None or name not in record.spectra:
        return None
    # nan where the eigenvalue of F is only rounding: there v . W_p v has no meaning
    values = np.where(np.isfinite(eigenvalues), record.spectra[name].astype(float), math.nan)
    epoch_of = {number(row.get("step")): number(row.get("epoch")) for row in record.diagnostics}
    places = [epoch_of.get(step) for step in record.spectra["step"].astype(float).tolist()]
    figure = empty_figure("epoch", "eigenvalue of F" if name == "F" else "v · W_p v")
    chosen = chosen_modes(int(np.isfinite(eigenvalues).sum(axis=1).max()))
    for k, mode in enumerate(chosen):
        x, y = thin(*finite_points(places, values[:, mode].tolist()))
        if any(v is not None for v in y):
            look = _mode_look(k, len(chosen))
            figure.add_scatter(x=x, y=y, name=f"mode {mode + 1}", mode="lines", line=look, hovertemplate=HOVER)
            if len(x) == 1:  # a run with a single diagnosis
                figure.data[-1].update(mode="markers", marker={"color": look["color"]})
    if not figure.data:
        return None
    figure.update_layout(hovermode="closest", height=TALL)
    if name == "F":
        _make_log(figure, values)
        caption = (
            "Modes by rank at each epoch: one that falls and rises again escapes collapse, one that stays low is lost."
        )
        return page_figure("predictor-F", "Eigenvalues of F", caption, figure)
    _mark_zero(figure)
    caption = "How the predictor scales the same modes v: at 0 or below, a mode decays in linear theory."
    return page_figure("predictor-W_p", "The predictor along these modes", caption + _linear_share(record), figure)


def _alignment(record: RunRecord) -> Figure | None:
    figure = empty_figure("epoch", "cosine and commutator")
    named = {"alignment": "alignment, mean", "alignment_min": "alignment, smallest", "commutator": "commutator"}
    for style, (key, name) in enumerate(named.items()):
        x, y = _measure(record, key)
        if x:
            figure.add_scatter(x=x, y=y, **line(name, style, marked=len(x) <= MAX_MARKED))
    if not figure.data:
        return None
    _mark_zero(figure)
    caption = (
        "Cosine of v and W_p v, mean weighted by F and smallest in 99 % of F: at 1, with a commutator of 0, F and "
    )
    return page_figure("predictor-alignment", ALIGNMENT_TITLE, caption + "the predictor share their modes.", figure)


def _target(record: RunRecord) -> Figure | None:
    values = [row.get("target_momentum") for row in record.metrics]
    x, y = thin(*finite_points(epochs(record.metrics), values))
    if all(v is None for v in y):
        return None
    figure = empty_figure("epoch", "tau")
    figure.add_scatter(x=x, y=y, **line("tau", 0))
    caption = "Share of the target network that is kept at each step: the closer to 1, the slower the target follows."
    return page_figure("predictor-tau", "Momentum of the target", caption, figure, named=False)


def _compared_measure(records: Sequence[RunRecord], key: str) -> Figure | None:
    figure = empty_figure("epoch", "alignment, mean" if key == "alignment" else "relative commutator")
    for k, r in enumerate(records):
        x, y = _measure(r, key)
        if x:
            figure.add_scatter(x=x, y=y, **line(r.name, k, marked=len(x) <= MAX_MARKED))
    if not figure.data:
        return None
    if key == "alignment":
        caption = "Mean cosine of v and W_p v over the modes v of F, weighted by F: at 1 both share their modes."
        return page_figure("predictor-alignment", ALIGNMENT_TITLE, caption, figure)
    caption = "Norm of F W_p − W_p F over those of F and W_p: at 0 both share their modes."
    return page_figure("predictor-commutator", "Commutator of F and the predictor", caption, figure)


def _compared_spectrum(records: Sequence[RunRecord], name: str) -> Figure | None:
    figure = empty_figure("rank of the mode", "eigenvalue of F" if name == "F" else "v · W_p v")
    drawn: list[float] = []
    for k, r in enumerate(records):
        eigenvalues = _eigenvalues(r)
        if eigenvalues is None or name not in r.spectra:
            continue
        last = np.where(np.isfinite(eigenvalues[-1]), r.spectra[name][-1].astype(float), math.nan)
        ranks = np.unique(np.geomspace(1, len(last), SPECTRUM_POINTS).round().astype(int))
        ranks = ranks[np.isfinite(last[ranks - 1])]
        if len(ranks):
            drawn += last[ranks - 1].tolist()
            figure.add_scatter(x=ranks.tolist(), y=last[ranks - 1].tolist(), **line(r.name, k))
    if not figure.data:
        return None
    figure.update_xaxes(type="log", dtick=1)
    figure.update_layout(hovermode="closest", height=TALL)
    if name == "F":
        _make_log(figure, np.array(drawn))
        caption = "Last eigenvalues of F: a line that ends early has few directions left."
        return page_figure("predictor-F", "Spectrum of F", caption, figure)
    _mark_zero(figure)
    caption = "How the last predictor scales each mode v of F: compare shapes only, because the scales of runs differ."
    return page_figure("predictor-W_p", "The predictor along the modes of F", caption, figure)


def _measure(record: RunRecord, key: str) -> tuple[list[float], Points]:
    """A measure of the predictor over the epochs; empty if it was never a number."""
    values = [(row.get("predictor") or {}).get(key) for row in record.diagnostics]
    x, y = thin(*finite_points(epochs(record.diagnostics), values))
    return (x, y) if any(v is not None for v in y) else ([], [])


def _linear_share(record: RunRecord) -> str:
    """The share of the predictions that the last W_p explains, if it is not all of them."""
    shares = [number(v) for row in record.diagnostics if (v := (row.get("predictor") or {}).get("linear_share"))]
    if not shares or shares[-1] is None or shares[-1] > 0.995:
        return ""
    return f" W_p, the linear map nearest to it, explains {percent(100 * shares[-1])} % of its output."


def _eigenvalues(record: RunRecord) -> np.ndarray | None:
    """Eigenvalues of F (T, D), nan where only rounding is left; None if there are none to draw."""
    values = record.spectra.get("F")
    if values is None or not values.size:
        return None
    known = np.where(np.isfinite(values), values.astype(float), 0.0)
    known = np.where(known > DRAWN * known.max(axis=1, keepdims=True), known, math.nan)
    return None if np.isnan(known).all() else known


def _mode_look(k: int, num: int) -> dict[str, Any]:
    """Blue for the largest to orange for the smallest; neighbours differ in their dash too."""
    along = 2 * k / max(1, num - 1)
    first, last = STOPS[:2] if along < 1 else STOPS[1:]
    part = along if along < 1 else along - 1
    colour = ",".join(str(round(a + part * (b - a))) for a, b in zip(first, last, strict=True))
    return {"color": f"rgb({colour})", "width": 2, "dash": DASHES[k % 3]}


def _make_log(figure: go.Figure, values: np.ndarray) -> None:
    """Powers of ten on the y axis."""
    step = log_step(float(np.nanmin(values)), float(np.nanmax(values)))
    figure.update_yaxes(type="log", dtick=step, exponentformat="power")


def _mark_zero(figure: go.Figure) -> None:
    figure.update_yaxes(zeroline=True, zerolinecolor="rgba(128,136,144,0.6)")
