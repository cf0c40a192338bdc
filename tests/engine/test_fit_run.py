"""--fit in a run: kept with the encoder and used wherever it is used."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from eigenview import runfiles
from eigenview.cli import run
from eigenview.data.pixels.geometry import Place, square
from eigenview.run import Run

SMALL = ["--encoder", "conv-tiny", "--epochs", "1", "--batch-size", "16", "--network.projector-width", "16"]
SMALL += ["--network.projector-hidden", "16", "--image-size", "16", "--monitor.images", "8"]


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """80 images of 48 x 16."""
    folder = tmp_path_factory.mktemp("wide") / "photos"
    folder.mkdir()
    for i in range(80):
        pixels = np.random.default_rng(i).integers(0, 256, (16, 48, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{i:02}.png")
    return folder


@pytest.mark.parametrize("fit", [pytest.param("pad", marks=pytest.mark.slow), "tiles:3"])
def test_the_encoder_keeps_it(photos: Path, tmp_path: Path, fit: str, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "run"
    assert run(["pretrain", str(photos), "--fit", fit, *SMALL, "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert ("80 of 80 images are not square" if fit == "pad" else "80 images are cut into 240 tiles") in printed
    assert runfiles.read_json(out / runfiles.ENCODER_CARD)["pixels"]["fit"] == fit
    encoder = Run(out).encoder
    picture = Image.open(photos / "00.png")
    pixels = square(picture, 16, Place(fit))
    expected = encoder.embed(torch.from_numpy(pixels[None].copy()))
    assert torch.equal(encoder.embed([photos / "00.png"]), expected)
    assert torch.equal(encoder.embed([picture]), expected)
    assert run(["embed", str(out), str(photos), "--out", str(tmp_path / "h.parquet")]) == 0
    table = pq.read_table(tmp_path / "h.parquet")
    of_each = 1 if fit == "pad" else 3
    assert table.column("path").to_pylist()[:of_each] == [str(photos / "00.png")] * of_each
    assert len(table) == 80 * of_each
    middle = np.array(table.column("h")[of_each // 2].as_py(), np.float32)
    np.testing.assert_allclose(middle, expected[0].numpy(), atol=1e-5)


def test_other_words_are_refused_before_anything_is_written(photos: Path, tmp_path: Path) -> None:
    for fit in ("tiles:0", "tiles:x", "stretch"):
        assert run(["pretrain", str(photos), "--fit", fit, "--out", str(tmp_path / "run")]) == 2
    assert not (tmp_path / "run").exists()
