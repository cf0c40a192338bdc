"""A run on images of five channels, from the first step to the report."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import eigenview as ev
from eigenview import runfiles
from eigenview.cli import run
from eigenview.models.saved import load_encoder
from tests.engine.test_deep_run import FIELDS

OPTIONS = ["--encoder", "conv-tiny", "--epochs", "1", "--batch-size", "16", "--image-size", "8"]


@pytest.fixture(scope="module")
def channel_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a run on 40 arrays of five channels of 16 bits; channel 3 tells the two classes apart."""
    place = tmp_path_factory.mktemp("channels")
    images = np.random.default_rng(0).integers(0, 1000, (40, 8, 8, 5)).astype(np.uint16)
    labels = np.arange(40) % 2
    images[labels == 1, :, :4, 3] += 3000
    np.savez(place / "set.npz", images=images, labels=labels)
    ev.pretrain(place / "set.npz", out=place / "run", channels=5, **FIELDS)
    return place / "run"


def test_every_number_of_the_run_is_of_five_channels(channel_run: Path) -> None:
    encoder = load_encoder(channel_run)
    assert encoder.reading.channels == len(encoder.mean) == len(encoder.std) == len(encoder.reading.low) == 5
    assert encoder.embed(torch.zeros(2, 5, 8, 8, dtype=torch.uint8)).shape == (2, 128)
    probes = runfiles.read_probes(channel_run)
    raw = next(row for row in probes["rows"] if row["features"] == "raw pixels")
    assert raw["linear"] == 100  # the channel beyond RGB is seen
    assert runfiles.read_gallery(channel_run)["views"].shape[2:] == (5, 8, 8)
    assert "Pictures show channels 1, 2 and 3 of 5 as red, green and blue" in (channel_run / "report.html").read_text()


@pytest.mark.slow
def test_it_is_resumed_embedded_probed_and_exported(
    channel_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    data = str(channel_run.parent / "set.npz")
    assert run(["embed", str(channel_run), data, "--out", "h.npy"]) == 0
    assert np.load("h.npy").shape == (40, 128)
    assert run(["probe", str(channel_run), "--protocol", "knn"]) == 0
    assert run(["diagnose", str(channel_run), "--data", data]) == 0
    ev.pretrain(data, out="run", channels=5, **FIELDS)
    before = load_encoder("run")
    ev.pretrain(out="run", resume=True, epochs=2)
    after = load_encoder("run")
    assert (after.mean, after.std, after.reading) == (before.mean, before.std, before.reading)


@pytest.mark.parametrize("channels", [1, 4])
def test_a_probe_finds_the_rows_of_the_run_again(channels: int, tmp_path: Path) -> None:
    """Also those of the encoder it started from: random values, or weights.

    Rows with batch-norm statistics of the images differ: those of the run are of all images that it was trained on.
    """
    images = np.random.default_rng(0).integers(0, 255, (40, 8, 8, channels)).astype(np.uint8)
    np.savez(tmp_path / "set.npz", images=images, labels=np.arange(40) % 2)
    fields = {**FIELDS, "channels": channels, "probe": {"labels_per_class": 5}}
    ev.pretrain(tmp_path / "set.npz", out=tmp_path / "random", **fields)
    started = {**fields, "encoder": "auto", "weights": str(tmp_path / "random")}
    ev.pretrain(tmp_path / "set.npz", out=tmp_path / "weights", **started)
    few, out = ["--labels-per-class", "5"], tmp_path / "p.json"
    for name, start in (("random", "untrained encoder"), ("weights", "backbone you started from")):
        assert run(["probe", str(tmp_path / name), *few, "--out", str(out)]) == 0
        both = [
            {row["features"]: row for row in table["rows"]}
            for table in (runfiles.read_json(out), runfiles.read_probes(tmp_path / name))
        ]
        assert list(both[0]) == list(both[1])
        assert start in both[0]
        same = {"raw pixels", "backbone you started from", "this encoder"} & set(both[0])
        assert [both[0][row] for row in same] == [both[1][row] for row in same]
    assert run(["probe", str(tmp_path / "random"), str(tmp_path / "weights"), *few, "--out", str(out)]) == 0


def test_images_of_other_channels_are_refused(
    channel_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save(tmp_path / "rgb.npy", np.zeros((8, 8, 8, 3), np.uint8) + np.arange(8, dtype=np.uint8)[:, None, None, None])
    assert run(["embed", str(channel_run), str(tmp_path / "rgb.npy"), "--out", str(tmp_path / "h.npy")]) == 2
    assert "no axis is colour, 5 channels (--channels)" in capsys.readouterr().err
    assert run(["pretrain", str(tmp_path / "rgb.npy"), "--channels", "5", *OPTIONS]) == 2
    assert "no axis is colour, 5 channels (--channels)" in capsys.readouterr().err
    with pytest.raises(ev.UserError, match=r"images.shape is \(2, 3, 8, 8\); allowed: \(N, 5, S, S\): square"):
        load_encoder(channel_run).embed(torch.zeros(2, 3, 8, 8, dtype=torch.uint8))
