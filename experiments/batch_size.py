"""Accuracy over the batch size at equal samples seen: SimCLR, VICReg, Barlow Twins, unbiased VICReg

Question: does an unbiased gradient remove the dependence on the batch size, with one setting for every size?
Source: published accuracies of SimCLR and VICReg on ImageNet at batches of 256 to 4096 (100 epochs for VICReg).
Theory: the plug-in covariance is too large by about PR/(n - 1); the U-statistic is exact. Noise, steps taken and batch
norm still change with n.
Prediction, written before any run: at the scaled rate the unbiased form's k-NN changes least between 16 and 256 (under
2 points), VICReg with the same weights loses more; at 1024 all lose by too few steps.
Settings: rate by the square root of the batch, as all recipes for Adam; at the two ends a third or three times it.
The rate is chosen by k-NN on held-out training images (never on the test images), and the chosen run's test accuracy is
reported as "tuned". Covariance weight 4 for both forms of VICReg, published weights otherwise. Batch norm as in the
recipes, and both forms of VICReg also with norms of one image (group norm in the encoder, layer norm in the heads):
nothing but the loss couples a batch there. Added after the unbiased form lost most of all at 16 behind batch norm,
with a prediction of their own: without batch norm it changes by under 2 points from 16 to 256, VICReg by more. Last, to
tell which batch norms do it, layer norm in the heads alone; prediction: they are enough, 38 or more at 16.
One setting for every batch size: both forms without batch norm at 16 and 256 also with a quarter or four times the
covariance weight, and with three times the variance weight. Prediction: by the validation images the plug-in wants a
smaller covariance weight or a larger variance weight at 16 than at 256, the unbiased form the same at both; each with
its own weights at each size, the two forms differ by less than 1.5 points at either.
"""

from __future__ import annotations

from collections.abc import Iterable
from statistics import mean
from typing import TYPE_CHECKING, Any

from eigenview.config import RunConfig
from experiments._grids import COLOURS, Results, cell, failures, lines, numbers

if TYPE_CHECKING:
    from eigenview.run import Run

ROW_NORMS = {"encoder_norm": "group", "head_norm": "layer"}
METHODS: dict[str, tuple[str, dict[str, Any]]] = {
    "SimCLR": ("simclr", {}),
    "VICReg": ("vicreg", {"method": {"covariance": 4.0}}),
    "Barlow Twins": ("barlow-twins", {}),
    "unbiased": ("unbiased-vicreg", {"method": {"covariance": 4.0}}),
    "VICReg row norms": ("vicreg", {"method": {"covariance": 4.0}, "network": ROW_NORMS}),
    "unbiased row norms": ("unbiased-vicreg", {"method": {"covariance": 4.0}, "network": ROW_NORMS}),
    "unbiased layer heads": ("unbiased-vicreg", {"method": {"covariance": 4.0}, "network": {"head_norm": "layer"}}),
}
TUNED = ("SimCLR", "Barlow Twins", "VICReg row norms", "unbiased row norms")
AT_CPU = ("VICReg row norms", "unbiased row norms")
SIZES = {"tiny": (16, 64, 256, 1024), "cpu": (16, 256), "gpu": (16, 64, 256, 1024)}
END_SIZES = ("16", "1024")
FACTORS = {"": 1.0, " rate third": 1 / 3, " rate x3": 3.0}
WEIGHTED = AT_CPU
WEIGHTS = {" nu 1": {"covariance": 1.0}, " nu 16": {"covariance": 16.0}, " mu 75": {"variance": 75.0}}
WEIGHED_SIZES = (16, 256)
VALIDATION = 2500
# seeds say how far apart the ends are at one rate; the sizes between and the other rates are there for the shape
most_seeds = {
    f"{method} {size}{suffix}": 1
    for method in METHODS
    for size in SIZES["tiny"]
    for suffix in FACTORS
    if suffix or size not in (SIZES["tiny"][0], SIZES["tiny"][-1])
} | {f"{method} {size}{suffix}": 1 for method in WEIGHTED for size in WEIGHED_SIZES for suffix in WEIGHTS}
COLUMN = "ImageNet at 16 times the batch"
# the published batches 256 to 4096 stand beside ours of 16 to 256: ratios, not sizes, can be compared
published: dict[str, dict[str, float]] = {
    "SimCLR 16": {COLUMN: 57.5},
    "SimCLR 64": {COLUMN: 62.8},
    "SimCLR 256": {COLUMN: 64.6},
    "VICReg 16": {COLUMN: 67.9},
    "VICReg 64": {COLUMN: 68.3},
    "VICReg 256": {COLUMN: 67.8},
}


def cells(scale: str, data: str) -> dict[str, RunConfig[Any]]:
    """All at each size, some with three rates at the ends; at cpu VICReg's two forms without batch norm."""
    grid: dict[str, RunConfig[Any]] = {}
    sizes = SIZES[scale]
    for suffix, factor in FACTORS.items():
        for method, (recipe, changed) in METHODS.items():
            if (scale == "cpu" and (suffix or method not in AT_CPU)) or (suffix and method not in TUNED):
                continue
            for size in (sizes[0], sizes[-1]) if suffix else sizes:
                base = cell(recipe, scale, data)
                fields = {**changed, "batch_size": size, "optim": {"lr_per_256": base.optim.lr_per_256 * factor}}
                grid[f"{method} {size}{suffix}"] = cell(recipe, scale, data, fields)
    for method in WEIGHTED if scale == "tiny" else ():
        recipe, changed = METHODS[method]
        for size in WEIGHED_SIZES:
            for suffix, weights in WEIGHTS.items():
                fields = {**changed, "batch_size": size, "method": {**changed["method"], **weights}}
                grid[f"{method} {size}{suffix}"] = cell(recipe, scale, data, fields)
    return grid


def measure(run: Run) -> dict[str, Any]:
    """k-NN accuracy on labelled training images that neither the bank nor the test set holds: for choosing a rate."""
    import numpy as np
    import torch

    from eigenview.engine.plan import make_plan
    from eigenview.probes.knn import knn_accuracy

    probes = make_plan(run.config).probes
    assert probes is not None
    train, probe = probes[0], run.config.probe
    assert train.labels is not None
    order = np.random.default_rng(0).permutation(len(train))
    h = run.encoder.embed(torch.from_numpy(train.read(order))).numpy()
    labels = train.labels[order]
    accuracy = knn_accuracy(
        h[VALIDATION:],
        labels[VALIDATION:],
        h[:VALIDATION],
        labels[:VALIDATION],
        k=probe.knn_k,
        temperature=probe.knn_temperature,
        num_classes=len(train.class_names),
    )
    return {"validation_knn": accuracy}


def validation(runs: list[dict[str, Any]]) -> float:
    """Mean accuracy on the validation images."""
    return mean(r["measured"]["validation_knn"] for r in runs)


def candidates(results: Results, method: str, size: str | int, suffixes: Iterable[str]) -> Results:
    """Suffix -> runs that have finished and are measured."""
    found = {suffix: results.get(f"{method} {size}{suffix}", []) for suffix in suffixes}
    return {s: runs for s, runs in found.items() if runs and all("measured" in r for r in runs) and numbers(runs)}


def tuned(results: Results, method: str, size: str) -> list[dict[str, Any]]:
    """The runs at the rate with the best validation accuracy."""
    return max(candidates(results, method, size, FACTORS).values(), key=validation, default=[])


def one_setting(results: Results) -> str:
    """Which weights each form wants at both sizes, and what the best single setting loses."""
    sentences: list[str] = []
    for method in WEIGHTED:
        found = [candidates(results, method, size, ("", *WEIGHTS)) for size in WEIGHED_SIZES]
        if any(len(each) <= len(WEIGHTS) for each in found):
            continue
        best = [max(each, key=lambda suffix: validation(each[suffix])) for each in found]
        shared = max(found[0], key=lambda suffix: sum(validation(each[suffix]) for each in found))
        own, common = (
            " ".join(
                f"{size}: {mean(numbers(each[s], 'knn')):.1f}{f' ({name(s)})' if say else ''}"
                for size, each, s in zip(WEIGHED_SIZES, found, chosen, strict=True)
            )
            for chosen, say in ((best, True), ([shared] * len(found), False))
        )
        sentences.append(f"{method} tuned at each size {own}, with one setting ({name(shared)}) {common}")
    return f" Variance and covariance weights chosen on validation images: {'; '.join(sentences)}." if sentences else ""


def name(suffix: str) -> str:
    """What a suffix of a cell's name says of the weights."""
    return suffix.strip() or "mu 25 nu 4"


def scaled(results: Results, method: str) -> Results:
    """A method's runs by size, at the scaled rate."""
    return {
        size: runs for name, runs in results.items() if name.rsplit(" ", 1)[0] == method and (size := name.split()[-1])
    }


def conclude(results: Results) -> str:
    """The range over batch sizes of each method's k-NN, at the scaled rate and with the rate tuned at the ends."""
    sentences: list[str] = []
    for method in METHODS:
        means = {size: mean(numbers(runs, "knn")) for size, runs in scaled(results, method).items() if numbers(runs)}
        if len(means) < 2:
            continue
        values = " ".join(f"{size}: {value:.1f}" for size, value in means.items())
        has_rates = any(name.startswith(tuple(f"{method} {size} rate" for size in means)) for name in results)
        ends = {size: tuned(results, method, size) for size in (min(means, key=int), max(means, key=int)) if has_rates}
        best = " ".join(f"{size}: {mean(numbers(runs, 'knn')):.1f}" for size, runs in ends.items() if runs)
        gaps = [max(some) - min(some) for some in (list(means.values()), list(means.values())[:-1])]
        but_last = f", {gaps[1]:.1f} without the largest size" if len(means) > 2 else ""
        at_ends = f"; tuned at the ends {best}" if best else ""
        sentences.append(f"{method} {values} (range {gaps[0]:.1f}{but_last}{at_ends})")
    return f"k-NN by batch size. {'; '.join(sentences)}.{one_setting(results)} {failures(results)}"


def figure(results: Results) -> Any:
    """k-NN over the batch size, a line a method; hollow squares where the rate was chosen."""
    series = {method: scaled(results, method) for method in METHODS}
    picture = lines(series, "Batch size at equal samples seen, rate by its square root", "batch size", "knn")
    axis = picture.axes[0]
    for method, colour in zip(METHODS, COLOURS, strict=True):
        ends = {size: tuned(results, method, size) for size in series[method] if method in TUNED}
        known = {size: mean(numbers(runs, "knn")) for size, runs in ends.items() if runs and size in END_SIZES}
        label = "rate chosen at the ends" if known and method == TUNED[-1] else None
        axis.plot(list(known), list(known.values()), "s", mfc="none", color=colour, ms=7, label=label)
    axis.legend(fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
    return picture
