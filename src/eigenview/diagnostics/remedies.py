"""What to try when a run collapsed or diverged, by verdict and method."""

from __future__ import annotations

SMALLER_RATE = "a smaller --optim.lr-per-256 (the default is 0.002 with adamw)"
# a mode dies where its eigenvalue of W_p is below a threshold that grows with the weight decay (Tian et al. 2021)
CLOSED_FORM = (
    "a larger --objective.eps: every direction keeps that much of the predictor",
    "a smaller --optim.weight-decay",
    "--network.target-momentum 0.99: a target that moves too fast does not hold embeddings apart",
    SMALLER_RATE,
)
LOW_MODES = ("a larger --objective.eps", "a smaller --objective.alpha", "a smaller --optim.weight-decay")

COMPLETE = {
    "simclr": ("--objective.temperature 0.2 to 0.5", "a larger --batch-size: more images to tell apart", SMALLER_RATE),
    "vicreg": ("--objective.variance 25, which asks every dimension to vary", SMALLER_RATE),
    "unbiased-vicreg": ("--objective.variance 25, which asks every dimension to vary", SMALLER_RATE),
    "barlow-twins": (SMALLER_RATE, "--optim.warmup-epochs 5"),
    "byol": (
        "--network.target-momentum 0.99: a target that moves too fast does not hold embeddings apart",
        SMALLER_RATE,
        "--method vicreg",
    ),
    "simsiam": ("keep the stop-gradient (no --objective.no-stop-gradient)", SMALLER_RATE, "--method vicreg"),
    "directclr": ("--objective.temperature 0.2", "a larger --batch-size: more images to tell apart", SMALLER_RATE),
    "infonce": ("--objective.eps 1", "a larger --batch-size: more images to tell apart", SMALLER_RATE),
    **dict.fromkeys(("directcopy", "directpred", "directset", "isoloss"), CLOSED_FORM),
}
DIMENSIONAL = {
    "simclr": ("--objective.temperature 0.1 to 0.2: nearer neighbours are pushed apart", "a larger --batch-size"),
    "vicreg": ("--objective.covariance 1, which decorrelates the dimensions", "a larger --batch-size"),
    "unbiased-vicreg": (
        "--network.encoder-norm group --network.head-norm layer, if it ran with batch norm in small batches",
        "--objective.covariance 4, which decorrelates the dimensions",
    ),
    "barlow-twins": ("--objective.off-diagonal 0.0051 or more", "a larger --batch-size"),
    "byol": ("--network.projector-last-norm", "more --epochs", "--method vicreg or --method barlow-twins"),
    "simsiam": ("keep the stop-gradient (no --objective.no-stop-gradient)", "--method vicreg or --method barlow-twins"),
    "directclr": ("a smaller --objective.d0", "a larger --batch-size"),
    "infonce": ("a larger --batch-size", "--method simclr, which does not reward large embeddings"),
    **dict.fromkeys(("directcopy", "directpred", "directset", "isoloss"), LOW_MODES),
}
DIVERGED = (SMALLER_RATE, "--optim.warmup-epochs 5", "--precision fp32, if it ran in bf16")


def remedies(label: str, method: str | None) -> tuple[str, ...]:
    """The remedies for a verdict; none for a healthy or an early run or for features of unknown origin."""
    if label in ("healthy", "too early to judge") or method is None:
        return ()
    if label == "diverged":
        return DIVERGED
    table, otherwise = (
        (COMPLETE, (SMALLER_RATE,)) if label == "complete collapse" else (DIMENSIONAL, ("--method vicreg",))
    )
    return table.get(method, otherwise)
