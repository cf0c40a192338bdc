"""Weight decay of DirectCopy: too little keeps the nuisance, too much loses everything

Question: is accuracy over the weight decay eta a hump, as linear theory has it?
Source: Wang, Chen, Du, Tian 2021 (arXiv 2110.04947), DirectCopy, ResNet-18, 100 and 300 epochs of SGD.
Theory: in a linear network directions that the augmentation varies by sigma^2 die iff eta > 1 / (4 (1 + sigma^2)), and
directions that it leaves alone live iff eta < 1 / 4; between the two lies the good range.
Prediction, written before any run: 4e-4 and 1e-3 are no different, both beat 0 and both beat 1e-2.
Settings: SGD at all scales, because AdamW's decay is decoupled from the gradient and does not act as the theory's eta;
learning rate 0.03 per batch of 128, constant, momentum 0.9, as published. A decay of eta shrinks weights by
exp(-0.3 eta) a step, and a tiny run has 80 times fewer steps than the published one (480 for 39,000): tiny and cpu
therefore end with a decay of 1e-1, of which nothing is published. Biases and norms are not decayed. The row of 1e-3 was
added at cpu after its other three, where 1e-2 lost what the published 1e-2 loses, though in 20 times fewer steps.
"""

from __future__ import annotations

from dataclasses import replace
from statistics import mean
from typing import Any

from eigenview.config import RunConfig
from experiments._grids import TIAN, TIAN_SGD, Claim, Results, cell, check_claim, check_claims, failures, lines, numbers

DECAYS = ("0", "4e-4", "1e-3", "1e-2", "1e-1")
AT: dict[str, tuple[str, ...]] = {"tiny": DECAYS, "cpu": ("0", "1e-3", "1e-2", "1e-1"), "gpu": DECAYS[:-1]}
CIFAR, LONG, STL = "CIFAR-10, 100 epochs", "CIFAR-10, 300 epochs", "STL-10, 100 epochs"
published = {
    "decay 0": {CIFAR: 79.15, LONG: 85.35, STL: 71.94},
    "decay 4e-4": {CIFAR: 84.02, LONG: 89.17, STL: 77.83},
    "decay 1e-3": {CIFAR: 83.91, LONG: 87.75, STL: 77.65},
    "decay 1e-2": {CIFAR: 65.31, LONG: 65.63, STL: 58.12},
}
CLAIMS: tuple[Claim, ...] = (
    ("decay 4e-4", ">", "decay 0"),
    ("decay 1e-3", ">", "decay 0"),
    ("decay 4e-4", "~", "decay 1e-3"),
    ("decay 4e-4", ">", "decay 1e-2"),
    ("decay 1e-3", ">", "decay 1e-2"),
)


def cells(scale: str, data: str) -> dict[str, RunConfig[Any]]:
    """One run a decay."""
    return {
        f"decay {eta}": cell("directcopy", scale, data, {"optim": replace(TIAN_SGD, weight_decay=float(eta))}, gpu=TIAN)
        for eta in AT[scale]
    }


def hump(results: Results) -> str:
    """Whether the best decay between the ends beats both ends."""
    present = [name for name in results if numbers(results[name])]
    if len(present) < 3:
        return "Hump: too few runs finished to say."
    best = max(present[1:-1], key=lambda name: mean(numbers(results[name])))
    sides = [check_claim(results, (best, ">", end)) for end in (present[0], present[-1])]
    seen = "yes" if all(seen for seen, _ in sides) else "NO"
    return f"Hump with its top at {best}: {seen} ({sides[0][1]}; {sides[1][1]})."


def conclude(results: Results) -> str:
    """Whether there is a hump, where, and which published comparisons were seen."""
    return " ".join((hump(results), check_claims(results, CLAIMS), failures(results)))


def figure(results: Results) -> Any:
    """Accuracy over the decay."""
    series = {"DirectCopy": {name.removeprefix("decay "): runs for name, runs in results.items()}}
    return lines(series, "DirectCopy, SGD at a constant rate: weight decay", "weight decay")
