"""What a short real run shows of the engine: it stops, repeats with its seed, and trains on two processes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from eigenview import runfiles
from eigenview.cli import run
from eigenview.engine import final_probes, finalize
from eigenview.errors import NonFiniteError
from eigenview.methods.parts.method import Objective
from eigenview.records import Clock
from eigenview.views import Loss, Views
from tests.engine.stepping import Stepper, joint_embedding, module_of

SMALL = ["--monitor.images", "64", "--probe.few-label-draws", "1"]


class BreaksLater(Objective):
    """A finite term, and one that overflows at the third call."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, views: Views, clock: Clock) -> Loss:
        self.calls += 1
        z = views.read("z")
        return Loss({"fine": z.square().mean(), "broken": z.mean() * (float("inf") if self.calls == 3 else 1.0)})


def test_a_non_finite_term_stops_the_run_and_is_named() -> None:
    module = module_of("vicreg")
    method = joint_embedding(module)
    method.objective = BreaksLater()
    stepper = Stepper(module)
    for number in (20, 21):
        stepper.step(number, images=16)
    before = {name: value.clone() for name, value in method.named_parameters()}
    with pytest.raises(NonFiniteError, match=r"\bbroken\b.*\bstep 22\b.*--optim.lr-per-256"):
        stepper.step(22, images=16)
    assert all(torch.equal(p, before[name]) for name, p in method.named_parameters())


def test_a_collapse_ends_the_run_early_where_asked(tmp_path: Path) -> None:
    out = tmp_path / "run"
    args = ["pretrain", "--method.variance", "0", "--method.covariance", "0", "--monitor.stop-on-collapse"]
    assert run([*args, *SMALL, "--epochs", "30", "--out", str(out)]) == 3
    summary = runfiles.read_json(out / runfiles.SUMMARY)
    assert summary["verdict"] == "complete collapse"
    assert summary["finished"] is False
    assert runfiles.read_rows(out / runfiles.METRICS)[-1]["epoch"] < 30
    steps = runfiles.read_rows(out / runfiles.DIAGNOSTICS)[-1]["step"]
    assert summary["images_per_second"] == pytest.approx(steps * 128 / summary["seconds"], rel=0.02)


def test_a_run_whose_features_are_not_finite_has_its_verdict_and_its_report(tmp_path: Path) -> None:
    """One step at a rate that blows the weights up: the loss was finite, the network is not."""
    out = tmp_path / "run"
    args = [
        "pretrain",
        "--epochs",
        "1",
        "--batch-size",
        "1200",
        "--optim.lr-per-256",
        "1e9",
        "--optim.warmup-epochs",
        "0",
    ]
    assert run([*args, *SMALL, "--out", str(out)]) == 1
    summary = runfiles.read_json(out / runfiles.SUMMARY)
    assert summary["verdict"] == "diverged"
    assert summary["finished"] is False
    assert summary["images_per_second"] is None
    assert (out / runfiles.REPORT).exists()
    assert not (out / runfiles.ENCODER).exists()


def test_values_that_the_losses_did_not_show_fail_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A value that no feature of these images depends on: the outermost tap of a kernel that sees padding alone."""

    def main_encoder(method: Any) -> Any:
        encoder = final_probes.main_encoder(method)
        next(encoder.parameters()).data[0, 0, 0, 0] = float("nan")
        return encoder

    monkeypatch.setattr(finalize, "main_encoder", main_encoder)
    out = tmp_path / "run"
    assert run(["pretrain", "--epochs", "1", *SMALL, "--out", str(out)]) == 1
    summary = runfiles.read_json(out / runfiles.SUMMARY)
    assert summary["verdict"] == "diverged"
    assert "values that are not finite, in " in summary["reason"]
    assert not (out / runfiles.ENCODER).exists()


def test_the_same_seed_gives_the_same_run_and_another_does_not(tmp_path: Path) -> None:
    args = ["pretrain", "--epochs", "1", "--method", "simsiam", "--monitor.log-every-steps", "1", *SMALL]
    losses = []
    for name, seed in (("a", "0"), ("b", "0"), ("c", "1")):
        assert run([*args, "--seed", seed, "--out", str(tmp_path / name)]) == 0
        losses.append([row["loss"] for row in runfiles.read_rows(tmp_path / name / runfiles.METRICS)])
    assert losses[0] == losses[1]
    assert losses[0] != losses[2]


@pytest.mark.parametrize("method", ["simclr", pytest.param("barlow-twins", marks=pytest.mark.slow)])
def test_four_views_of_an_image_folder_train(method: str, tmp_path: Path) -> None:
    args = ["pretrain", "--method", method, "--views", "4", "--epochs", "1", *SMALL, "--out", str(tmp_path / "run")]
    assert run(args) == 0
    assert runfiles.read_arrays(tmp_path / "run" / runfiles.GALLERY)["views"].shape[0] == 4


@pytest.mark.ddp
def test_two_processes_train_one_run(tmp_path: Path) -> None:
    out = tmp_path / "run"
    args = ["pretrain", "--devices", "2", "--epochs", "1", "--monitor.log-every-steps", "1", *SMALL, "--out", str(out)]
    done = subprocess.run(
        [sys.executable, "-m", "eigenview", *args],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    rows = runfiles.read_rows(out / runfiles.METRICS)
    assert [row["step"] for row in rows] == list(range(1, 12))  # 11 steps of the global batch, not 22
    assert runfiles.read_json(out / runfiles.SUMMARY)["finished"] is True
    # batch norm sees half a batch on each process (synchronised only on GPUs), so the first loss is near, not equal
    single = tmp_path / "single"
    assert run([*args[:1], *args[3:-1], str(single)]) == 0
    first = runfiles.read_rows(single / runfiles.METRICS)[0]["loss"]
    assert rows[0]["loss"] == pytest.approx(first, rel=0.2)
