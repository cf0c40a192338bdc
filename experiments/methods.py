"""Five methods on CIFAR-10 (JPEG): accuracy, speed and verdict of the default recipes

Question: do all five beat raw pixels and the untrained encoder, at equal encoder, epochs and images?
Source: solo-learn (ResNet-18, 1000 epochs, CIFAR-10, online linear); its numbers stand beside ours for the ordering
only: ours are a 0.5 M parameter net after a few epochs.
"""

from __future__ import annotations

from typing import Any

from eigenview.config import MonitorConfig, RunConfig, with_fields
from eigenview.recipes import load_recipe
from experiments._grids import failures

METHODS = ("simclr", "vicreg", "barlow-twins", "byol", "simsiam")
published = {
    "simclr": {"solo-learn linear": 90.74},
    "vicreg": {"solo-learn linear": 92.07},
    "barlow-twins": {"solo-learn linear": 92.10},
    "byol": {"solo-learn linear": 92.58},
    "simsiam": {"solo-learn linear": 90.51},
}


def cells(scale: str, data: str) -> dict[str, RunConfig[Any]]:
    """One run a method."""
    fields: dict[str, Any] = {"data": f"{data}/train", "probe_data": data, "monitor": MonitorConfig(images=512)}
    fields |= {
        "tiny": {"epochs": 5, "image_size": 24},
        "cpu": {"epochs": 10, "image_size": 24},  # 32 px: 15 minutes a run here, by step time; a cpu run has ten
        "gpu": {"epochs": 100, "image_size": 32, "encoder": "torchvision:resnet18"},
    }[scale]
    return {method: with_fields(load_recipe(f"small-{method}"), fields) for method in METHODS}


def conclude(results: dict[str, list[dict[str, Any]]]) -> str:
    """Whether every run beats both baselines, by how much at least, and the order by linear accuracy."""
    runs = [r for cell in results.values() for r in cell if r["linear"] is not None]
    count = "All five" if len(results) == 5 else f"{len(results)} of five"
    lost = [name for name, cell in results.items() if any(r["linear"] is None for r in cell)]
    if lost:
        return f"{count} beat raw pixels and the untrained encoder: NO, {', '.join(lost)} diverged. {failures(results)}"
    margins = {
        column: min(r[column] - max(b[column] for b in r["baselines"].values()) for r in runs)
        for column in ("knn", "linear")
    }
    means = {cell: sum(r["linear"] for r in rs) / len(rs) for cell, rs in results.items()}
    order = " > ".join(sorted(means, key=lambda cell: -means[cell]))
    beaten = all(margin > 0 for margin in margins.values())
    return (
        f"{count} beat raw pixels and the untrained encoder: {'yes' if beaten else 'NO'} (smallest margin over the "
        f"better baseline: k-NN {margins['knn']:+.1f}, linear {margins['linear']:+.1f} points). "
        f"Linear order here: {order}; published, after 1000 epochs: byol > barlow-twins > vicreg > simclr > simsiam."
    )


def figure(results: dict[str, list[dict[str, Any]]]) -> Any:
    """Linear and k-NN accuracy per method, with the baselines as lines."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.5, 3.6))
    axis = figure.subplots()
    for shift, column, colour, label in ((-0.18, "knn", "#0072B2", "k-NN"), (0.18, "linear", "#E69F00", "linear")):
        for k, runs in enumerate(results.values()):
            values = [r[column] for r in runs if r[column] is not None]
            if not values:
                continue
            axis.bar(k + shift, sum(values) / len(values), 0.34, color=colour, label=label if k == 0 else None)
            axis.plot([k + shift] * len(values), values, "k.", ms=4)
        for name, style in (("raw pixels", ":"), ("untrained encoder", "--")):
            level = next(
                (r["baselines"][name][column] for cell in results.values() for r in cell if r["baselines"]), None
            )
            if level is None:
                continue
            axis.axhline(level, color=colour, ls=style, lw=1, label=f"{name}, {label}")
    axis.set_xticks(range(len(results)), list(results))
    axis.set_ylabel("accuracy, %")
    axis.set_title("CIFAR-10 (JPEG), default recipes", fontsize=10)
    axis.legend(fontsize=8, ncol=1, loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
    axis.spines[["top", "right"]].set_visible(False)
    return figure
