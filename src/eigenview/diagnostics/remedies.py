"""What to try when a run collapsed or diverged. Remedies after a collapse are on each method's card; free of torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from eigenview.config import RunConfig, method_name
from eigenview.records import Card, Remedy

SMALLER_RATE = "a smaller --optim.lr-per-256 (the default is 0.002 with adamw)"
MORE_NEGATIVES = "a larger --batch-size: more images to tell apart"
WARM_UP = Remedy("--optim.warmup-epochs 5", unless=lambda run: run.optim.warmup_epochs >= 5)
SLOWER_TARGET = Remedy(
    "--network.target-momentum 0.99: a target that moves too fast does not keep embeddings apart",
    unless=lambda run: run.network.target_momentum >= 0.99,
)
LESS_DECAY = Remedy("a smaller --optim.weight-decay", unless=lambda run: run.optim.weight_decay == 0)
VICREG = Remedy("--method vicreg", unless=lambda run: method_name(run.method) == "vicreg")
STOP_GRADIENT = Remedy(
    "keep the stop-gradient (no --method.no-stop-gradient)", unless=lambda run: run.method.stop_gradient
)


def has_norms_of_one_image(run: RunConfig[Any]) -> bool:
    """Whether no layer's norm depends on the rest of the batch."""
    return (run.network.encoder_norm != "batch" or run.keeps_statistics) and run.network.head_norm != "batch"


def norms_of_one_image(text: str) -> tuple[Remedy, Remedy]:
    """`text` with the options for {}: of encoder and heads, or of the heads alone, where the encoder's batch norms keep
    the averages of weights and do not depend on the batch."""
    both, heads = "--network.encoder-norm group --network.head-norm layer", "--network.head-norm layer"
    return (
        Remedy(text.format(both), unless=lambda run: has_norms_of_one_image(run) or run.keeps_statistics),
        Remedy(text.format(heads), unless=lambda run: has_norms_of_one_image(run) or not run.keeps_statistics),
    )


# a mode dies if its eigenvalue of W_p is below a threshold that grows with the weight decay (Tian et al. 2021)
CLOSED_FORM: dict[str, tuple[Remedy | str, ...]] = {
    "complete collapse": (
        "a larger --method.eps: every direction keeps that much of the predictor",
        LESS_DECAY,
        SLOWER_TARGET,
        SMALLER_RATE,
    ),
    "dimensional collapse": (
        "a larger --method.eps",
        Remedy("a smaller --method.alpha", unless=lambda run: run.method.alpha == 0),
        LESS_DECAY,
    ),
}
DIVERGED = (
    SMALLER_RATE,
    WARM_UP,
    Remedy("--precision fp32, if it ran in bf16", unless=lambda run: run.precision == "fp32"),
)
OTHERWISE = {"complete collapse": (SMALLER_RATE,), "dimensional collapse": (VICREG, SMALLER_RATE)}
"""For a card without remedies, or when the run has all that it lists."""


def remedies(label: str, card: Card | None, config: RunConfig[Any] | None = None) -> tuple[str, ...]:
    """The remedies for a verdict that `config` does not have yet; all of them without one.

    None for a healthy or an early run, or for features of unknown origin.
    """
    if label in ("healthy", "too early to judge") or card is None:
        return ()
    if label == "diverged":
        return applicable(DIVERGED, config)
    return applicable(card.remedies.get(label, ()), config) or applicable(OTHERWISE[label], config)


def applicable(listed: Sequence[Remedy | str], config: RunConfig[Any] | None) -> tuple[str, ...]:
    """The texts of those that the run does not have already."""
    kept = [r for r in listed if isinstance(r, str) or config is None or not r.unless(config)]
    return tuple(r if isinstance(r, str) else r.text for r in kept)
