"""A folder for temporary files that is missing or full ends no command: everything is written beside its target."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from eigenview.cli import run

SMALL = ["--encoder", "conv-tiny", "--epochs", "1", "--batch-size", "16", "--monitor.images", "8"]
SMALL += ["--network.projector-hidden", "16", "--network.projector-width", "16", "--probe.few-label-draws", "1"]


@pytest.mark.slow
def test_every_verb_that_writes_does_without_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for i in range(64):
        path = tmp_path / "photos" / "ab"[i % 2] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.random.default_rng(i).integers(0, 256, (20, 20, 3), dtype=np.uint8)).save(path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TMPDIR", "/nonexistent")
    monkeypatch.setattr("tempfile.tempdir", None)
    assert run(["pretrain", "photos", *SMALL, "--out", "r", "--loader.workers", "1", "--loader.cache-gb", "0"]) == 0
    assert run(["pretrain", "photos", *SMALL, "--out", "s", "--encoder", "timm:test_byobnet"]) == 0
    for command in (
        ["embed", "r", "photos", "--out", "h.parquet"],
        ["pack", "photos", "--out", "packed"],
        ["probe", "r"],
        ["report", "r", "s", "--out", "both.html"],
        ["diagnose", "r", "--data", "photos"],
        ["export", "s", "--format", "timm", "--out", "for-timm"],
        ["simulate", "modes", "--out", "theory"],
    ):
        assert run(command) == 0, command
