"""What `embed` takes: tensors, arrays, pictures and paths give the same pixels; anything else is refused."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import eigenview as ev
from eigenview.commands.embed import embed_images
from eigenview.commands.represent import encoder_and_images
from eigenview.config.reading import Reading
from eigenview.data.load import load_images
from eigenview.errors import UserError
from eigenview.models.encoders import build_encoder
from eigenview.models.given_images import as_images
from eigenview.models.saved import save_encoder
from eigenview.terminal import Console

PIXELS = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3), dtype=np.uint8)


def test_all_forms_of_the_same_images_agree(tmp_path: Path) -> None:
    pictures = [Image.fromarray(each) for each in PIXELS]
    paths = [tmp_path / f"{k}.png" for k in range(2)]
    for picture, path in zip(pictures, paths, strict=True):
        picture.save(path)
    expected = torch.from_numpy(PIXELS).permute(0, 3, 1, 2)
    for given in (PIXELS, expected, expected.numpy(), pictures, paths, tuple(map(str, paths))):
        assert torch.equal(as_images(given, 16), expected)
    for single in (pictures[0], paths[0], str(paths[0])):
        assert torch.equal(as_images(single, 16), expected[:1])
    wide = Image.new("L", (40, 20), 7)
    assert as_images([wide], 16).unique().tolist() == [7]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (PIXELS / 255, r"float64; allowed: uint8 images"),
        (PIXELS[0], r"the array is uint8 of shape \(16, 16, 3\), which looks like a single image"),
        ([], "empty list"),
        ([3], "hold a int"),
        ("nowhere.png", "nowhere.png cannot be read"),
    ],
)
def test_anything_else_is_refused(given: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        as_images(given, 16)


GREY = np.random.default_rng(0).integers(0, 256, (2, 16, 16), dtype=np.uint8)
KINDS = {
    "uint8": PIXELS,
    "grey": GREY,
    "uint16": GREY.astype(np.uint16) * 250,
    "int32": GREY.astype(np.int32) * 100_000 - 900,
    "float32": GREY.astype(np.float32) / 2,
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("reading", [Reading(low=(10,), high=(300,)), Reading(range="50,200"), Reading(range="full")])
@pytest.mark.parametrize("is_blank", [False, True])
def test_arrays_pictures_and_files_agree(tmp_path: Path, kind: str, reading: Reading, is_blank: bool) -> None:
    """Whatever the range. One that leaves a blank image is no error: it was decided in training."""
    array = KINDS[kind][:, :1, :1].repeat(16, 1).repeat(16, 2) if is_blank else KINDS[kind]
    pictures = [Image.fromarray(each) for each in array]
    paths = [tmp_path / f"{k}.tif" for k in range(2)]
    for picture, path in zip(pictures, paths, strict=True):
        picture.save(path)
    expected = as_images(paths, 8, reading)
    assert torch.equal(as_images(array, 8, reading), expected)
    assert torch.equal(as_images(pictures, 8, reading), expected)
    if not is_blank:
        np.save(tmp_path / "a.npy", array)
        images = load_images(str(tmp_path / "a.npy"), size=8, source_size=8, reading=reading)
        np.testing.assert_array_equal(images.read(np.arange(2)), expected)


def test_grey_arrays_have_the_first_range_of_pages() -> None:
    reading = Reading(pages="channels", low=(0, 1, 2), high=(4000, 5000, 6000))
    ours = as_images(KINDS["uint16"], 16, reading)
    assert torch.equal(ours, as_images(KINDS["uint16"], 16, Reading(low=(0,), high=(4000,))))


def test_python_embeds_as_the_command_does(tmp_path: Path) -> None:
    """Files are brought to the side that the training images were stored at, then to that of the views."""
    network, width = build_encoder("conv-tiny", size=16)
    card = {"encoder": "conv-tiny", "stem": "auto", "size": 16, "source_size": 21, "width": width, "method": None}
    card |= {"mean": [0.5] * 3, "std": [0.25] * 3, "run": {}, "pixels": Reading(range="50,200").as_json()}
    save_encoder(tmp_path, network, card)
    arrays = np.random.default_rng(1).integers(0, 256, (4, 40, 50, 3), dtype=np.uint8)
    paths = [tmp_path / "images" / f"{k}.png" for k in range(4)]
    paths[0].parent.mkdir()
    for array, path in zip(arrays, paths, strict=True):
        Image.fromarray(array).save(path)
    embed_images(str(tmp_path), str(tmp_path / "images"), tmp_path / "h.npy", Console())
    expected = torch.from_numpy(np.load(tmp_path / "h.npy"))
    encoder = ev.load_encoder(tmp_path)
    for given in (paths, [Image.fromarray(array) for array in arrays], arrays):
        assert torch.equal(encoder.embed(given), expected)


@pytest.mark.parametrize("asked", ["0,4095", "full"])
def test_a_blank_image_is_embedded_by_the_range_of_training(tmp_path: Path, asked: str) -> None:
    """Which is no choice of whoever embeds it."""
    network, width = build_encoder("conv-tiny", size=16)
    card = {"encoder": "conv-tiny", "stem": "auto", "size": 16, "width": width, "method": None, "run": {}}
    card |= {"mean": [0.5] * 3, "std": [0.25] * 3, "pixels": Reading(range=asked).as_json()}
    save_encoder(tmp_path, network, card)
    blank = np.full((2, 16, 16), 5, np.uint16)
    np.save(tmp_path / "blank.npy", blank)
    Image.fromarray(blank[0]).save(tmp_path / "blank.png")
    for name, count in (("blank.npy", 2), ("blank.png", 1)):
        _, images = encoder_and_images(str(tmp_path), str(tmp_path / name), Console())
        np.testing.assert_array_equal(images.read(np.arange(count)), as_images(blank[:count], 16, Reading(range=asked)))
        assert any(note.endswith("as the encoder was trained with") for note in images.pixel_notes)


def test_embeddings_may_be_an_array_of_numpy() -> None:
    x = np.random.default_rng(0).normal(size=(100, 8))
    assert ev.diagnose_embeddings(x)[0] == ev.diagnose_embeddings(torch.from_numpy(x).float())[0]
    with pytest.raises(UserError, match="numbers"):
        ev.diagnose_embeddings(np.array([["a", "b"]] * 3))


def test_an_encoder_of_tiles_has_one_row_for_each_image_of_an_array() -> None:
    values = np.random.default_rng(0).integers(0, 4000, (2, 20, 50)).astype(np.uint16)
    measured = Reading(low=(0,), high=(4000,))
    assert torch.equal(
        as_images(values, 20, dataclasses.replace(measured, fit="tiles:3")), as_images(values, 20, measured)
    )
