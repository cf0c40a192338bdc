"""A killed run whose objective keeps a running estimate, resumed, ends in the same bits."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.engine.killed import COMMON, assert_same_run, finish, stop_at, weights

# a running estimate that moves after the optimiser, by the mean over the parts
DUAL = ["--method", "unbiased-vicreg", "--method.hinge", "dual", "--grad-accum-steps", "2", "--epochs", "2", *COMMON]


@pytest.mark.slow
def test_a_running_estimate_survives_a_kill_in_the_second_epoch(tmp_path: Path) -> None:
    whole, out = tmp_path / "whole", tmp_path / "run"
    finish(whole, *DUAL)
    assert stop_at(out, 14, signal.SIGKILL, DUAL) == -signal.SIGKILL
    finish(out, "--resume")
    assert weights(whole)["method.objective.running"].std() > 0
    assert_same_run(whole, out)
