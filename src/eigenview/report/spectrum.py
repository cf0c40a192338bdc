"""Figures of the spectrum: covariance eigenvalues on log axes during training, with the power law of alpha-ReQ."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go

from eigenview.report.numbers import number, short
from eigenview.report.plot import DASHES, HOVER, OUTPUTS, PALETTE, RED, Figure, empty_figure, log_step, page_figure
from eigenview.report.read import RunRecord

MAX_SPECTRA = 6
SPECTRUM_POINTS = 300
FIT_FIRST, FIT_LAST = 4, 50  # ranks of alpha-ReQ as tracked by its authors' code (fastssl)
DRAWN = 1e-12  # share of the largest eigenvalue below which only the rounding of float32 features is left
EARLY, LATE = (176, 186, 194), (31, 127, 196)  # grey to blue; both can be read on white and near-black


def spectrum_figures(records: Sequence[RunRecord]) -> list[Figure]:
    """Covariance eigenvalues on log axes, h and z: several epochs of one run, or the last of several runs."""
    plots: list[Figure] = []
    for layer in ("h", "z"):
        present = {k: r for k, r in enumerate(records) if layer in r.spectra and r.spectra[layer].size}
        figure = empty_figure("rank of the eigenvalue", "eigenvalue of the covariance", is_log=True)
        for k, r in present.items():
            spectra = r.spectra[layer]
            if len(records) == 1:
                _add_epochs(figure, r, spectra)
            else:
                _add_spectrum(figure, spectra[-1], r.name, PALETTE[k % len(PALETTE)], 2.0, DASHES[k % len(DASHES)])
        if not figure.data:
            continue
        drawn = [v for trace in figure.to_plotly_json()["data"] for v in trace["y"]]
        # set before the fit is added, because a steep fit would stretch the axis over many empty decades
        low, high = min(drawn), max(drawn)
        figure.update_yaxes(range=[math.log10(low) - 0.2, math.log10(high) + 0.2], dtick=log_step(low, high))
        figure.update_xaxes(exponentformat="none")
        figure.update_layout(hovermode="closest", height=320)
        fit = power_law(records[0].spectra[layer][-1]) if len(records) == 1 else None
        if fit is not None:
            _add_fit(figure, records[0].spectra[layer].shape[1], fit)
        caption = _caption(layer, fit, is_single=len(records) == 1)
        plots.append(page_figure(f"spectrum-{layer}", f"Spectrum of {layer}", caption, figure))
    return plots


def _caption(layer: str, fit: tuple[float, float] | None, *, is_single: bool) -> str:
    if not is_single:
        return f"Last eigenvalues {OUTPUTS[layer]}: a line that ends early has few directions in use."
    caption = f"Eigenvalues {OUTPUTS[layer]} during training: a sharp drop means unused directions."
    if fit is not None:
        caption += (
            f" Dashed: a power law fitted to the last epoch, ranks {FIT_FIRST} to {FIT_LAST}, alpha {fit[0]:.2f}."
        )
    return caption


def _add_epochs(figure: go.Figure, record: RunRecord, spectra: np.ndarray) -> None:
    """Several epochs from grey to blue, the last one boldest."""
    num = len(spectra)
    chosen = sorted({round(i) for i in np.linspace(0, num - 1, min(num, MAX_SPECTRA))})
    for place, index in enumerate(chosen):
        along = place / max(1, len(chosen) - 1)
        colour = "rgb(" + ",".join(str(round(a + along * (b - a))) for a, b in zip(EARLY, LATE, strict=True)) + ")"
        epoch = _epoch_of(record, float(record.spectra["step"][index]))
        is_last = index == num - 1
        _add_spectrum(
            figure, spectra[index], epoch, colour, 2.6 if is_last else 1.6, "dot" if index == 0 < num - 1 else "solid"
        )


def _add_spectrum(figure: go.Figure, values: np.ndarray, name: str, colour: str, width: float, dash: str) -> None:
    ranks = np.unique(np.geomspace(1, max(1, len(values)), SPECTRUM_POINTS).round().astype(int))
    ranks = ranks[_above(values, DRAWN)[ranks - 1]]
    x, y = ranks.tolist(), values[ranks - 1].astype(float).tolist()
    if x:
        line = {"color": colour, "width": width, "dash": dash}
        figure.add_scatter(x=x, y=y, name=html.escape(name), mode="lines", line=line, hovertemplate=HOVER)


def _add_fit(figure: go.Figure, width: int, fit: tuple[float, float]) -> None:
    alpha, intercept = fit
    x = [float(FIT_FIRST), float(min(FIT_LAST, width))]
    y = [math.exp(intercept) * rank**-alpha for rank in x]
    line = {"color": RED, "width": 2, "dash": "dash"}
    name = f"fit, alpha {alpha:.2f}"
    figure.add_scatter(x=x, y=y, name=name, mode="lines", line=line, hovertemplate=HOVER)


def power_law(values: np.ndarray) -> tuple[float, float] | None:
    """(alpha, intercept) of log value = intercept - alpha log rank over ranks 4..50, weights 1/rank.

    The estimator of functional/spectrum.py, repeated in NumPy because a report must not import torch. None if
    fewer than three of those eigenvalues are above rounding.
    """
    ranks = np.arange(1, len(values) + 1, dtype=float)
    kept = (ranks >= FIT_FIRST) & (ranks <= FIT_LAST) & _above(values, (np.finfo(values.dtype).eps * len(values)) ** 2)
    if kept.sum() < 3:
        return None
    x, y, w = np.log(ranks[kept]), np.log(values[kept].astype(float)), 1 / ranks[kept]
    w /= w.sum()
    slope = (w * (x - w @ x) * (y - w @ y)).sum() / (w * (x - w @ x) ** 2).sum()
    return -float(slope), float(w @ y - slope * (w @ x))


def _above(values: np.ndarray, share: float) -> np.ndarray:
    """Which eigenvalues are finite and more than this share of the largest."""
    finite = np.isfinite(values)
    return finite & (values > share * float(values[finite].max(initial=0.0)))


def _epoch_of(record: RunRecord, step: float) -> str:
    """The epoch of a diagnosed step; the step itself if the diagnosis is missing."""
    for row in record.diagnostics:
        if number(row.get("step")) == step and number(row.get("epoch")) is not None:
            return f"epoch {short(round(row['epoch'], 1))}"
    return f"step {short(step)}"
