"""Hugging Face data sets: images, labels, order and loss of the folder, in place or streamed, and no foreign code."""

from __future__ import annotations

import dataclasses
import importlib
import logging
import shutil
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from eigenview import runfiles
from eigenview.cli import run
from eigenview.config import LoaderConfig, MonitorConfig, RunConfig
from eigenview.data.images import ImageSet, printable
from eigenview.data.load import load_images, load_probe_sets
from eigenview.data.pixels.byte_ranges import as_piece, read_piece
from eigenview.data.sources.folder import scan
from eigenview.data.sources.streams import StreamedSet
from eigenview.engine.data_check import changes, write_files
from eigenview.engine.plan import make_plan
from eigenview.errors import UserError
from eigenview.run import pretrain
from eigenview.runfiles import run_dir
from tests.data.conftest import MakeImages
from tests.data.test_pack import FIELDS, all_of, loss_curve, stop_at
from tests.data.test_shards import png

datasets: Any = importlib.import_module("datasets")

ROWS = LoaderConfig(cache_gb=0)  # images are read in place, or streamed, at every step
CLASSES = ["cat", "dog", "eel"]


@pytest.fixture(autouse=True)
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The library's own cache in the test's folder, no network, no bars while the tests write their data."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "hf-cache")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    datasets.disable_progress_bars()


def features(**more: Any) -> Any:
    return datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=CLASSES), **more})


def table(values: range, contents: dict[int, Any] | None = None) -> Any:
    """Images whose first pixel is their value, of class value % 3; `contents` takes the place of some images."""
    images = {k: {"bytes": png(k), "path": f"{k}.png"} for k in values} | (contents or {})
    return datasets.Dataset.from_dict(
        {"image": [images[k] for k in values], "label": [k % 3 for k in values]}, features=features()
    )


def write_parquet(data: Any, path: Path, **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    data.to_parquet(str(path), **options)
    return path.parent


def written(data: Any, folder: Path, kind: str) -> str:
    """The spec of `data` written to disk in a way of `kind`."""
    if kind.startswith("saved"):
        data.save_to_disk(str(folder), num_shards=min(3, len(data)))
    elif kind.startswith("parquet"):
        half = len(data) // 2
        write_parquet(data.select(range(half)), folder / "train-00000-of-00002.parquet", batch_size=3)
        write_parquet(data.select(range(half, len(data))), folder / "train-00001-of-00002.parquet", batch_size=3)
    else:
        raise ValueError(kind)
    return f"hf:{folder}" + ("?streaming=1" if kind.endswith("streamed") else "")


KINDS = ["saved", "parquet", "saved, streamed", "parquet, streamed"]


def ids(images: ImageSet) -> list[int]:
    return all_of(images)[:, 0, 0, 0].tolist()


def names_of(images: ImageSet) -> list[str]:
    assert images.labels is not None
    return [images.class_names[k] for k in images.labels]


@pytest.mark.parametrize("loader", [LoaderConfig(), ROWS], ids=["cached", "not cached"])
@pytest.mark.parametrize("kind", KINDS)
def test_images_and_labels_in_order(tmp_path: Path, loader: LoaderConfig, kind: str) -> None:
    spec = written(table(range(11)), tmp_path / "set", kind)
    for _ in range(2):  # the second time from the cache, where there is one
        images = load_images(spec, size=20, loader=loader)
        assert ids(images) == list(range(11))
        assert names_of(images) == [CLASSES[k % 3] for k in range(11)]
        assert images.name == "set"
        assert (images.pixels is None) == (loader is ROWS)
        assert isinstance(images, StreamedSet) == (loader is ROWS and "streamed" in kind)
        np.testing.assert_array_equal(images.read(np.array([7, 2, 2])), all_of(images)[[7, 2, 2]])
        assert printable(images.paths[4]).endswith(("/row 0", "/row 4"))  # of its shard, or of the stream
    assert not list((tmp_path / "set").glob("**/*.json.lock"))


def test_the_pieces_are_the_encoded_images(tmp_path: Path) -> None:
    """No copy: what lies at each offset of the Arrow files is the file that was put in, byte for byte."""
    written(table(range(5)), tmp_path / "set", "saved")
    images = load_images(f"hf:{tmp_path / 'set'}", loader=ROWS)
    for k, path in enumerate(images.paths):
        piece = as_piece(path)
        assert piece is not None
        assert Path(piece.file).parent == tmp_path / "set"
        assert read_piece(piece) == png(k)
    assert not (tmp_path / "hf-cache").exists()


def test_a_folder_of_images_through_the_library(tmp_path: Path, make_images: MakeImages) -> None:
    for name in CLASSES:
        make_images(tmp_path / "pets" / "train" / name, 4)
        make_images(tmp_path / "pets" / "test" / name, 2)
    theirs = load_images(str(tmp_path / "pets"))
    for option in ("", "?streaming=1"):
        images = load_images(f"hf:{tmp_path / 'pets'}{option}")
        np.testing.assert_array_equal(all_of(images), all_of(theirs))
        assert names_of(images) == names_of(theirs)
        assert images.name == theirs.name == "pets/train"


def test_a_data_set_of_the_hub_is_taken_from_the_cache_where_the_hub_does_not_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("eigenview.data.sources.hugging_face.why_unreachable", lambda: "the hub does not answer")
    with pytest.raises(UserError, match=r"^hf:someone/set: it is not in the cache.*the hub does not answer.*hf:FOLDER"):
        load_images("hf:someone/set")
    datasets.load_dataset(str(write_parquet(table(range(11)), tmp_path / "set" / "train.parquet")))
    (tmp_path / "hf-cache" / "set").rename(tmp_path / "hf-cache" / "someone___set")
    for option in ("", "?streaming=1"):
        assert ids(load_images(f"hf:someone/set{option}", size=20)) == list(range(11))


def both(tmp_path: Path, kind: str) -> str:
    """Training and test images with the classes of `table`."""
    parts = {"train": table(range(12)), "validation": table(range(20, 26))}
    if kind.startswith("saved"):
        datasets.DatasetDict(parts).save_to_disk(str(tmp_path / "set"))
    else:
        for name, part in parts.items():
            write_parquet(part, tmp_path / "set" / f"{name}-00000-of-00001.parquet")
    return f"hf:{tmp_path / 'set'}?" + ("streaming=1" if kind.endswith("streamed") else "streaming=0")


@pytest.mark.parametrize("kind", KINDS)
def test_splits(tmp_path: Path, kind: str) -> None:
    spec = both(tmp_path, kind)
    assert ids(load_images(spec, size=20)) == list(range(12))
    assert load_images(spec, size=20).name == "set/train"
    assert ids(load_images(spec, size=20, split="test")) == list(range(20, 26))
    assert ids(load_images(spec, size=20, split="all")) == [*range(12), *range(20, 26)]
    assert ids(load_images(f"{spec}&split=validation", size=20)) == list(range(20, 26))
    pair = load_probe_sets(spec, size=20)
    assert pair is not None
    assert [ids(part) for part in pair] == [list(range(12)), list(range(20, 26))]
    assert pair[0].class_names == pair[1].class_names == tuple(CLASSES)
    with pytest.raises(UserError, match=r"split is 'validatoin'; allowed: train, validation\. Did you mean validation"):
        load_images(f"{spec}&split=validatoin")
    with pytest.raises(UserError, match="no test images"):
        load_images(f"{spec}&split=train", split="test")
    one = load_probe_sets(f"{spec}&split=train", size=20)  # a set named alone is split
    assert one is not None
    assert len(one[0]) + len(one[1]) == 12


def test_splits_of_other_names_are_asked_for(tmp_path: Path) -> None:
    datasets.DatasetDict({"fold1": table(range(3)), "fold2": table(range(3))}).save_to_disk(str(tmp_path / "set"))
    with pytest.raises(UserError, match=r"splits fold1, fold2.*split=fold1"):
        load_images(f"hf:{tmp_path / 'set'}")
    assert len(load_images(f"hf:{tmp_path / 'set'}?split=fold2")) == 3


@pytest.mark.parametrize("streaming", [0, 1])
def test_columns(tmp_path: Path, streaming: int) -> None:
    kinds = {"left": datasets.Image(), "right": datasets.Image(), "raw": datasets.Value("binary")}
    kinds |= {"coarse": datasets.ClassLabel(names=["a", "b"]), "fine": datasets.ClassLabel(names=["p", "q", "r"])}
    kinds |= {"number": datasets.Value("int64"), "text": datasets.Value("string"), "score": datasets.Value("float32")}
    columns = {
        "left": [{"bytes": png(k), "path": None} for k in range(4)],
        "right": [{"bytes": png(k + 10), "path": None} for k in range(4)],
        "raw": [png(k + 20) for k in range(4)],
        "coarse": [0, 0, 1, 1],
        "fine": [0, 1, 2, -1],
        "number": [10, 9, 10, 9],
        "text": ["x", "y", "x", "z"],
        "score": [0.5] * 4,
    }
    data = datasets.Dataset.from_dict(columns, features=datasets.Features(kinds))
    folder = write_parquet(data, tmp_path / "set" / "a.parquet")

    def load(options: str) -> ImageSet:
        return load_images(f"hf:{folder}?streaming={streaming}{options}", size=20)

    with pytest.raises(UserError, match=r"image columns left, right.*image=left"):
        load("")
    images = load("&image=right")
    assert ids(images) == [10, 11, 12, 13]
    assert images.labels is None
    assert images.notes == ("no labels: the columns coarse, fine hold some; name one with label=",)
    assert ids(load("&image=raw")) == [20, 21, 22, 23]
    assert names_of(load("&image=left&label=coarse")) == ["a", "a", "b", "b"]
    assert load("&image=left&label=fine").label_notes == ("no labels: 1 of 4 samples have none",)
    numbered = load("&image=left&label=number")
    assert numbered.class_names == ("9", "10")
    assert names_of(numbered) == ["10", "9", "10", "9"]
    assert names_of(load("&image=left&label=text")) == ["x", "y", "x", "z"]
    with pytest.raises(UserError, match=r"column image is 'lefft'; allowed: left \(Image\), .*Did you mean left\?"):
        load("&image=lefft")
    with pytest.raises(UserError, match=r"column label is 'klass'; allowed: left \(Image\)"):
        load("&image=left&label=klass")
    with pytest.raises(UserError, match="image column text is 'string'; allowed: images or their bytes"):
        load("&image=text")
    with pytest.raises(UserError, match="label column score is 'float32'; allowed: class labels, integers or texts"):
        load("&image=left&label=score")


def test_a_set_without_images(tmp_path: Path) -> None:
    data = datasets.Dataset.from_dict({"text": ["a", "b"], "label": [0, 1]})
    for spec in (written(data, tmp_path / "a", "saved"), written(data, tmp_path / "b", "parquet, streamed")):
        with pytest.raises(UserError, match=r"no column of images.*text \(string\), label \(int64\)"):
            load_images(spec)


@pytest.mark.parametrize("kind", KINDS)
def test_empty_splits(tmp_path: Path, kind: str) -> None:
    parts = {"train": table(range(3)), "test": table(range(0))}
    if kind.startswith("saved"):
        datasets.DatasetDict(parts).save_to_disk(str(tmp_path / "set"))
    else:
        for name, part in parts.items():
            write_parquet(part, tmp_path / "set" / f"{name}-00000-of-00001.parquet")
    streaming = "streaming=1" if "streamed" in kind else "streaming=0"
    with pytest.raises(UserError, match=r"split is empty.*split="):
        load_images(f"hf:{tmp_path / 'set'}?{streaming}&split=test")
    assert len(load_images(f"hf:{tmp_path / 'set'}?{streaming}&split=train")) == 3


BROKEN: dict[int, Any] = {
    1: {"bytes": b"no image", "path": "1.png"},
    3: {"bytes": png(3)[:600], "path": "3.png"},
    4: {"bytes": b"", "path": None},
    6: None,
}


@pytest.mark.parametrize("kind", KINDS)
def test_images_that_cannot_be_decoded_are_skipped_with_their_labels(tmp_path: Path, kind: str) -> None:
    spec = written(table(range(11), BROKEN), tmp_path / "set", kind)
    images = load_images(spec, size=20)
    kept = [k for k in range(11) if k not in BROKEN]
    assert ids(images) == kept
    assert names_of(images) == [CLASSES[k % 3] for k in kept]
    reasons = [each.reason for each in images.skipped]
    assert len(reasons) == 4
    assert reasons[0] == "not an image in a format eigenview reads"
    assert reasons[2:] == ["empty file", "empty file"]
    assert "row " in images.skipped[0].path
    for loader in (LoaderConfig(strict=True), LoaderConfig(strict=True, cache_gb=0)):
        with pytest.raises(UserError, match=r"not an image.*--loader\.strict"):
            load_images(spec, size=20, loader=loader)
    with pytest.raises(UserError, match=r"4 of 7 .*unreadable"):
        load_images(written(table(range(7), BROKEN), tmp_path / "most", kind), size=20)


def test_the_library_s_own_settings_are_left_as_they_were(tmp_path: Path) -> None:
    spec = written(table(range(3)), tmp_path / "set", "parquet")
    datasets.enable_progress_bars()
    before = datasets.logging.get_verbosity()
    load_images(spec)
    assert not datasets.are_progress_bars_disabled()
    assert datasets.logging.get_verbosity() == before != logging.CRITICAL


def test_changed_data_are_read_again(tmp_path: Path) -> None:
    for option in ("", "?streaming=1"):
        folder = write_parquet(table(range(4)), tmp_path / f"set{len(option)}" / "a.parquet")
        assert ids(load_images(f"hf:{folder}{option}", size=20)) == [0, 1, 2, 3]
        write_parquet(table(range(10, 15)), folder / "a.parquet")
        images = load_images(f"hf:{folder}{option}", size=20)
        assert ids(images) == [10, 11, 12, 13, 14]
        assert names_of(images) == [CLASSES[k % 3] for k in range(10, 15)]


@pytest.mark.parametrize("kind", KINDS)
def test_a_resumed_run_notices_other_rows(tmp_path: Path, kind: str) -> None:
    """Every kind has a fingerprint: the same data are known, also elsewhere, and others are told apart."""
    first = written(table(range(88)), tmp_path / "set", kind)
    config = RunConfig(data=first, batch_size=8, labels="none", loader=ROWS, monitor=MonitorConfig(images=8))
    (tmp_path / "run").mkdir()
    write_files(tmp_path / "run", make_plan(config))
    assert changes(tmp_path / "run", make_plan(config)) == []
    if kind != "parquet":  # datasets writes it out as Arrow, another file for another place
        shutil.copytree(tmp_path / "set", tmp_path / "moved")
        moved = dataclasses.replace(config, data=first.replace("/set", "/moved"))
        assert changes(tmp_path / "run", make_plan(moved), moved=("train", "probes")) == []
    shutil.rmtree(tmp_path / "set")
    written(table(range(88), {5: {"bytes": png(5) + b"more", "path": "5.png"}}), tmp_path / "set", kind)
    (found,) = changes(tmp_path / "run", make_plan(config))
    assert found.part == "train"
    assert found.other > 0


def photos(root: Path, make_images: MakeImages) -> Any:
    """160 files in two class folders, and the same as a data set in the same order."""
    for name in ("bright", "dark"):
        make_images(root / name, 80, 20)
    files = [file.name for file in scan(root).files]
    kinds = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["bright", "dark"])})
    images = [{"bytes": (root / name).read_bytes(), "path": name} for name in files]
    return datasets.Dataset.from_dict(
        {"image": images, "label": [int("dark" in name) for name in files]}, features=kinds
    )


def stopped_and_resumed(spec: str, out: Path, *options: str) -> None:
    """A run that gets Ctrl-C within the second of its two epochs of ten steps, and goes on to its end."""
    stopper = threading.Thread(target=stop_at, args=(out, 13))
    stopper.start()
    assert run(["pretrain", spec, *FIELDS, *options, "--out", str(out)]) == 130
    stopper.join()
    step = torch.load(out / runfiles.CHECKPOINT, weights_only=True)["global_step"]
    assert 10 < step < 20
    assert pretrain(out=out, resume=True).verdict


IN_PLACE = ("--loader.cache-gb", "0", "--loader.workers", "0")


@pytest.mark.slow
def test_a_run_has_the_folder_s_loss_curve_and_resumes_within_an_epoch(tmp_path: Path, make_images: MakeImages) -> None:
    """In place, and streamed into the cache."""
    data, root = photos(tmp_path / "photos", make_images), str(tmp_path / "photos")
    assert run(["pretrain", root, *FIELDS, "--out", str(tmp_path / "whole")]) == 0
    assert len(loss_curve(tmp_path / "whole")) == 20
    for kind, options in (("saved", IN_PLACE), ("parquet, streamed", ())):
        spec = written(data, tmp_path / kind[:4], kind)
        pairs = [load_probe_sets(each, size=16, seed=0) for each in (root, spec)]
        for part in range(2):
            ours, theirs = (pair[part] for pair in pairs if pair is not None)
            np.testing.assert_array_equal(all_of(ours), all_of(theirs))
            np.testing.assert_array_equal(ours.labels, theirs.labels)  # type: ignore[arg-type]
        stopped_and_resumed(spec, tmp_path / f"run-{kind[:4]}", *options)
        assert loss_curve(tmp_path / f"run-{kind[:4]}") == loss_curve(tmp_path / "whole")


@pytest.mark.parametrize("spec", ["photos-saved", "hf:photos-saved", "hf:sets/photos-saved/?split=train&streaming=1"])
def test_a_run_is_named_after_the_folder(spec: str, tmp_path: Path) -> None:
    with run_dir(None, spec, "vicreg", tmp_path) as directory:
        assert directory == tmp_path / "photos-saved-vicreg-1"
