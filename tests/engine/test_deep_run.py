"""A run on images of more than 8 bits: its range goes with the encoder wherever that is used."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import eigenview as ev
from eigenview import runfiles
from eigenview.cli import run
from eigenview.config.reading import Reading
from eigenview.engine.plan import make_plan
from eigenview.engine.train import reading_of
from eigenview.models.saved import load_encoder

FIELDS: dict[str, Any] = {
    "encoder": "conv-tiny",
    "epochs": 1,
    "batch_size": 16,
    "image_size": 8,
    "network": {"projector_hidden": 8, "projector_width": 8},
}


def images(count: int, most: int, seed: int = 0) -> np.ndarray:
    """uint16 (count, 8, 8): noise from 0 to `most`, both of which occur."""
    values = np.random.default_rng(seed).integers(0, most + 1, (count, 8, 8), dtype=np.uint16)
    values[:, 0, 0], values[:, 0, 1] = 0, most
    return values


@pytest.fixture(scope="module")
def deep_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a run on 40 arrays of 12 bits."""
    place = tmp_path_factory.mktemp("deep")
    np.savez(place / "set.npz", images=images(40, 4095), labels=np.arange(40) % 2)
    ev.pretrain(place / "set.npz", out=place / "run", **FIELDS)
    return place / "run"


def test_the_range_is_kept_with_the_encoder(deep_run: Path) -> None:
    expected = Reading(low=(0,), high=(4095,))
    assert load_encoder(deep_run).reading == expected
    assert reading_of(deep_run) == expected
    assert runfiles.read_object(deep_run / "environment.json", runfiles.CARD_KIND.optional["run"])["pixels"] == {
        "range": "auto",
        "low": [0.0],
        "high": [4095.0],
        "channels": 3,
        "pages": "first",
        "fit": "crop",
    }


def test_other_images_are_embedded_by_that_range(deep_run: Path, tmp_path: Path) -> None:
    """A darker set by its own range would look like the training set: the features must be those of dark images."""
    dark, expected = images(4, 1000, seed=1), None
    pixels = np.rint(dark * (255 / 4095)).astype(np.uint8)
    encoder = load_encoder(deep_run)
    expected = encoder.embed(torch.from_numpy(np.stack([pixels] * 3, 1)))
    (tmp_path / "dark").mkdir()
    paths = [tmp_path / "dark" / f"{i}.png" for i in range(4)]
    for path, values in zip(paths, dark, strict=True):
        Image.fromarray(values).save(path)
    pictures = [Image.open(path) for path in paths]
    for given in (paths, pictures, dark[..., None]):
        torch.testing.assert_close(encoder.embed(given), expected)
    assert run(["embed", str(deep_run), str(tmp_path / "dark"), "--out", str(tmp_path / "h.npy")]) == 0
    np.testing.assert_allclose(np.load(tmp_path / "h.npy"), expected.numpy(), rtol=1e-5, atol=1e-6)


def test_what_was_decided_is_printed(
    deep_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the plan, and by a verb that uses the encoder, which keeps its range."""
    monkeypatch.chdir(tmp_path)
    assert run(["pretrain", str(deep_run.parent / "set.npz"), "--dry-run", "--batch-size", "16"]) == 0
    printed = capsys.readouterr().out
    line = "pixels    values 0 to 4,095 of 16 bits: range 0 to 4,095 (0.1 to 99.9 %), kept with the encoder"
    assert line in printed.splitlines()
    np.save(tmp_path / "dark.npy", images(8, 1000))
    assert run(["embed", str(deep_run), "dark.npy"]) == 0
    assert "pixels    range 0 to 4,095, as the encoder was trained with" in capsys.readouterr().err.splitlines()


def test_a_plan_takes_the_range_that_the_run_began_with(deep_run: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "set.npz", images=images(40, 60000), labels=np.arange(40) % 2)
    config = dataclasses.replace(ev.Run(deep_run).config, data=str(tmp_path / "set.npz"))
    assert make_plan(config).train.reading.high == (60000,)
    plan = make_plan(config, reading=reading_of(deep_run))
    assert plan.train.reading == plan.held_out.reading == Reading(low=(0,), high=(4095,))


@pytest.mark.slow
def test_a_run_goes_on_with_the_range_that_it_began_with(deep_run: Path, tmp_path: Path) -> None:
    """Also where the images have changed since, and would have another range now."""
    data, out = tmp_path / "set.npz", tmp_path / "run"
    np.savez(data, images=images(40, 4095), labels=np.arange(40) % 2)
    ev.pretrain(data, out=out, **FIELDS)
    np.savez(data, images=images(40, 60000), labels=np.arange(40) % 2)
    ev.pretrain(out=out, resume=True, epochs=2, allow_changed_data=True)
    assert load_encoder(out).reading == Reading(low=(0,), high=(4095,))


def test_more_bits_than_the_encoder_was_trained_on_are_refused_in_python(deep_run: Path, tmp_path: Path) -> None:
    """A set of images gets a range of its own (eigenview embed); of a few images in Python nobody would hear of it."""
    encoder = load_encoder(deep_run)
    encoder.reading = Reading()  # as one that was trained on 8 bits
    dark = images(4, 1000, seed=1)
    Image.fromarray(dark[0]).save(tmp_path / "a.png")
    with pytest.raises(ev.UserError, match=r"a.png cannot be read as an image: has 16 bits a value, and there is no "):
        encoder.embed(tmp_path / "a.png")
    with pytest.raises(ev.UserError, match="a picture of mode I;16 has more than 8 bits"):
        encoder.embed(Image.fromarray(dark[0]))
    with pytest.raises(ev.UserError, match=r"shape \(4, 8, 8, 1\) of uint16; allowed: uint8 images"):
        encoder.embed(dark[..., None])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"low": [5.0], "high": [1.0]}, "is damaged: pixels: high is"),
        ({"range": "everything"}, "is damaged: pixels: --range is 'everything'"),
        ({"channels": 0}, "is damaged: pixels.channels is 0"),
        ({"low": ["a"]}, r"is damaged: pixels.low\[0\] is 'a'"),
        ({"pages": "last"}, "is damaged: pixels: --pages is 'last'"),
    ],
)
def test_a_damaged_card_is_refused(deep_run: Path, tmp_path: Path, change: dict[str, Any], message: str) -> None:
    card = runfiles.read_json(deep_run / "encoder.json")
    card.pop("checksum", None)
    card["pixels"] |= change
    runfiles.write_object(tmp_path / "encoder.json", card)
    (tmp_path / "encoder.safetensors").write_bytes((deep_run / "encoder.safetensors").read_bytes())
    with pytest.raises(ev.UserError, match=message):
        load_encoder(tmp_path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--range", "900,100"], "--range is '900,100', whose low end is not below its high end"),
        (["--range", "dark"], "--range is 'dark'; allowed: auto, full, window, LOW,HIGH"),
        (["--channels", "0"], "--channels is 0; allowed: 1 to 256"),
        (["--range=5000,6000"], "--range 5000,6000 leaves one grey level of the values, 0 to 4,095"),
    ],
)
def test_bad_options_are_one_line_and_leave_nothing(
    deep_run: Path, tmp_path: Path, options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    args = ["pretrain", str(deep_run.parent / "set.npz"), "--out", str(tmp_path / "run"), *options]
    assert run([*args, "--batch-size", "16"]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert len(error.splitlines()) == 1
    assert not (tmp_path / "run").exists()
