"""Views x share of the data: error against wall time, and the frontier

Question: which mixture of views and unique images gives the lowest error for a given time?
Source: Ghosh et al. 2023 (arXiv 2312.10725), CIFAR-10, STL-10, ImageNet-100: at equal epochs four views of half of the
images match two views of all, and more views move the frontier of error against time, by up to two times. The errors
are in figures only; the weights they found best for each mixture (CIFAR-10, width 256) stand in the table.
Theory: the mean of V - 1 views is nearer to the expectation over augmentations that the loss asks for; a pass over the
data costs time in proportion to views x images.
Prediction, written before any run: at these few steps the published match is not seen. Four views of half of the images
lose 1 to 2 points to two views of all in the same time, eight of a quarter 3 or more, since they take a half and a
quarter of the steps; two views of half of the images for twice the epochs, which take as many steps, are no different
from two of all. Hence every point of the frontier has two views.
Settings: recipe small-barlow-twins in our form (all pairs, statistics per view) with one weight for all. A share is
drawn from the images of the scale, and smaller shares are parts of larger ones. The epochs are the same, as published,
except in three rows of two views (x2, x4): what the time of more views buys without them.
Time: at tiny 12 cells, 16 times that of the first (1 to 1.5 minutes with two threads) and half a minute of probes each:
25 to 35 minutes. Wall time is the result here: let nothing else run beside it.
"""

from __future__ import annotations

from collections.abc import Mapping
from statistics import mean
from typing import Any

from eigenview.config import RunConfig
from experiments._grids import (
    BLUE,
    GREEN,
    ORANGE,
    Claim,
    Results,
    cell,
    check_claims,
    difference,
    failures,
    half_range,
    is_same,
    numbers,
    order,
    within,
)

EPOCHS = {"tiny": 5, "cpu": 5, "gpu": 100}
SHARES = {"all": 1.0, "half": 0.5, "quarter": 0.25}
VIEWS = {2: BLUE, 4: ORANGE, 8: GREEN}
MARKERS = {"all": "o", "half": "s", "quarter": "^"}
REFERENCE = "2 views of all"
LONGER = {"2 views of half x2": ("half", 2), "2 views of quarter x4": ("quarter", 4), "2 views of all x2": ("all", 2)}
EQUAL_TIME = (REFERENCE, "4 views of half", "8 views of quarter", "2 views of half x2", "2 views of quarter x4")
HEADLINE = (REFERENCE, "4 views of half", "2 views of half x2")
COLUMN = "off-diagonal weight published as best"  # ours: 0.01
published: dict[str, dict[str, float]] = {
    REFERENCE: {COLUMN: 0.02},
    "4 views of all": {COLUMN: 0.01},
    "8 views of all": {COLUMN: 0.01},
    "4 views of half": {COLUMN: 0.01},
    "8 views of quarter": {COLUMN: 0.006},
}
CLAIMS: tuple[Claim, ...] = (
    ("4 views of all", ">", REFERENCE),
    ("8 views of all", ">", "4 views of all"),
    ("4 views of half", "~", REFERENCE),
    ("8 views of quarter", "~", REFERENCE),
)
Points = Mapping[str, tuple[float, float]]
"""Cell -> (seconds, error in percent)."""


def cells(scale: str, data: str) -> dict[str, RunConfig[Any]]:
    """Three numbers of views on three shares, and two views for longer; three of them at cpu."""
    settings = {f"{views} views of {share}": (views, share, 1) for views in VIEWS for share in SHARES}
    settings |= {name: (2, share, times) for name, (share, times) in LONGER.items()}
    grid: dict[str, RunConfig[Any]] = {}
    for name, (views, share, times) in settings.items():
        fraction = cell("barlow-twins", scale, data).data_fraction * SHARES[share]
        fields = {"views": views, "data_fraction": fraction, "epochs": EPOCHS[scale] * times}
        grid[name] = cell("barlow-twins", scale, data, fields)
    return {name: grid[name] for name in HEADLINE} if scale == "cpu" else grid


def points(results: Results) -> dict[str, tuple[float, float]]:
    """Seconds of training and linear error of each cell, means over seeds; cells that diverged are left out."""
    return {
        name: (mean(r["seconds"] for r in runs if r["linear"] is not None), 100 - mean(numbers(runs)))
        for name, runs in results.items()
        if numbers(runs)
    }


def frontier(found: Points) -> list[str]:
    """The cells that no other beats, fastest first: every other takes longer or errs more (of equals, the first)."""
    best: list[str] = []
    for name in sorted(found, key=lambda name: found[name]):
        if not best or found[name][1] < found[best[-1]][1]:
            best.append(name)
    return best


def fastest_match(results: Results) -> str:
    """The fastest cell whose accuracy is above the reference's or no different from it, and its share of the time."""
    found = points(results)
    if REFERENCE not in found:
        return f"{REFERENCE} diverged." if REFERENCE in results else f"{REFERENCE} was not run."
    for name in sorted(found, key=lambda name: found[name]):
        gap, spread = difference(results[name], results[REFERENCE])
        if name != REFERENCE and (gap > 0 or is_same(gap, spread)):
            share = found[name][0] / found[REFERENCE][0]
            return (
                f"Fastest that is no worse than {REFERENCE}: {name} {within(gap, spread)} in {share:.2f} of its time."
            )
    return f"No other cell is as good as {REFERENCE}."


def conclude(results: Results) -> str:
    """Published comparisons, the order at equal time, the frontier, and what matches two views of all soonest."""
    equal = {name: results[name] for name in EQUAL_TIME if name in results}
    found = points(results)
    steps = "; ".join(f"{name} {found[name][0]:.0f} s {found[name][1]:.1f} %" for name in frontier(found))
    return (
        f"{check_claims(results, CLAIMS)} Equal passes through the encoder: {order(equal)}. "
        f"Frontier (seconds, error): {steps or 'empty'}. {fastest_match(results)} {failures(results)}"
    )


def figure(results: Results) -> Any:
    """Linear error over seconds of training, with half ranges over seeds; the frontier as steps."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, NullFormatter, ScalarFormatter

    figure = Figure(figsize=(7.5, 4.2), layout="constrained")
    axis = figure.subplots()
    found = points(results)
    for name, (seconds, error) in found.items():
        views, share = int(name[0]), name.split()[3]
        spread = half_range([r["seconds"] for r in results[name]]), half_range(numbers(results[name]))
        fill = "white" if name in LONGER else VIEWS[views]
        style = {"color": VIEWS[views], "marker": MARKERS[share], "mfc": fill, "ms": 7, "ls": "", "capsize": 2}
        axis.errorbar(seconds, error, xerr=spread[0], yerr=spread[1], **style)
    best = [found[name] for name in frontier(found)]
    if best:
        best += [(max(x for x, _ in found.values()), best[-1][1])]
    axis.step([x for x, _ in best], [y for _, y in best], where="post", color="black", lw=1)
    axis.set_xscale("log")
    axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 3, 5)))
    axis.xaxis.set_major_formatter(ScalarFormatter())
    axis.xaxis.set_minor_formatter(NullFormatter())
    axis.set_xlabel("seconds of training")
    axis.set_ylabel("linear error, % (bars: half range over seeds)")
    axis.set_title("Views x share of the data: error against wall time", fontsize=10)
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(handles=legend(found), fontsize=8, frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def legend(found: Points) -> list[Any]:
    """Colours say the views, markers the share of the images; names beside the points would cover one another."""
    from matplotlib.lines import Line2D

    dots = {"ls": "", "ms": 7}
    views = {int(name[0]) for name in found}
    shares = {name.split()[3] for name in found}
    longer = Line2D([], [], color=VIEWS[2], marker="s", mfc="white", label="for more epochs", **dots)
    return [
        *(Line2D([], [], color=c, marker="o", label=f"{v} views", **dots) for v, c in VIEWS.items() if v in views),
        *(
            Line2D([], [], color="grey", marker=m, label=f"{share} of the images", **dots)
            for share, m in MARKERS.items()
            if share in shares
        ),
        *([longer] if not LONGER.keys().isdisjoint(found) else []),
        Line2D([], [], color="black", lw=1, label="frontier"),
    ]
