"""Is adapting a published backbone worth it? Three sets of images, frozen against adapted

Question: after how many epochs, and with how much of the encoder trained, are features of an EfficientNet-Lite0
of ImageNet better than those of the same network frozen; and is a training from scratch in the same minutes?
Source: none; nobody publishes it. The rows "backbone you started from" and "with batch-norm statistics of these images"
are frozen. The encoder's rate is a tenth of the heads' and batch norm keeps its averages, which is what --weights does,
but for two rows: "follow" (--batch-norm follow) and "rate 1".
First prediction, for rate 1 and averages that follow: emoji gain 1 to 3 points of linear accuracy with all of the
encoder trained for 5 to 20 epochs; CIFAR-10 gains less than 2, because ImageNet's labels know its classes; 237
photographs of stamps show no difference beyond the interval. Norms alone give half of the gain. Two epochs are no
different from frozen with statistics of these images. From scratch loses everywhere, by 10 points or more. With 10
labels per class the gains are larger than with all.
A pilot (one seed, emoji, 2 to 5 epochs; docs/log.md) refuted it: every such row lost 4 to 6 points. Second prediction,
for today's defaults: emoji gain 1 to 3 points of linear accuracy and 3 to 5 with 10 labels per class after 2 epochs,
little more after 20; CIFAR-10 1 to 3; stamps no difference beyond the interval; "follow" and "rate 1" lose everywhere.
Data: CIFAR-10 (JPEG), 500 training images a class; emoji by group, split by concept; photographs among the stamps.
"""

from __future__ import annotations

import os
import statistics
from pathlib import Path
from typing import Any

from eigenview.config import MonitorConfig, RunConfig, with_fields
from eigenview.diagnostics.baselines import RAW_PIXELS, RECALIBRATED, STARTED_FROM
from eigenview.errors import UserError
from eigenview.recipes import default, load_recipe
from experiments._adapt_data import make
from experiments._grids import failures

SETS = {"cifar10": "CIFAR-10", "emoji": "emoji", "stamps": "stamps"}
WEIGHTS = "tf_efficientnet_lite0.safetensors"
PLACE = Path("runs/experiments/adapt/data")
"""Where the folders of images are made."""
LINES = {RAW_PIXELS: ":", STARTED_FROM: "--", RECALIBRATED: "-."}
"""Baselines in the figure."""
MARKERS = {"vicreg": "o", "simclr": "s"}
COLOURS = {"norms": "#0072B2", "all": "#D55E00"}
published: dict[str, dict[str, float]] = {}
ROWS: tuple[tuple[str, str, int, dict[str, Any]], ...] = (
    *(("vicreg", train, epochs, {}) for epochs in (2, 5, 20) for train in ("norms", "all")),
    *(("simclr", train, epochs, {}) for epochs in (2, 5) for train in ("norms", "all")),
    ("vicreg", "all", 2, {"batch_norm": "follow"}),
    ("vicreg", "all", 2, {"optim": {"encoder_lr_factor": 1.0}}),
)
"""Method, what of the encoder is trained, epochs, and what differs from the defaults of --weights."""
NAMES = {"batch_norm": " follow", "optim": " rate 1"}
SCRATCH_EPOCHS = 10
"""Of conv-small from random weights: the minutes of 20 epochs of the backbone in float32; both are in the table."""
SCALES: dict[str, dict[str, Any]] = {
    "tiny": {"image_size": 32, "data_fraction": 0.25, "batch_size": 32},
    "cpu": {"image_size": 64},
    "gpu": {"image_size": 128},
}


def prepare(data: str) -> None:
    """Make the folders of images; raises UserError where the sets or the weights are not in `data`."""
    weights = weights_in(data)
    if not weights.exists():
        raise UserError(f"{weights} does not exist; put {WEIGHTS} into --data, or name it: EFFICIENTNET_LITE0=FILE.")
    for name in SETS:
        make(name, Path(data) / name, PLACE.absolute() / name)


def weights_in(data: str) -> Path:
    """The file of weights."""
    return Path(os.environ.get("EFFICIENTNET_LITE0", Path(data) / WEIGHTS))


def cells(scale: str, data: str) -> dict[str, RunConfig[Any]]:
    """One run for each set and row. `data` holds cifar10, emoji, stamps and the weights."""
    weights, found = weights_in(data), dict[str, RunConfig[Any]]()
    for name in SETS:
        place = PLACE.absolute() / name
        fields: dict[str, Any] = {"data": f"{place}/train", "probe_data": str(place)}
        fields |= {"monitor": MonitorConfig(images=512), "batch_size": 32 if name == "stamps" else 64} | SCALES[scale]
        for method, train, epochs, other in ROWS:
            start: dict[str, Any] = {"weights": str(weights), "encoder": f"timm:{weights.stem}", "train": train}
            cell = f"{name} {method} {train} {epochs} epochs{''.join(NAMES[key] for key in other)}"
            base = default(method, fields["data"])
            found[cell] = with_fields(with_fields(base, fields | start | {"epochs": epochs}), other)
        scratch = fields | {"epochs": SCRATCH_EPOCHS}
        found[f"{name} from scratch"] = with_fields(load_recipe("small-vicreg"), scratch)
    return found


def _linear(runs: list[dict[str, Any]]) -> list[float]:
    """Linear accuracy of the runs that have one: a run that diverged has none."""
    return [run["linear"] for run in runs if run["linear"] is not None]


def conclude(results: dict[str, list[dict[str, Any]]]) -> str:
    """For each set: the best adapted row against the frozen backbone and against training from scratch."""
    sentences: list[str] = []
    for name, title in SETS.items():
        of_set = {cell: runs for cell, runs in results.items() if cell.startswith(f"{name} ") and _linear(runs)}
        adapted = {cell: runs for cell, runs in of_set.items() if not cell.endswith("scratch")}
        if not adapted:
            continue
        best = max(adapted, key=lambda cell: statistics.mean(_linear(adapted[cell])))
        values = _linear(adapted[best])
        rows = [run["baselines"] for run in adapted[best] if run["baselines"]]
        frozen = max((numbers["linear"] for row, numbers in rows[0].items() if row != "raw pixels"), default=None)
        text = f"{title}: {best.removeprefix(f'{name} ')} has {statistics.mean(values):.1f} %"
        text += f" (seeds {min(values):.1f} to {max(values):.1f})" if len(values) > 1 else ""
        if frozen is not None:
            text += f", the better frozen row {frozen:.1f} ({statistics.mean(values) - frozen:+.1f})"
        scratch = of_set.get(f"{name} from scratch")
        text += f", from scratch {statistics.mean(_linear(scratch)):.1f}" if scratch else ""
        sentences.append(f"{text}. ")
    return f"Linear accuracy. {''.join(sentences)}{failures(results)}"


def figure(results: dict[str, list[dict[str, Any]]]) -> Any:
    """Linear accuracy by epochs for each set, with the frozen backbone as a line."""
    from matplotlib.figure import Figure

    names = [name for name in SETS if any(cell.startswith(f"{name} ") for cell in results)]
    figure = Figure(figsize=(3.6 * len(names), 3.4))
    axes = figure.subplots(1, len(names), squeeze=False)[0]
    for axis, name in zip(axes, names, strict=True):
        for cell, runs in results.items():
            parts = cell.split()
            if parts[0] != name or len(parts) != 5:
                continue
            marker, colour = MARKERS[parts[1]], COLOURS[parts[2]]
            for value in _linear(runs):
                axis.plot(float(parts[3]), value, marker, color=colour, ms=5, mfc="none")
        tables = [r["baselines"] for cell, runs in results.items() if cell.startswith(f"{name} vicreg") for r in runs]
        rows = next(filter(None, tables), {})
        for row, style in LINES.items():
            if row in rows:
                axis.axhline(rows[row]["linear"], color="0.4", ls=style, lw=1, label=row)
        axis.set_xscale("log")
        axis.minorticks_off()
        axis.set_xlim(1.7, 24)
        axis.set_xticks([2, 5, 20], ["2", "5", "20"])
        axis.set_title(SETS[name], fontsize=10)
        axis.set_xlabel("epochs")
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel("linear accuracy, %")
    shown = [cell.split() for cell, runs in results.items() if len(cell.split()) == 5 and _linear(runs)]
    for method in dict.fromkeys(parts[1] for parts in shown):
        axes[-1].plot([], [], MARKERS[method], color="0.2", mfc="none", label=method)
    for train in dict.fromkeys(parts[2] for parts in shown):
        axes[-1].plot([], [], "-", color=COLOURS[train], label=f"--train {train}")
    axes[-1].legend(fontsize=7, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure
