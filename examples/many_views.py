"""Many views and a small projector: 2, 4 and 8 views of each image for the same number of passes through the encoder.

    uv run python examples/many_views.py

Takes about 25 seconds on one thread. A view costs one pass of an image through the encoder, so 8 views for 2 epochs
cost what 2 views for 8 epochs do. The projector has width 64, and VICReg's covariance weight follows the rule fitted
to the sweep of Ghosh et al. 2023 (arXiv 2312.10725), `covariance="auto"`: a narrow projector needs a larger weight.
It prints a row for each number of views: epochs, passes, seconds, verdict, accuracies. One seed on digits is an
example, not a result; docs/views.md has CIFAR-10.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import eigenview as ev

WIDTH = 64
PASSES = 16
"""Passes of each image through the encoder: views times epochs."""


def main() -> dict[int, ev.Run]:
    """The runs by their number of views."""
    folder = Path(tempfile.mkdtemp(prefix="many-views-"))
    runs = {}
    for views in (2, 4, 8):
        runs[views] = ev.pretrain(
            "digits",
            method=ev.VICRegConfig(covariance="auto"),
            views=views,
            epochs=PASSES // views,
            batch_size=64,
            network={"projector_width": WIDTH},
            probe={"images": 500},  # fewer labels than there are, so that the accuracies take little time
            out=folder / f"views-{views}",
        )

    print(f"\ndigits, VICReg, projector of width {WIDTH}, covariance auto, {PASSES} passes of each image")
    print("views   epochs   seconds   verdict                  k-NN   linear")
    for views, run in runs.items():
        s = run.summary
        row = f"{views:5}   {PASSES // views:6}   {s['seconds']:7.1f}   {run.verdict:20}"
        print(f"{row} {s['knn']:8.1f} {s['linear']:8.1f}")
    for name, accuracy in runs[2].summary["baselines"].items():
        print(f"{name:48} {accuracy['knn']:5.1f} {accuracy['linear']:8.1f}")
    print(f"runs and reports are in {folder}; compare them: eigenview report {folder}/views-*")
    return runs


if __name__ == "__main__":
    main()
