"""What the grids share: settings by scale, comparisons that know the spread over seeds, and two kinds of picture.

A run's number is its linear accuracy unless another column is named. The spread of a comparison is the two cells' half
ranges over seeds, added; a smaller difference is called no difference. One seed has no spread: then a difference counts
from two standard errors of accuracy on 10,000 test images, and is labelled "one seed".
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from statistics import mean
from typing import TYPE_CHECKING, Any

from eigenview.config import MonitorConfig, OptimConfig, RunConfig, with_fields
from eigenview.recipes import load_recipe

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Runs = list[dict[str, Any]]
Results = Mapping[str, Runs]
Claim = tuple[str, str, str]
"""(cell, sign, cell): the first is better than the second (">"), no worse (">="), or no different ("~")."""

SCALES: dict[str, dict[str, Any]] = {
    "tiny": {
        "data_fraction": 0.25,
        "epochs": 5,
        "image_size": 24,
        "encoder": "conv-small",
        "probe": {"images": 12_500, "few_label_draws": 5},
    },
    "cpu": {"data_fraction": 0.5, "epochs": 10, "image_size": 24, "encoder": "conv-small"},  # four times tiny's steps
    "gpu": {"epochs": 100, "image_size": 32, "encoder": "torchvision:resnet18"},
}
# SGD at a constant rate and CIFAR-10's augmentation, as DirectPred and DirectSet were published
# (facebookresearch/luckmatters, commit 625b5f7; its crops are resampled bilinearly)
TIAN_SGD = OptimConfig(
    name="sgd", lr_per_256=0.03, batch_scaling="none", weight_decay=4e-4, warmup_epochs=0, final_fraction=1.0
)
TIAN: dict[str, Any] = {
    "batch_size": 128,
    "augmentation": "simclr-small",
    "optim": TIAN_SGD,
    "network": {
        "projector_layers": 2,
        "projector_hidden": 512,
        "projector_width": 128,
        "predictor_hidden": 512,
        "target_momentum": 0.996,
        "target_momentum_end": 0.996,
    },
}
ONE_SEED = 1.4  # points: 2 sqrt(2 * 0.5 * 0.5 / 10,000), for two accuracies about 50 %
BLUE, ORANGE, GREEN, RED = "#0072B2", "#E69F00", "#009E73", "#D55E00"
COLOURS = (BLUE, ORANGE, GREEN, RED, "#CC79A7", "#56B4E9", "#7F7F7F")


def cell(
    recipe: str, scale: str, data: str, fields: Mapping[str, Any] | None = None, *, gpu: Mapping[str, Any] | None = None
) -> RunConfig[Any]:
    """The config of small-RECIPE at a scale, with `gpu`'s fields at that scale only, and last the cell's own."""
    config = with_fields(load_recipe(f"small-{recipe}"), {"data": f"{data}/train", "probe_data": data})
    config = with_fields(config, {"monitor": MonitorConfig(images=512), **SCALES[scale]})
    if scale == "gpu":
        config = with_fields(config, dict(gpu or {}))
    return with_fields(config, dict(fields or {}))


def numbers(runs: Runs, column: str = "linear") -> list[float]:
    """The column's values; a run that diverged has none."""
    return [r[column] for r in runs if r[column] is not None]


def half_range(values: Sequence[float]) -> float:
    """Half the distance from the smallest to the largest."""
    return (max(values) - min(values)) / 2


def difference(a: Runs, b: Runs, column: str = "linear") -> tuple[float, float | None]:
    """How far the mean of `a` is above that of `b`, and the spread (None: a cell with one run)."""
    x, y = numbers(a, column), numbers(b, column)
    return mean(x) - mean(y), half_range(x) + half_range(y) if min(len(x), len(y)) > 1 else None


def within(gap: float, spread: float | None) -> str:
    """`(+3.1, spread 0.4)`."""
    return f"({gap:+.1f}, {'one seed' if spread is None else f'spread {spread:.1f}'})"


def is_same(gap: float, spread: float | None) -> bool:
    """Whether a difference is called none."""
    return abs(gap) <= (ONE_SEED if spread is None else spread)


def check_claim(results: Results, claim: Claim, column: str = "linear") -> tuple[bool, str]:
    """Whether a published comparison was seen, and what was seen in words."""
    a, sign, b = claim
    claim = f"{a} {sign} {b}"
    missing = [name for name in (a, b) if not numbers(results[name], column)]
    if missing:
        return sign != "~" and missing == [b], f"{claim}: {' and '.join(missing)} diverged"
    gap, spread = difference(results[a], results[b], column)
    size = within(gap, spread)
    if is_same(gap, spread):
        return sign in ("~", ">="), f"{claim}: no difference {size}"
    seen = sign in (">", ">=") and gap > 0
    return seen, f"{claim}: {'yes' if seen else 'NO'} {size}"


def check_claims(results: Results, claims: Iterable[Claim], column: str = "linear") -> str:
    """`Published comparisons seen: 2 of 3 (linear accuracy). a > b: yes (+3.1, spread 0.4); ...`, of cells present."""
    checked = [check_claim(results, c, column) for c in claims if c[0] in results and c[2] in results]
    if not checked:
        return "No published comparison is within this grid."
    name = {"knn": "k-NN", "linear_few": "10 labels per class"}.get(column, column)
    total = f"Published comparisons seen: {sum(seen for seen, _ in checked)} of {len(checked)} ({name} accuracy)."
    return f"{total} {'; '.join(sentence for _, sentence in checked)}."


def order(results: Results, column: str = "linear") -> str:
    """Cells from best to worst: `a 54.1 > b 53.0 ~ c 52.9`, ~ where neighbours are no different."""
    finished = [c for c in results if numbers(results[c], column)]
    ranked = sorted(finished, key=lambda c: -mean(numbers(results[c], column)))
    text = "".join(
        f"{c} {mean(numbers(results[c], column)):.1f} "
        f"{'~' if is_same(*difference(results[c], results[d], column)) else '>'} "
        for c, d in pairwise(ranked)
    )
    return text + "".join(f"{c} {mean(numbers(results[c], column)):.1f}" for c in ranked[-1:])


def failures(results: Results) -> str:
    """Which cells collapsed or diverged, and in how many of their runs."""
    found: list[str] = []
    for name, runs in results.items():
        for verdict, count in Counter(r["verdict"] for r in runs if r["verdict"] != "healthy").items():
            found.append(f"{name} ({verdict}, {count} of {len(runs)})")
    return f"Not healthy: {', '.join(found)}." if found else "Every run is judged healthy."


def baselines(results: Results, column: str) -> dict[str, float]:
    """Mean accuracy of raw pixels and of the untrained encoder."""
    found: dict[str, list[float]] = {}
    for runs in results.values():
        for r in runs:
            for name, row in r["baselines"].items():
                found.setdefault(name, []).append(row[column])
    return {name: mean(values) for name, values in found.items()}


def bars(results: Results, title: str, groups: Mapping[str, str] | None = None) -> Figure:
    """One bar a cell: mean linear accuracy, half range and single runs (a cross: not healthy); k-NN as a diamond.

    `groups` maps a cell's name to the colour of its bar.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.5, 1.2 + 0.32 * len(results)))
    axis = figure.subplots()
    for k, (name, runs) in enumerate(results.items()):
        linear, knn = numbers(runs), numbers(runs, "knn")
        if linear:
            colour = (groups or {}).get(name, BLUE)
            axis.barh(k, mean(linear), 0.66, xerr=half_range(linear), color=colour, alpha=0.75, capsize=3)
            axis.plot(mean(knn), k, "D", ms=5, mfc="white", mec="black", label="k-NN" if k == 0 else None)
        for r in runs:
            if r["linear"] is None:
                axis.text(1, k, "diverged", va="center", fontsize=8)
            else:
                axis.plot(r["linear"], k, "k." if r["verdict"] == "healthy" else "kx", ms=5)
    for (name, level), style in zip(baselines(results, "linear").items(), (":", "--"), strict=False):
        axis.axvline(level, color="black", ls=style, lw=1, label=f"{name}, linear")
    axis.set_yticks(range(len(results)), list(results))
    axis.invert_yaxis()
    axis.set_xlabel("linear accuracy, % (bar: mean and half range over seeds; cross: run judged not healthy)")
    return _finish(axis, title)


def lines(series: Mapping[str, Results], title: str, xlabel: str, column: str = "linear") -> Figure:
    """One line a series over its cells' names as they come: mean, half range, single runs."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.5, 3.6))
    axis = figure.subplots()
    assert len(series) <= len(COLOURS), "more lines than colours: some would be left out"
    for (name, results), colour in zip(series.items(), COLOURS, strict=False):
        present = {x: runs for x, runs in results.items() if numbers(runs, column)}
        if not present:
            continue  # a part of the grid: the legend would name a line that is not there
        values = [numbers(runs, column) for runs in present.values()]
        axis.errorbar(
            list(present),
            [mean(v) for v in values],
            [half_range(v) for v in values],
            color=colour,
            capsize=3,
            label=name,
        )
        for x, runs in present.items():
            for r in runs:
                if r[column] is not None:
                    axis.plot(x, r[column], "." if r["verdict"] == "healthy" else "x", color=colour, ms=5)
    every = {f"{name} {x}": runs for name, results in series.items() for x, runs in results.items()}
    for (name, level), style in zip(baselines(every, column).items(), (":", "--"), strict=False):
        axis.axhline(level, color="black", ls=style, lw=1, label=name)
    axis.set_xlabel(f"{xlabel} (bars: half range over seeds; cross: run judged not healthy)")
    axis.set_ylabel(f"{'k-NN' if column == 'knn' else column} accuracy, %")
    return _finish(axis, title)


def _finish(axis: Any, title: str) -> Figure:
    axis.set_title(title, fontsize=10)
    axis.spines[["top", "right"]].set_visible(False)
    if axis.get_legend_handles_labels()[0]:
        axis.legend(fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
    return axis.figure
