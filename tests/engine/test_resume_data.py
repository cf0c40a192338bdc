"""A resumed run and its data: from another folder, moved, changed, and with more epochs."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from eigenview import runfiles
from eigenview.cli import run
from eigenview.data.images import File
from eigenview.data.load import absolute, load_images
from eigenview.engine import data_check
from eigenview.engine.data_check import hashes
from eigenview.run import pretrain
from eigenview.runfiles import DATA_FILES

FIELDS = ["--encoder", "conv-tiny", "--epochs", "1", "--batch-size", "40", "--network.projector-hidden", "16"]
FIELDS += ["--network.projector-width", "16", "--monitor.images", "8", "--image-size", "16"]


def photos(folder: Path, count: int, first: int = 0) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(first, first + count):
        pixels = np.random.default_rng(i).integers(0, 256, (16, 16, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{i:03}.png")
    return folder


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run on d/photos below the folder in which it was started."""
    root = tmp_path_factory.mktemp("finished")
    photos(root / "d" / "photos", 90)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        assert run(["pretrain", "d/photos", "--out", "run", *FIELDS]) == 0
    return root


@pytest.fixture
def root(finished: Path, tmp_path: Path) -> Path:
    """A copy of it, with the times of its files; config.json names the copy's data."""
    shutil.copytree(finished, tmp_path / "copy")
    edit_config(tmp_path / "copy" / "run", str(finished), str(tmp_path / "copy"))
    return tmp_path / "copy"


def edit_config(directory: Path, old: str, new: str) -> None:
    """Replace a text in config.json, which gets another checksum."""
    content = json.loads(json.dumps(runfiles.read_config(directory)).replace(old, new))
    runfiles.write_object(directory / runfiles.CONFIG, content)


def resume(root: Path, *args: str) -> int:
    return run(["pretrain", *args, "--out", str(root / "run"), "--resume"])


def said(capsys: pytest.CaptureFixture[str]) -> str:
    both = capsys.readouterr()
    return " ".join((both.out + both.err).split())


def test_it_is_resumed_from_any_folder(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert runfiles.read_json(root / "run" / runfiles.CONFIG)["data"] == str(root / "d" / "photos")
    monkeypatch.chdir("/")
    assert resume(root) == 0


def test_moved_data_are_named_on_resume(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(root / "d" / "photos", root / "moved", copy_function=shutil.copyfile)  # with other times
    shutil.rmtree(root / "d")
    assert resume(root) == 2
    assert "say where they are: eigenview pretrain DATA --out" in said(capsys)
    assert resume(root, str(root / "moved")) == 0
    assert "names and sizes of the files were compared" in said(capsys)
    assert runfiles.read_json(root / "run" / runfiles.CONFIG)["data"] == str(root / "moved")
    assert resume(root) == 0  # and from then on it is known
    (root / "moved" / "000.png").write_bytes((root / "moved" / "001.png").read_bytes() + b"x")
    assert resume(root, str(root / "moved")) == 2
    assert "1 of 90 files" in said(capsys)


def test_changed_data_are_an_error_that_counts_them(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path in sorted((root / "d" / "photos").iterdir())[20:50]:
        os.utime(path, ns=(1, 1))  # the same name and size
    before = (root / "run" / DATA_FILES).read_bytes()
    assert resume(root) == 2
    text = said(capsys)
    assert "30 of 90 files of the training data differ from those this run began with, such as 020.png" in text
    assert "--allow-changed-data" in text
    assert (root / "run" / DATA_FILES).read_bytes() == before
    assert resume(root, "--allow-changed-data") == 0
    assert "30 of 90 files" in said(capsys)
    assert resume(root) == 0


def test_more_or_fewer_files_are_an_error_too(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photos(root / "d" / "photos", 2, first=90)
    assert resume(root) == 2
    assert "2 of 92 files of the training data differ" in said(capsys)
    for i in (90, 91, 5):
        (root / "d" / "photos" / f"{i:03}.png").unlink()
    assert resume(root) == 2
    assert "1 of 90 files of the training data differ from those this run began with, which are gone" in said(capsys)
    assert resume(root, "--allow-changed-data", "--epochs", "2") == 0  # the order is drawn for 89 images from here on
    assert len(runfiles.read_rows(root / "run" / runfiles.DIAGNOSTICS)) >= 2


def test_a_run_of_an_earlier_version_is_resumed(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (root / "run" / DATA_FILES).unlink()
    config = root / "run" / runfiles.CONFIG
    edit_config(root / "run", str(root) + "/", "")  # a relative path, as it was typed
    monkeypatch.chdir(root)
    assert resume(root) == 0
    assert (root / "run" / DATA_FILES).exists()
    assert runfiles.read_json(config)["data"] == str(root / "d" / "photos")


def test_more_epochs_continue_with_another_schedule(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert resume(root, "--epochs", "0") == 2
    capsys.readouterr()
    pretrain(out=root / "run", resume=True, epochs=3)
    assert "3 epochs instead of 1" in said(capsys)
    rows = runfiles.read_rows(root / "run" / runfiles.DIAGNOSTICS)
    assert rows[-1]["step"] == 6
    assert runfiles.read_json(root / "run" / runfiles.SUMMARY)["epochs"] == 3
    assert resume(root, "--epochs", "2") == 2
    assert "3 or more" in said(capsys)
    assert resume(root, "--views", "3") == 2
    assert "keeps its own configuration" in said(capsys)


def test_a_damaged_list_of_files_is_one_line(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = root / "run" / DATA_FILES
    whole = path.read_bytes()
    for damage in (b"", b"nonsense", whole[:200]):
        path.write_bytes(damage)
        assert resume(root) == 2
        assert f"{DATA_FILES} is damaged" in said(capsys)


def test_every_source_names_its_files(tmp_path: Path) -> None:
    folder = photos(tmp_path / "set" / "a", 3).parent
    photos(folder / "b", 3)
    pixels = np.zeros((6, 16, 16, 3), np.uint8)
    np.save(tmp_path / "x.npy", pixels)
    np.savez(tmp_path / "x.npz", images=pixels)
    shutil.make_archive(str(tmp_path / "x"), "tar", folder)
    assert run(["pack", str(folder), "--out", str(tmp_path / "pack")]) == 0
    counts = {"set": 6, "x.npy": 1, "x.npz": 1, "x.tar": 6, "pack": 1, "set/a/000.png": 1}
    for name, count in counts.items():
        images = load_images(str(tmp_path / name))
        assert len(images.files) == count
        assert all(file.bytes > 0 and file.modified > 0 for file in images.files)
    assert load_images("digits").files == ()


def test_hashes_tell_names_sizes_and_times_apart() -> None:
    files = [File("a", 1, 1), File("a", 1, 2), File("a", 2, 1), File("b", 1, 1)]
    places, times = hashes(files)
    assert len(set(places.tolist())) == 3
    assert len(set(times.tolist())) == 4
    assert places[0] == places[1]
    assert data_check.hashes([])[0].shape == (0,)


def test_paths_of_all_kinds_become_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "set").mkdir()
    monkeypatch.chdir(tmp_path)
    expected = {
        "set": f"{tmp_path}/set",
        "set/x-{0..2}.tar": f"{tmp_path}/set/x-{{0..2}}.tar",
        "hf:set?split=train": f"hf:{tmp_path}/set?split=train",
        "hf:owner/name": "hf:owner/name",
        "digits": "digits",
        "nowhere": "nowhere",
    }
    assert {spec: absolute(spec) for spec in expected} == expected
