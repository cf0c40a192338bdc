"""The section of the page that compares one run with the linear theory: curves, residuals, constants, assumptions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from eigenview.report.numbers import count, percent, short
from eigenview.report.plot import MARKERS, PALETTE, Entry, Figure, empty_figure, line, page_figure
from eigenview.report.predictor import HOVER, TALL, chosen_modes
from eigenview.report.read import RunRecord
from eigenview.report.tables import Cell, Table, TableRow
from eigenview.report.theory_fit import Prediction, predict
from eigenview.report.theory_inputs import TheoryInputs, theory_inputs
from eigenview.report.theory_residual import THRESHOLD

DRAWN_MODES = 6  # a colour and a marker for each


@dataclass(frozen=True)
class Section:
    """What the template shows."""

    summary: str
    figures: list[Figure]
    constants: Table
    modes: Table
    unmet: list[str]


def theory_section(record: RunRecord) -> Section:
    """The section of one run.

    Raises: UserError as `theory_inputs` and `predict`.
    """
    run = theory_inputs(record)
    prediction = predict(run.history)
    return Section(
        summary(run, prediction),
        [_curves(run, prediction, "F"), _curves(run, prediction, "W_p"), _residuals(run, prediction)],
        _constants(run, prediction),
        _modes(run, prediction),
        run.unmet,
    )


def summary(run: TheoryInputs, prediction: Prediction) -> str:
    """The residuals in words: how large, from when and in which modes above the threshold, against no change."""
    F, W_p = (prediction.residuals[name] for name in ("F", "W_p"))
    num = run.history.F.shape[1]
    words = [
        f"From epoch {short(run.epochs[0])} on, the theory has an error of {_share(F.overall)} for the eigenvalues of "
        f"F and {_share(W_p.overall)} for W_p (relative root mean square over the {count(num, 'leading mode')}, which "
        f"hold {_share(run.trace_share)} of F); to predict no change at all has an error of {_share(F.unchanged)} and "
        f"{_share(W_p.unchanged)}."
    ]
    if not prediction.beats_no_change:
        words.append("No time scale does better than that: the theory moves the modes in other directions.")
    breaks = {name: each.first_above(THRESHOLD) for name, each in prediction.residuals.items()}
    late = {name: run.epochs[k] for name, k in breaks.items() if k is not None}
    limit = f"{100 * THRESHOLD:g}\u00a0%"
    if late:
        first = min(late.values())
        at = [name for name, epoch in late.items() if epoch == first]
        off = f"{' and '.join(at)} {'is' if len(at) == 1 else 'are'}"
        words.append(f"It fails from epoch {short(first)} on, the first at which {off} off by more than {limit}.")
        worst = {name: np.flatnonzero(each.of_mode > THRESHOLD) + 1 for name, each in prediction.residuals.items()}
        words += [
            f"Modes of {name} off by more than {limit}: {_ranges(ranks.tolist()) if len(ranks) < num else 'all'}."
            for name, ranks in worst.items()
            if len(ranks)
        ]
    else:
        words.append(f"It holds to the end: no diagnosis is off by more than {limit}.")
    return " ".join(words)


def _curves(run: TheoryInputs, prediction: Prediction, name: str) -> Figure:
    """Measured points and the theory's line, both in the colour of their mode."""
    figure = empty_figure("epoch", "eigenvalue of F" if name == "F" else "v · W_p v")
    measured, predicted = (run.history.F, prediction.F) if name == "F" else (run.history.W_p, prediction.W_p)
    epochs = np.interp(prediction.steps, run.history.steps, run.epochs)
    for k, mode in enumerate(_drawn(measured.shape[1])):
        colour = PALETTE[k]
        look = {"color": colour, "width": 2, "dash": "solid"}
        figure.add_scatter(
            x=run.epochs.tolist(),
            y=measured[:, mode].tolist(),
            name=f"mode {mode + 1}, measured",
            mode="markers",
            marker={"symbol": MARKERS[k], "size": 8, "color": colour},
            line=look,
            hovertemplate=HOVER,
        )
        figure.add_scatter(
            x=epochs.tolist(),
            y=_drawable(predicted[:, mode], name),
            name=f"mode {mode + 1}, theory",
            mode="lines",
            line=look,
            hovertemplate=HOVER,
        )
    figure.update_layout(hovermode="closest", height=TALL)
    if name == "F":
        figure.update_yaxes(type="log", exponentformat="power")
    error = prediction.residuals[name].overall
    made = page_figure(
        f"theory-{name}",
        "Eigenvalues of F, measured and predicted" if name == "F" else "The predictor, measured and predicted",
        f"Markers: measured. Lines: theory. One colour for each mode. They differ by {_share(error)}.",
        figure,
        named=False,
    )
    legend = [Entry(f"mode {mode + 1}", PALETTE[k], "solid", 2) for k, mode in enumerate(_drawn(measured.shape[1]))]
    return Figure(made.key, made.title, made.caption, legend, made.spec)


def _drawable(values: np.ndarray, name: str) -> list[float | None]:
    """Values to plot; F has a log axis, where 0 and below become gaps."""
    return [float(v) if np.isfinite(v) and (name != "F" or v > 0) else None for v in values]


def _residuals(run: TheoryInputs, prediction: Prediction) -> Figure:
    figure = empty_figure("epoch", "relative residual")
    for style, (name, each) in enumerate(prediction.residuals.items()):
        figure.add_scatter(x=run.epochs.tolist(), y=each.of_diagnosis.tolist(), **line(name, style, marked=True))
    ends = [float(run.epochs[0]), float(run.epochs[-1])]
    look = {"color": PALETTE[6], "width": 1.2, "dash": "dot"}
    figure.add_scatter(x=ends, y=[THRESHOLD] * 2, name="threshold", mode="lines", line=look, hoverinfo="skip")
    figure.update_yaxes(rangemode="tozero")
    caption = f"Relative root mean square over modes of predicted minus measured; above {THRESHOLD:g} it fails."
    return page_figure("theory-residual", "Error of the theory", caption, figure)


def _constants(run: TheoryInputs, prediction: Prediction) -> Table:
    rows = [TableRow(name, [Cell(value), Cell(source)]) for name, value, source in run.sources]
    source = (
        "the only fitted number: a step at learning rate r advances the theory's time by r times this. For plain SGD "
        f"on a linear network with the Euclidean loss it is {run.exact_time_scale}"
    )
    rows.append(TableRow("time scale", [Cell(short(prediction.scale)), Cell(source)], is_main=True))
    return Table(["quantity", "value", "source"], rows, [])


def _modes(run: TheoryInputs, prediction: Prediction) -> Table:
    """Start, end and residual of each mode; of more than a dozen, some at both ends."""
    F, W_p, residuals = run.history.F, run.history.W_p, prediction.residuals

    def cells(k: int) -> list[Cell]:
        values: list[Any] = [run.history.sigma2[k], F[0, k], F[-1, k], prediction.F[-1, k]]
        more: list[Any] = [W_p[0, k], W_p[-1, k], prediction.W_p[-1, k]]
        shares = [_share(residuals[name].of_mode[k]) for name in ("F", "W_p")]
        texts = [short(float(v)) for v in values] + [shares[0]] + [short(float(v)) for v in more] + [shares[1]]
        return [Cell(text) for text in texts]

    columns = ["mode", "sigma²", "F at the start", "F at the end", "predicted", "residual of F"]
    columns += ["W_p at the start", "W_p at the end", "predicted", "residual of W_p"]
    rows = [TableRow(str(k + 1), cells(k)) for k in chosen_modes(F.shape[1])]
    return Table(columns, rows, [])


def _drawn(num: int) -> list[int]:
    """Modes in the figures: all, or if there are too many, six from first to last at equal ratios."""
    if num <= DRAWN_MODES:
        return list(range(num))
    return np.unique(np.geomspace(1, num, DRAWN_MODES).round().astype(int) - 1).tolist()


def _share(value: float) -> str:
    return f"{percent(100 * value)}\u00a0%"


def _ranges(ranks: list[int]) -> str:
    """1, 3 to 5, 8"""
    runs: list[list[int]] = []
    for rank in ranks:
        if runs and rank == runs[-1][-1] + 1:
            runs[-1].append(rank)
        else:
            runs.append([rank])
    return ", ".join(str(r[0]) if len(r) == 1 else f"{r[0]} to {r[-1]}" for r in runs)
