"""Starting, killing and comparing runs as a user would: processes of their own."""

from __future__ import annotations

import multiprocessing
import multiprocessing.context
import os
import sys
import time
from pathlib import Path

import numpy as np
import torch

from eigenview import runfiles
from eigenview.cli import main
from tests.process_pool import PRELOAD

COMMON = ["--batch-size", "128", "--monitor.log-every-steps", "1", "--monitor.images", "64"]
# a checkpoint every few steps, so that a kill between two of them loses steps that must be done again alike
COMMON += ["--monitor.checkpoint-minutes", "0.001", "--network.projector-hidden", "64", "--probe.few-label-draws", "1"]


Process = multiprocessing.context.ForkServerProcess


def _serve(arguments: list[str]) -> None:
    """What `python -m eigenview ARGUMENTS` does, without its output."""
    for stream in (1, 2):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream)
    sys.argv = ["eigenview", *arguments]
    main()


def start(out: Path, *options: str) -> Process:
    """A process that runs `eigenview pretrain`, forked from a server that has done the imports and nothing else: they
    take ten seconds."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOAD)
    process = context.Process(target=_serve, args=(["pretrain", *options, "--out", str(out)],))
    process.start()
    return process


def finish(out: Path, *options: str) -> None:
    """Run `eigenview pretrain` to its end."""
    process = start(out, *options)
    process.join(240)
    assert process.exitcode == 0


def stop_at(out: Path, step: int, number: int, fields: list[str]) -> int | None:
    """Start the run and send it signal `number` once metrics.jsonl shows `step`; the exit code."""
    process = start(out, *fields)
    deadline = time.monotonic() + 200
    while len(runfiles.read_rows(out / runfiles.METRICS)) < step:
        assert time.monotonic() < deadline, "the run never got to the step at which it is to be killed"
        assert process.is_alive(), "the run ended before it could be killed"
        time.sleep(0.005)
    assert process.pid is not None
    os.kill(process.pid, number)
    process.join(60)
    return process.exitcode


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
    spectra = [runfiles.read_spectra(run) for run in (whole, resumed)]
    for name, value in spectra[0].items():
        np.testing.assert_array_equal(spectra[1][name], value)
    first, second = (runfiles.read_json(run / runfiles.SUMMARY) for run in (whole, resumed))
    for name in ("verdict", "knn", "linear", "linear_few", "baselines", "quality"):
        assert first[name] == second[name], name
