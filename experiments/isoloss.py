"""IsoLoss: the same closed-form predictor with its matrix left out of the gradient, with and without EMA

Question: does leaving W_p out of the gradient speed up early learning, and make the EMA unnecessary?
Source: Halvagal, Laborieux, Zenke 2023 (arXiv 2212.04858), solo-learn's ResNet-18, 1000 epochs. We do not have its
accuracies: nothing is published here, the claims are its theory's.
Theory: where W_p follows F at once, an eigenvalue lambda grows by lambda^2 (1 - lambda) under BYOL's Euclidean loss
and by lambda (1 - lambda) under IsoLoss: from 0.1 to 0.9 in 13.3 units of time and in 4.4. Cosine: the same factor.
Prediction, written before any run: IsoLoss is ahead of BYOL's loss after the early epochs, less so at the end, and
loses less where the target is the network itself.
Settings: recipe small-isoloss with rho 0.5 (that of its authors' runs without EMA: 0.998 remembers longer than a short
run lasts); W_p (alpha 1/2, smallest eigenvalue 0) and everything else are the same for both losses, which compare
directions. Accuracy is k-NN, which fits nothing to the features. early: a separate run, 2 epochs beside 5 at tiny, 20
beside 100 at gpu. gpu is as published (LARS and rho 0.998; SGD and rho 0.5 without EMA), at a tenth of the epochs.
"""

from __future__ import annotations

from itertools import product
from typing import Any

from eigenview.config import OptimConfig, RunConfig
from eigenview.methods.directset import DirectSetConfig
from eigenview.methods.isoloss import IsoLossConfig
from experiments._grids import SCALES, Claim, Results, cell, check_claims, difference, failures, lines, numbers, within

EARLY = {"tiny": 2, "gpu": 20}
# fmi-basel/implicit-var-reg, commit 2e8d364
LARS = OptimConfig(
    name="lars-clip", lr_per_256=1.0, trust_coefficient=0.02, weight_decay=1e-4, warmup_epochs=10, final_fraction=0.0
)
SGD = OptimConfig(name="sgd", lr_per_256=0.1, weight_decay=1e-4, warmup_epochs=10, final_fraction=0.0)
HEADS = {"projector_layers": 2, "projector_hidden": 4096, "projector_width": 256}
published: dict[str, dict[str, float]] = {}
CLAIMS: tuple[Claim, ...] = (
    ("IsoLoss EMA early", ">", "BYOL EMA early"),
    ("IsoLoss EMA full", ">", "BYOL EMA full"),
    ("IsoLoss online early", ">", "BYOL online early"),
    ("IsoLoss online full", ">", "BYOL online full"),
)


def cells(scale: str, data: str) -> dict[str, RunConfig[Any]]:
    """Two losses, with EMA or predicting the network itself, early and full; at cpu with EMA and full only."""
    grid: dict[str, RunConfig[Any]] = {}
    for target, length, loss in product(("EMA", "online"), ("early", "full"), ("BYOL", "IsoLoss")):
        if scale not in EARLY and (length == "early" or target == "online"):
            continue
        epochs = EARLY[scale] if length == "early" else SCALES[scale]["epochs"]
        grid[f"{loss} {target} {length}"] = _cell(scale, data, loss, online=target == "online", epochs=epochs)
    return grid


def _cell(scale: str, data: str, loss: str, *, online: bool, epochs: int) -> RunConfig[Any]:
    predictor: dict[str, Any] = {
        "alpha": 0.5,
        "eps": 0.0,
        "floor": 0.0,
        "rho": 0.998 if scale == "gpu" and not online else 0.5,
    }
    own = {
        "method": IsoLossConfig(**predictor) if loss == "IsoLoss" else DirectSetConfig(**predictor),
        "augmentation": "asymmetric-small",
        "epochs": epochs,
        "network": {"target": "online" if online else "ema"},
    }
    gpu = {"batch_size": 256, "optim": SGD if online else LARS, "network": HEADS}
    return cell("isoloss", scale, data, own, gpu=gpu)


def ema_drop(results: Results) -> str:
    """How much k-NN accuracy each loss loses without EMA."""
    sentences: list[str] = []
    for loss in ("BYOL", "IsoLoss"):
        ema, online = (results.get(f"{loss} {target} full", []) for target in ("EMA", "online"))
        if numbers(ema, "knn") and numbers(online, "knn"):
            gap, spread = difference(online, ema, "knn")
            sentences.append(f"{loss} {within(gap, spread)}")
    return f"Points without EMA: {', '.join(sentences)}." if sentences else "Without EMA: no finished run in this grid."


def conclude(results: Results) -> str:
    """Whether IsoLoss was faster, and what each loss makes of a run without EMA."""
    text = check_claims(results, CLAIMS, "knn").replace("Published comparisons", "Comparisons of the theory")
    return f"{text} {ema_drop(results)} {failures(results)}"


def figure(results: Results) -> Any:
    """k-NN accuracy early and at the end, a line a loss and target."""
    series: dict[str, dict[str, Any]] = {}
    for name, runs in results.items():
        line, length = name.rsplit(" ", 1)
        series.setdefault(line, {})[f"{length} ({runs[0]['epochs']} epochs)"] = runs
    return lines(series, "The same closed-form predictor under two losses", "length of the run", "knn")
