"""Too few images are refused before any is decoded, and the message names the rule that counts."""

from __future__ import annotations

from pathlib import Path

import pytest

from eigenview.config import RunConfig
from eigenview.data.sources import files
from eigenview.engine.plan import make_plan
from eigenview.errors import UserError
from tests.data.conftest import MakeImages
from tests.data.conftest import make_images as make_images


@pytest.mark.parametrize(
    ("count", "batch", "rule"),
    [
        (46, 32, r"holds 46 .* a tenth of them, at least 8, is held out .* so at least 80 are needed"),
        (120, 120, r"holds 120 .* a batch takes 120, so at least 133 are needed"),
    ],
)
def test_images_are_counted_first(
    tmp_path: Path, make_images: MakeImages, monkeypatch: pytest.MonkeyPatch, count: int, batch: int, rule: str
) -> None:
    make_images(tmp_path / "set", count)
    monkeypatch.setattr(files, "decode_rows", lambda *_: pytest.fail("decoded"))
    with pytest.raises(UserError, match=rule):
        make_plan(RunConfig(data=str(tmp_path / "set"), batch_size=batch))


def test_the_number_in_the_message_is_enough(tmp_path: Path, make_images: MakeImages) -> None:
    make_images(tmp_path / "set", 80)
    plan = make_plan(RunConfig(data=str(tmp_path / "set"), batch_size=72))
    assert (len(plan.train), len(plan.held_out)) == (72, 8)
    with pytest.raises(UserError, match="so at least 81 are needed"):
        make_plan(RunConfig(data=str(tmp_path / "set"), batch_size=73))


def test_labelled_images_need_a_batch_only(tmp_path: Path, make_images: MakeImages) -> None:
    for name in ("cat", "dog"):
        make_images(tmp_path / "set" / name, 23)
    assert len(make_plan(RunConfig(data=str(tmp_path / "set"), batch_size=32)).train) == 46
    with pytest.raises(UserError, match="holds 46 readable images; a batch of 64 needs at least 64"):
        make_plan(RunConfig(data=str(tmp_path / "set"), batch_size=64))
