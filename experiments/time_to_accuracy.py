"""Wall time to a k-NN accuracy: the engine against lightly's own loop, same method, encoder and machine

Question: how much sooner does the engine reach the accuracy that both reach?
Source: none; the other side is the example of lightly-ai/lightly for SimCLR (_lightly_loop.py).
What is compared: SimCLR of the recipe small-simclr, with the same encoder, projector, initial weights, optimiser,
schedule, batch, images, epochs and threads on both sides. Lightly reads and transforms each file at each epoch, in as
many worker processes as there are cores, with the same operations, probabilities and ranges (its crops are bilinear
from 32 px, ours bicubic from the stored square); its loss is its own NTXentLoss. The example's precision is float32;
both sides are also run in bfloat16.
A point is a whole run with its own schedule, at 20, 40, 60 and 100 % of the epochs.
Between points the line is followed. One more row has the example's own batch, optimiser and temperature.
Wall time: all steps with loading and augmentation; ours with its checkpoints, and with decoding the whole folder into
an empty cache, though a machine pays that once. Not in it, on either side: imports, listing files for lightly,
diagnoses, probes. The k-NN is the probe of every run, by the same function.
Prediction, written before any run: at equal epochs k-NN accuracies are no different; the common accuracy is reached 2
to 3 times sooner in either precision on two cores; the example's own settings stay 5 points or more below.
Time: at tiny 8 cells of ours (22 epochs, 6 minutes), 9 of lightly's (27 epochs, 15 minutes) and half a minute of probes
each: about half an hour. Wall time is the result here: let nothing else run beside it.
"""

from __future__ import annotations

import functools
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING, Any

from eigenview import runfiles
from eigenview.config import OptimConfig, RunConfig, with_fields
from experiments import _lightly_loop
from experiments._grids import (
    BLUE,
    GREEN,
    ORANGE,
    RED,
    Results,
    baselines,
    cell,
    difference,
    failures,
    is_same,
    numbers,
    within,
)

if TYPE_CHECKING:
    from eigenview.run import Run
    from eigenview.terminal import Console
    from experiments._frame import Peer

EPOCHS = {"tiny": 5, "cpu": 10, "gpu": 100}
SHARES = {"tiny": (20, 40, 60, 100), "cpu": (40, 100), "gpu": (20, 40, 60, 100)}  # percent of the epochs
PRECISIONS = ("fp32", "bf16")
EXAMPLE = "lightly fp32 example 100 %"
# the example's settings; the heads' widths and the views are the recipe's
EXAMPLE_SETTINGS: dict[str, Any] = {
    "batch_size": 256,
    "method": {"temperature": 0.5},
    "optim": OptimConfig(
        name="sgd",
        lr_per_256=0.06,
        batch_scaling="none",
        momentum=0.0,
        weight_decay=0.0,
        warmup_epochs=0,
        final_fraction=1.0,
    ),
}
COLOURS = {"ours fp32": BLUE, "ours bf16": GREEN, "lightly fp32": ORANGE, "lightly bf16": RED}
published: dict[str, dict[str, float]] = {}
Curve = Sequence[tuple[float, float]]
"""(seconds, k-NN accuracy in percent) of runs of growing length."""


def grid(scale: str, data: str, who: str, precisions: Sequence[str]) -> dict[str, RunConfig[Any]]:
    """One side's runs: each share of the epochs in each precision."""
    return {
        f"{who} {precision} {share} %": cell(
            "simclr", scale, data, {"precision": precision, "epochs": max(1, EPOCHS[scale] * share // 100)}
        )
        for precision in precisions
        for share in SHARES[scale]
    }


def cells(scale: str, data: str) -> dict[str, RunConfig[Any]]:
    """Ours in both precisions; at cpu in bfloat16 alone."""
    return grid(scale, data, "ours", PRECISIONS[1:] if scale == "cpu" else PRECISIONS)


def peers(scale: str, data: str, console: Console) -> dict[str, Peer]:
    """Lightly's, the same and once with its example's settings; none where it is not installed."""
    if _lightly_loop.version() is None:
        console.print(f"{_lightly_loop.MISSING}   (only ours is run)")
        return {}
    configs = grid(scale, data, "lightly", PRECISIONS)
    configs[EXAMPLE] = with_fields(configs["lightly fp32 100 %"], EXAMPLE_SETTINGS)
    return {name: (config, _lightly_loop.train) for name, config in configs.items()}


def measure(run: Run) -> dict[str, Any]:
    """Who trained, and the seconds of decoding that this run needed before its first step."""
    library = runfiles.read_json(run.directory / runfiles.ENVIRONMENT).get(_lightly_loop.LIBRARY)
    config = run.config
    seconds = 0.0 if library else decoding_seconds(config.data, config.image_size)
    return {"library": library or "eigenview", "decoding_seconds": round(seconds, 2)}


@functools.cache
def decoding_seconds(data: str, size: int | None) -> float:
    """Wall time from a folder to the decoded set in an empty cache."""
    from eigenview.data.load import find_source
    from eigenview.data.pixels.cache import CacheDir
    from eigenview.data.sources.source import Request

    with tempfile.TemporaryDirectory() as folder:
        cache = CacheDir(Path(folder), f"scratch folder {folder}", "Free space there.")
        start = time.perf_counter()
        find_source(data).load("train", Request(size=size, cache_dir=cache))
        return time.perf_counter() - start


def curves(results: Results) -> dict[str, list[tuple[float, float]]]:
    """Contender -> its curve, means over seeds, decoding counted; runs that diverged are left out."""
    found: dict[str, list[tuple[float, float]]] = {}
    for name, runs in results.items():
        if numbers(runs, "knn"):
            finished = [r for r in runs if r["knn"] is not None]
            seconds = mean(r["seconds"] + r["measured"]["decoding_seconds"] for r in finished)
            found.setdefault(name.rsplit(" ", 2)[0], []).append((seconds, mean(numbers(runs, "knn"))))
    return {who: sorted(curve) for who, curve in found.items()}


def time_to(curve: Curve, accuracy: float) -> float | None:
    """Seconds at which the curve first reaches an accuracy, straight between points; None where it never does.

    A curve that starts above it gives its first point's time: no shorter run was made.
    """
    before: tuple[float, float] | None = None
    for seconds, reached in curve:
        if reached >= accuracy:
            if before is None:
                return seconds
            part = (accuracy - before[1]) / (reached - before[1])
            return before[0] + part * (seconds - before[0])
        before = (seconds, reached)
    return None


def race(ours: Curve, theirs: Curve) -> tuple[float, float, float]:
    """(accuracy, our seconds, their seconds) at the best accuracy that both reach."""
    accuracy = min(max(y for _, y in ours), max(y for _, y in theirs))
    a, b = time_to(ours, accuracy), time_to(theirs, accuracy)
    assert a is not None
    assert b is not None
    return accuracy, a, b


def conclude(results: Results) -> str:
    """For each pair of contenders the times to the best accuracy both reach; whether equal epochs are equally good."""
    found = curves(results)
    sentences: list[str] = []
    for a, b in ((f"ours {p}", f"lightly {q}") for p in PRECISIONS for q in PRECISIONS):
        if a in found and b in found:
            accuracy, x, y = race(found[a], found[b])
            sentences.append(f"{accuracy:.1f} % k-NN: {a} {x:.0f} s, {b} {y:.0f} s ({y / x:.2f}x)")
    for p in PRECISIONS:
        a, b = (results.get(f"{who} {p} 100 %", []) for who in ("ours", "lightly"))
        if numbers(a, "knn") and numbers(b, "knn"):
            gap, spread = difference(a, b, "knn")
            verdict = "no different" if is_same(gap, spread) else "different"
            sentences.append(f"equal epochs in {p}: {verdict} {within(gap, spread)}")
    if numbers(results.get(EXAMPLE, []), "knn"):
        ((seconds, accuracy),) = found[EXAMPLE.rsplit(" ", 2)[0]]
        sentences.append(f"its example's settings: {accuracy:.1f} % after {seconds:.0f} s")
    if not any(name.startswith("lightly") for name in results):
        best = "; ".join(f"{who} {max(y for _, y in c):.1f} % k-NN in {c[-1][0]:.0f} s" for who, c in found.items())
        sentences = [f"Only ours was run ({_lightly_loop.MISSING}): {best or 'nothing finished'}"]
    return f"{'; '.join(sentences) or 'No two contenders to compare'}. {failures(results)}"


def figure(results: Results) -> Any:
    """k-NN accuracy over wall time, a line a contender; single runs as dots."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.5, 3.8))
    axis = figure.subplots()
    for who, curve in curves(results).items():
        axis.plot([x for x, _ in curve], [y for _, y in curve], "o-", color=COLOURS.get(who, "gray"), ms=4, label=who)
    for name, runs in results.items():
        for r in runs:
            if r["knn"] is not None:
                colour = COLOURS.get(name.rsplit(" ", 2)[0], "gray")
                axis.plot(r["seconds"] + r["measured"]["decoding_seconds"], r["knn"], ".", color=colour, ms=4)
    for (name, level), style in zip(baselines(results, "knn").items(), (":", "--"), strict=False):
        axis.axhline(level, color="black", ls=style, lw=1, label=name)
    axis.set_xlabel("seconds, loading and augmentation included, probes excluded")
    axis.set_ylabel("k-NN accuracy, %")
    axis.set_title("Wall time to a k-NN accuracy: runs of growing length", fontsize=10)
    axis.spines[["top", "right"]].set_visible(False)
    if axis.get_legend_handles_labels()[0]:
        axis.legend(fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
    return figure
