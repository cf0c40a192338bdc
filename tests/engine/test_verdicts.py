"""Deliberately broken runs get the right verdict, and a healthy one stays healthy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import eigenview as ev
from eigenview.methods import config_class
from eigenview.terminal import Console

# Each row breaks one thing of the default recipe on the built-in digits: method, fields, epochs, verdict.
RUNS: dict[str, tuple[str, dict[str, Any], int, str]] = {
    "healthy": ("vicreg", {}, 8, "healthy"),
    "invariance only": ("vicreg", {"method": {"variance": 0.0, "covariance": 0.0}}, 15, "complete collapse"),
    "no covariance": ("vicreg", {"method": {"covariance": 0.0}}, 8, "dimensional collapse"),
    # the batch norm at the projector's end forbids a constant embedding: the images fall onto few directions
    "no stop-gradient": ("simsiam", {"method": {"stop_gradient": False}}, 15, "dimensional collapse"),
    # nothing but the target differs between the two sides of the loss
    "no predictor": ("simsiam", {"network": {"predictor_layers": 0}}, 15, "dimensional collapse"),
    # without that norm they fall onto one point; the recipe's low rate takes its time
    "no stop-gradient, no norm": (
        "simsiam",
        {"method": {"stop_gradient": False}, "network": {"projector_last_norm": False}},
        60,
        "complete collapse",
    ),
    "learning rate 1e4": ("vicreg", {"optim": {"lr_per_256": 1e4}}, 5, "diverged"),
}
FAST = ("healthy", "learning rate 1e4")
"""One run for each verdict in the fast tests; complete collapse is in test_train.py, where it also ends the run."""


def cases() -> list[Any]:
    """One seed of each run in FAST; three of every run, and the other runs, are slow tests."""
    slow = pytest.mark.slow
    return [
        pytest.param(name, seed, marks=() if seed == 0 and name in FAST else slow) for name in RUNS for seed in range(3)
    ]


@pytest.mark.parametrize(("name", "seed"), cases())
def test_verdict_of_a_run_broken_on_purpose(name: str, seed: int, tmp_path: Path) -> None:
    method, fields, epochs, expected = RUNS[name]
    probe = {"few_label_draws": 1}
    console = Console(quiet=True)
    config = config_class(method)(**fields.get("method", {}))
    others = {name: value for name, value in fields.items() if name != "method"}
    run = ev.pretrain(
        method=config, out=tmp_path / "run", epochs=epochs, seed=seed, probe=probe, console=console, **others
    )
    assert run.verdict == expected, run.summary["reason"]
    assert run.summary["reason"]
    assert (expected == "healthy") == (not run.summary["remedies"])
