"""`eigenview preview`: the views of the first step of training, on a PNG or an HTML page."""

from __future__ import annotations

import base64
import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tests.engine.stepping import config_of

from eigenview.cli import run
from eigenview.data.views.augment import to_uint8
from eigenview.engine.plan import make_plan
from eigenview.engine.preview import first_views
from eigenview.engine.train import build_module, make_batches
from eigenview.report.sheet import CELL, GAP, TITLE, Column, as_rgb, sheet, write_sheet

STRONG: dict[str, Any] = {
    "local_views": 1,
    "seed": 3,
    "augmentation": "microscopy",
    "augment": {"rotate": 0.5, "erase": (0.0, 1.0), "own": "tests.data.test_own_transform:speckled"},
}


@pytest.mark.parametrize("fields", [{}, STRONG], ids=["the default", "many options"])
def test_the_sheet_has_the_views_of_the_first_step(fields: dict[str, Any]) -> None:
    """What training makes of the first batch, taken where the loss gets it, and what the preview shows: equal."""
    config = config_of("vicreg", batch_size=32, **fields)
    plan = make_plan(config)
    module = build_module(plan)
    batch = next(iter(make_batches(plan)))
    index = batch["index"]
    assert index is not None
    images = module.resident_images(index)
    trained = module.make_batch(images, step=0).views
    original, *views = first_views(config, 5)
    np.testing.assert_array_equal(original.pictures, images[:5].numpy())
    assert len(views) == len(trained) == 2 + config.local_views
    for column, view, spec in zip(views, trained, plan.specs, strict=True):
        np.testing.assert_array_equal(column.pictures, to_uint8(view[:5], spec).numpy())
    assert [column.title for column in views] == ["view 1", "view 2", "local 1"][: len(views)]
    other = first_views(config_of("vicreg", batch_size=32, **{**fields, "seed": 9}), 5)
    assert not np.array_equal(other[1].pictures, views[0].pictures)


def columns(side: int, channels: int = 3) -> list[Column]:
    """Two constant pictures of an image of `side` px, a view and a local crop of half its side."""
    levels = [(60, 2 * side), (120, side), (180, side // 2)]
    made = [np.full((2, channels, s, s), level, np.uint8) for level, s in levels]
    return [Column(f"column {k}", "<b>what</b>", pictures) for k, pictures in enumerate(made)]


def test_small_pictures_are_enlarged_and_local_crops_stay_in_proportion() -> None:
    made = np.asarray(sheet(columns(32)))
    assert made.shape == (TITLE + 2 * (CELL + GAP), GAP + 3 * (CELL + GAP), 3)
    for level, side in ((60, CELL), (120, CELL), (180, CELL // 2)):
        assert (made == level).all(2).sum() == 2 * side**2
    assert np.asarray(sheet(columns(512))).shape == (TITLE + 2 * (256 + GAP), GAP + 3 * (256 + GAP), 3)


@pytest.mark.parametrize(("channels", "expected"), [(1, (7, 7, 7)), (2, (7, 7, 7)), (3, (7, 8, 9)), (5, (7, 8, 9))])
def test_any_number_of_channels_is_shown(channels: int, expected: tuple[int, int, int]) -> None:
    picture = np.arange(7, 7 + channels, dtype=np.uint8)[:, None, None].repeat(4, 1).repeat(4, 2)
    assert (as_rgb(picture) == expected).all()
    assert as_rgb(picture).shape == (4, 4, 3)


def test_the_page_has_every_picture_and_escapes_what_it_shows(tmp_path: Path) -> None:
    write_sheet(tmp_path / "a.html", columns(16), command="eigenview preview '<x>'")
    page = (tmp_path / "a.html").read_text()
    pictures = [base64.b64decode(text) for text in re.findall(r"data:image/png;base64,([\w+/=]+)", page)]
    levels = [int(np.asarray(Image.open(io.BytesIO(each)))[0, 0, 0]) for each in pictures]
    assert levels == [60, 120, 180] * 2
    assert "&lt;b&gt;what&lt;/b&gt;" in page
    assert "<x>" not in page
    assert not re.search(r"https?://|src=\"(?!data:)", page)


def test_it_says_which_channels_it_shows_and_what_is_odd_about_the_pixels(tmp_path: Path) -> None:
    """Five nearly constant channels of 16 bits: no operation on colours is named, and the notes of a run are there."""
    pixels = np.random.default_rng(0).integers(1000, 1010, (100, 16, 16, 5)).astype(np.uint16)
    pixels[0, 0, 0] = 60000
    np.savez(tmp_path / "five.npz", images=pixels)
    config = config_of("vicreg", data=str(tmp_path / "five.npz"), batch_size=32, channels=5, range="full")
    original, *views = first_views(config, 2)
    assert original.text.startswith(
        "16 px. Pictures show channels 1, 2 and 3 of 5 as red, green and blue. Values 1,000 to "
    )
    assert "Warning: the images are nearly constant" in original.text
    for view in views:
        assert "jitter 0.8 (brightness 0.4, contrast 0.4)" in view.text
        assert not any(each in view.text for each in ("saturation", "hue", "grayscale"))


@pytest.mark.parametrize("name", ["sheet.png", "sheet.html"])
def test_the_command_writes_one_file(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / name
    few = ["--batch-size", "32", "--images", "3", "--augment.solarize", "0.0,1.0", "--method", "simclr"]
    assert run(["preview", "digits", *few, "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert printed.count("\n") == 4
    assert "solarize 1 (from 0.5)" in printed
    assert f"{out}: 3 images of the first batch of 32" in printed
    if name.endswith("png"):
        with Image.open(out) as made:
            assert made.size == (GAP + 3 * (CELL + GAP), TITLE + 3 * (CELL + GAP))


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["digits", "--out", "x.jpg"], "x.jpg"),
        (["digits", "--out", "nowhere/x.png"], "the folder nowhere does not exist"),
        (["digits", "--images", "0"], "--images is 0; allowed: 1 up to"),
        (["digits", "--images", "33", "--batch-size", "32"], "--images is 33; allowed: 1 up to 32"),
        (["digits", "--augment.flip", "2"], "augment.flip is 2.0"),
        (["digits", "--dry-run"], "--dry-run"),
        (["nothing-here"], "nothing-here"),
    ],
)
def test_what_it_refuses(
    args: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(["preview", *args]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert not list(tmp_path.iterdir())
