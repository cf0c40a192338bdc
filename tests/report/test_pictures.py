"""Pictures of images of any number of channels: which are shown, and what is said of it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from eigenview import runfiles
from eigenview.cli import run
from eigenview.errors import UserError
from eigenview.report.page import render
from eigenview.report.pictures import channels_note, data_uri, neighbour_rows, view_rows
from eigenview.report.read import RunRecord, read_run
from tests.report.synthetic_run import write_run


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose images have five channels."""
    directory = write_run(tmp_path_factory.mktemp("report") / "five")
    gallery = runfiles.read_arrays(directory / runfiles.GALLERY)
    rng = np.random.default_rng(0)
    for name in ("originals", "views", "queries", "neighbours"):
        *front, _, height, width = gallery[name].shape
        gallery[name] = rng.integers(0, 256, (*front, 5, height, width), dtype=np.uint8)
    runfiles.write_arrays(directory / runfiles.GALLERY, gallery)
    return directory


@pytest.fixture(scope="module")
def record(place: Path) -> RunRecord:
    found = read_run(place)
    return dataclasses.replace(found, environment=found.environment | {"pixels": {"channels": 5}})


@pytest.mark.parametrize(
    ("asked", "shown", "note"),
    [
        ((), [0, 1, 2], "Pictures show channels 1, 2 and 3 of 5 as red, green and blue."),
        ((5, 3, 1), [4, 2, 0], "Pictures show channels 5, 3 and 1 of 5 as red, green and blue."),
        ((4,), [3, 3, 3], "Pictures show channel 4 of 5 as grey."),
    ],
)
def test_the_channels_that_are_asked_for(
    record: RunRecord, asked: tuple[int, ...], shown: list[int], note: str
) -> None:
    assert channels_note(record, asked) == note
    views, near = view_rows(record, asked)[2], neighbour_rows(record, asked)[1]
    assert views.first.uri == data_uri(record.gallery["originals"][2][shown])
    assert views.others[1].uri == data_uri(record.gallery["views"][1, 2][shown])
    assert near.first.uri == data_uri(record.gallery["queries"][1][shown])
    assert near.others[3].uri == data_uri(record.gallery["neighbours"][1, 3][shown])


def test_a_run_that_has_no_pictures_yet_takes_the_channels_of_its_images(record: RunRecord) -> None:
    unfinished = dataclasses.replace(record, gallery={})
    assert view_rows(unfinished, (5, 3, 1)) == []
    assert "Pictures show" not in render([unfinished], channels=(5, 3, 1))
    with pytest.raises(UserError, match="allowed: one or three of 1 to 5"):
        channels_note(unfinished, (6,))


@pytest.mark.parametrize("asked", [(6,), (0,), (1, 2), (1, 2, 9)])
def test_others_are_refused(record: RunRecord, asked: tuple[int, ...]) -> None:
    with pytest.raises(UserError, match=r"--channels is '.*'; allowed: one or three of 1 to 5, the channels in the"):
        view_rows(record, asked)


def test_the_command_takes_them(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    gallery = runfiles.read_arrays(place / runfiles.GALLERY)
    assert run(["report", str(place), "--channels", "5,3,1", "--out", str(tmp_path / "a.html")]) == 0
    assert data_uri(gallery["originals"][0][[4, 2, 0]]) in (tmp_path / "a.html").read_text()
    assert run(["report", str(place), "--channels", "red", "--out", str(tmp_path / "b.html")]) == 2
    assert "--channels is 'red'; allowed: whole numbers, as in 5,3,1." in capsys.readouterr().err
    assert not (tmp_path / "b.html").exists()
