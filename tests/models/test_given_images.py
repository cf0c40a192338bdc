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
from eigenview.config.reading import Reading
from eigenview.errors import UserError
from eigenview.models.given_images import as_images

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
        (PIXELS[0], r"\(16, 16, 3\) of uint8"),
        ([], "empty list"),
        ([3], "hold a int"),
        ("nowhere.png", "nowhere.png cannot be read"),
    ],
)
def test_anything_else_is_refused(given: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        as_images(given, 16)


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
