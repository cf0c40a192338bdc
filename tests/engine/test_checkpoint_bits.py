"""One bit of a checkpoint that differs is never trained on: the run is refused, or ends with the same weights."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from eigenview import runfiles
from eigenview.cli import run
from tests.engine.killed import weights
from tests.fuzz.damage import changed
from tests.fuzz.stock import SMALL

BITS = 40


@pytest.fixture(scope="module")
def one_epoch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("bits")
    rng = np.random.default_rng(0)
    np.savez(root / "images.npz", images=rng.integers(0, 255, (80, 8, 8, 3), dtype=np.uint8))
    assert run(["pretrain", str(root / "images.npz"), "--out", str(root / "run"), *SMALL]) == 0
    return root / "run"


def resumed(target: Path) -> int:
    """Exit code of one more epoch of a copy of the run."""
    return run(["pretrain", "--out", str(target), "--resume", "--epochs", "2"])


@pytest.mark.slow
def test_forty_flipped_bits_of_a_checkpoint(
    one_epoch: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(one_epoch, tmp_path / "whole")
    assert resumed(tmp_path / "whole") == 0
    expected, content = weights(tmp_path / "whole"), (one_epoch / runfiles.CHECKPOINT).read_bytes()
    assert not (one_epoch / runfiles.PREVIOUS_CHECKPOINT).exists()
    rng, refused = np.random.default_rng(0), 0
    for place, bit in zip(rng.integers(0, 10_000, BITS), rng.integers(0, 8, BITS), strict=True):
        out = tmp_path / f"{place}-{bit}"
        shutil.copytree(one_epoch, out)
        (out / runfiles.CHECKPOINT).write_bytes(changed(content, {"how": "flip", "at": int(place), "bit": int(bit)}))
        capsys.readouterr()
        code = resumed(out)
        said = capsys.readouterr().err
        if code == 0:
            assert all(torch.equal(value, expected[name]) for name, value in weights(out).items())
        else:
            assert (code, said.count("\n")) == (2, 1)
            assert "last.ckpt" in said
            refused += 1
    assert refused >= BITS - 1, "bytes that no checksum covers are few"
