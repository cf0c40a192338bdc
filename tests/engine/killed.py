"""Starting, killing and comparing runs as a user would: processes of their own."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch

from eigenview import runfiles

COMMON = ["--batch-size", "128", "--monitor.log-every-steps", "1", "--monitor.images", "64"]
# a checkpoint every few steps, so that a kill between two of them loses steps that must be done again alike
COMMON += ["--monitor.checkpoint-minutes", "0.001", "--network.projector-hidden", "64", "--probe.few-label-draws", "1"]


def command(out: Path, *options: str) -> list[str]:
    return [sys.executable, "-m", "eigenview", "pretrain", *options, "--out", str(out)]


def environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}


def stop_at(out: Path, step: int, number: int, fields: list[str]) -> int:
    """Start the run and send it signal `number` once metrics.jsonl shows `step`; the exit code."""
    process = subprocess.Popen(
        command(out, *fields), env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 200
    while len(runfiles.read_rows(out / runfiles.METRICS)) < step:
        assert time.monotonic() < deadline, "the run never got to the step at which it is to be killed"
        assert process.poll() is None, "the run ended before it could be killed"
        time.sleep(0.005)
    process.send_signal(number)
    return process.wait(timeout=60)


def weights(out: Path) -> dict[str, torch.Tensor]:
    return torch.load(out / runfiles.CHECKPOINT, weights_only=True)["state_dict"]


def assert_same_run(whole: Path, resumed: Path) -> None:
    ours, theirs = weights(resumed), weights(whole)
    assert ours.keys() == theirs.keys()
    for name, value in theirs.items():
        assert torch.equal(ours[name], value), name
    rows = [runfiles.read_rows(run / runfiles.METRICS) for run in (whole, resumed)]
    assert [(r["step"], r["terms"], r["lr"]) for r in rows[0]] == [(r["step"], r["terms"], r["lr"]) for r in rows[1]]
    diagnoses = [runfiles.read_rows(run / runfiles.DIAGNOSTICS) for run in (whole, resumed)]
    assert diagnoses[0] == diagnoses[1]
    spectra = [runfiles.read_arrays(run / runfiles.SPECTRA) for run in (whole, resumed)]
    for name, value in spectra[0].items():
        np.testing.assert_array_equal(spectra[1][name], value)
    first, second = (runfiles.read_json(run / runfiles.SUMMARY) for run in (whole, resumed))
    for name in ("verdict", "knn", "linear", "linear_few", "baselines", "quality"):
        assert first[name] == second[name], name
