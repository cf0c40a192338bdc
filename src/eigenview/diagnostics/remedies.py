"""What to try when a run collapsed or diverged. Remedies after a collapse are on each method's card; free of torch."""

from __future__ import annotations

from eigenview.records import Card

SMALLER_RATE = "a smaller --optim.lr-per-256 (the default is 0.002 with adamw)"
MORE_NEGATIVES = "a larger --batch-size: more images to tell apart"
SLOWER_TARGET = "--network.target-momentum 0.99: a target that moves too fast does not keep embeddings apart"
# a mode dies if its eigenvalue of W_p is below a threshold that grows with the weight decay (Tian et al. 2021)
CLOSED_FORM: dict[str, tuple[str, ...]] = {
    "complete collapse": (
        "a larger --method.eps: every direction keeps that much of the predictor",
        "a smaller --optim.weight-decay",
        SLOWER_TARGET,
        SMALLER_RATE,
    ),
    "dimensional collapse": ("a larger --method.eps", "a smaller --method.alpha", "a smaller --optim.weight-decay"),
}
DIVERGED = (SMALLER_RATE, "--optim.warmup-epochs 5", "--precision fp32, if it ran in bf16")
OTHERWISE = {"complete collapse": (SMALLER_RATE,), "dimensional collapse": ("--method vicreg",)}


def remedies(label: str, card: Card | None) -> tuple[str, ...]:
    """The remedies for a verdict; none for a healthy or an early run, or for features of unknown origin."""
    if label in ("healthy", "too early to judge") or card is None:
        return ()
    return DIVERGED if label == "diverged" else card.remedies.get(label, OTHERWISE[label])
