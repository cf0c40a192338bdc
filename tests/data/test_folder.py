"""Folders: which files, which classes, which split, what is skipped, what is refused."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from eigenview.config import LoaderConfig
from eigenview.data.load import load_images, load_probe_sets
from eigenview.data.sources.folder import class_labels, scan, splits_of
from eigenview.errors import UnusableLabels, UserError
from tests.data.conftest import MakeImages

LAZY = LoaderConfig(cache_gb=0)


def ids(pixels: np.ndarray | None) -> list[int]:
    """Which generated images these are: the red value of the first pixel."""
    assert pixels is not None
    return pixels[:, 0, 0, 0].tolist()


def test_nested_mixed_hidden_and_linked(tmp_path: Path, make_images: MakeImages) -> None:
    root = tmp_path / "photos"
    paths = make_images(root, 2)
    make_images(root / "deep" / "deeper", 1)
    make_images(root / ".hidden", 1)
    paths[1].rename(root / "001.PnG")
    (root / ".dot.png").write_bytes(paths[0].read_bytes())
    (root / "notes.txt").write_text("not an image, and not called one")
    (root / "link.png").symlink_to(paths[0])
    (root / "deep" / "round").symlink_to(root)  # a circular link
    make_images(tmp_path / "elsewhere", 1)
    (root / "other").symlink_to(tmp_path / "elsewhere")
    os.mkfifo(root / "pipe.png")  # opening it would block
    names = [file.name for file in scan(root).files]
    assert names == ["000.png", "001.PnG", "deep/deeper/000.png", "link.png", "other/000.png"]
    images = load_images(str(root), size=20)
    assert [os.path.relpath(p, root) for p in images.paths] == names
    assert ids(images.pixels) == [0, 1, 0, 0, 0]
    assert images.labels is None
    assert images.skipped == ()
    assert any("outside" in note for note in images.label_notes)
    assert any("1 .txt, 1 .png that is a pipe" in note for note in images.notes)
    assert any("1 links lead to folders that are read already" in note for note in images.notes)


def test_first_subfolder_is_the_class(tmp_path: Path, make_images: MakeImages) -> None:
    root = tmp_path / "animals"
    make_images(root / "dog" / "2021", 2)
    make_images(root / "cat", 3)
    images = load_images(str(root))
    assert images.class_names == ("cat", "dog")
    assert images.labels is not None
    assert images.labels.dtype == np.int64
    assert images.labels.tolist() == [0, 0, 0, 1, 1]
    assert images.name == "animals"


def test_one_class_is_no_label() -> None:
    assert class_labels(["2021/a.png", "2021/b.png"])[0] is None
    assert class_labels(["a.png", "b.png"]) == (None, (), None)


@pytest.mark.parametrize(("train", "test"), [("train", "test"), ("Training", "val")])
def test_splits(tmp_path: Path, make_images: MakeImages, train: str, test: str) -> None:
    root = tmp_path / "set"
    for name, count in (("cat", 3), ("dog", 2)):
        make_images(root / train / name, count)
        make_images(root / test / name, 1)
    images = load_images(str(root))
    assert len(images) == 5
    assert images.name == f"set/{train}"
    assert "left alone" in images.notes[0]
    assert all(f"/{train}/" in path for path in images.paths)
    assert len(load_images(str(root), split="test")) == 2
    everything = load_images(str(root), split="all")
    assert len(everything) == 7
    assert everything.class_names == ("cat", "dog")
    pair = load_probe_sets(str(root), size=16)
    assert pair is not None
    assert [len(part) for part in pair] == [5, 2]
    assert pair[0].class_names == pair[1].class_names == ("cat", "dog")
    assert pair[1].labels is not None
    assert pair[1].labels.tolist() == [0, 1]


def test_probe_classes_must_be_trained(tmp_path: Path, make_images: MakeImages) -> None:
    for name in ("cat", "dog", "eel"):
        make_images(tmp_path / "train" / name, 2)
    for name in ("cat", "eel"):
        make_images(tmp_path / "test" / name, 1)
    pair = load_probe_sets(str(tmp_path), size=16)
    assert pair is not None
    assert pair[1].labels is not None
    assert pair[1].labels.tolist() == [0, 2]  # the training set's numbers, though the test set has no dog
    assert "dog" in pair[1].label_notes[-1]
    make_images(tmp_path / "test" / "yak", 3)
    pair = load_probe_sets(str(tmp_path), size=16)
    assert pair is not None
    assert pair[1].labels is not None
    assert pair[1].labels.tolist() == [0, 2]  # what both have is probed
    assert "3 of 5 images" in pair[1].label_notes[-2]
    assert "1 class of it (yak) has no images in" in pair[1].label_notes[-2]
    assert load_images(str(tmp_path)).labels is not None


def test_sets_without_common_classes_cannot_be_probed(tmp_path: Path, make_images: MakeImages) -> None:
    for name, classes in (("train", ("cat", "dog")), ("test", ("dog", "eel"))):
        for each in classes:
            make_images(tmp_path / name / each, 2)
    with pytest.raises(UnusableLabels, match=r"train has the classes cat, dog, .*test has dog, eel: one is in both"):
        load_probe_sets(str(tmp_path), size=16)


def test_classes_of_one_image_each_are_no_error_of_the_images(tmp_path: Path, make_images: MakeImages) -> None:
    for i in range(7):
        make_images(tmp_path / "set" / f"c{i}", 1)
    assert len(load_images(str(tmp_path / "set"))) == 7
    with pytest.raises(
        UnusableLabels, match=r"of the 7 classes of set \(c0, c1, c2, c3, c4 and 2 more\), 0 have the 2 images"
    ):
        load_probe_sets(str(tmp_path / "set"), size=16)


def test_the_note_names_the_classes_and_the_switch(tmp_path: Path, make_images: MakeImages) -> None:
    for day in ("2024-05-01", "2024-05-02"):
        make_images(tmp_path / day, 1)
    (note,) = load_images(str(tmp_path)).label_notes
    assert note == "2 subfolders are taken for classes: 2024-05-01, 2024-05-02 (--labels none: they are no classes)"


def test_splits_with_a_year(tmp_path: Path, make_images: MakeImages) -> None:
    make_images(tmp_path / "train2017", 3)
    make_images(tmp_path / "val2017", 2)
    images = load_images(str(tmp_path))
    assert len(images) == 3
    assert images.labels is None
    assert images.name == f"{tmp_path.name}/train2017"
    assert "train2017/ is taken for train, val2017/ for val: 3 images of train2017/ are used, 2 out" in images.notes[0]
    assert splits_of(["train2014", "train2017", "val2017"]) == {"val": "val2017"}  # two years are no split
    assert splits_of(["train", "train2017", "test"]) == {"train": "train", "test": "test"}
    assert splits_of(["train1", "train20170", "2017", "mytrain2017"]) == {}


def test_one_set_is_split_by_class_and_seed(tmp_path: Path, make_images: MakeImages) -> None:
    for name, count in (("cat", 10), ("dog", 5), ("elk", 2), ("one", 1)):
        make_images(tmp_path / "set" / name, count)

    def split(seed: int) -> list[list[str]]:
        pair = load_probe_sets(str(tmp_path / "set"), size=16, seed=seed)
        assert pair is not None
        train, test = pair
        assert train.class_names == test.class_names == ("cat", "dog", "elk")
        assert test.labels is not None
        assert train.labels is not None
        assert np.bincount(test.labels).tolist() == [2, 1, 1]
        assert np.bincount(train.labels).tolist() == [8, 4, 1]
        for part in pair:
            assert part.labels is not None
            named = [part.class_names[k] for k in part.labels]
            assert named == [Path(path).parent.name for path in part.paths]
        assert any("single image left out of the probes: one" in note for note in train.label_notes)
        assert not set(train.paths) & set(test.paths)
        return [list(train.paths), list(test.paths)]

    assert split(0) == split(0)
    assert split(0) != split(1)


def test_unlabelled_folders_have_no_probe_sets(tmp_path: Path, make_images: MakeImages) -> None:
    make_images(tmp_path / "flat", 4)
    assert load_probe_sets(str(tmp_path / "flat"), size=16) is None


def test_unlabelled_test_folder_is_not_used(tmp_path: Path, make_images: MakeImages) -> None:
    make_images(tmp_path / "set" / "train" / "cat", 5)
    make_images(tmp_path / "set" / "train" / "dog", 5)
    make_images(tmp_path / "set" / "test", 3)
    pair = load_probe_sets(str(tmp_path / "set"), size=16)
    assert pair is not None
    assert [len(part) for part in pair] == [8, 2]
    for name in ("cat", "dog"):
        make_images(tmp_path / "set" / "val" / name, 2)
    pair = load_probe_sets(str(tmp_path / "set"), size=16)
    assert pair is not None
    assert [len(part) for part in pair] == [10, 4]


@pytest.mark.parametrize(
    ("side", "size", "source", "reason"),
    [
        (9, 16, 16, "at least 16"),
        (41, 32, 37, "because the median side is 41"),
        (32, 32, 32, "because the median side is 32"),
        (256, 224, 224, "because the median side is 256"),
        (300, 224, 256, "because the median side is 300"),
    ],
)
def test_size_follows_the_median(
    tmp_path: Path, make_images: MakeImages, side: int, size: int, source: int, reason: str
) -> None:
    make_images(tmp_path / "set", 2, side)
    make_images(tmp_path / "set" / "large", 1, 2 * side)
    images = load_images(str(tmp_path / "set"))
    assert (images.size, images.source_size) == (size, source)
    assert images.pixels is not None
    assert images.pixels.shape == (3, 3, source, source)
    assert images.side_range == (side, 2 * side)
    assert reason in images.size_reason
    asked = load_images(str(tmp_path / "set"), size=24)
    assert asked.size == 24


def broken_folder(tmp_path: Path, make_images: MakeImages, sound: int, cut: int, text: int) -> Path:
    root = tmp_path / "photos"
    make_images(root, sound)
    for path in make_images(root / "cut", cut):
        path.write_bytes(path.read_bytes()[:600])
    (root / "text").mkdir()
    for i in range(text):
        (root / "text" / f"{i}.jpg").write_text("no image")
    return root


def test_unreadable_files_are_skipped_and_listed(tmp_path: Path, make_images: MakeImages) -> None:
    root = broken_folder(tmp_path, make_images, 4, 2, 1)
    images = load_images(str(root), size=20)
    assert ids(images.pixels) == [0, 1, 2, 3]
    assert len(images.paths) == 4
    reasons = {os.path.relpath(s.path, root): s.reason for s in images.skipped}
    assert set(reasons) == {"cut/000.png", "cut/001.png", "text/0.jpg"}
    assert "not an image" in reasons["text/0.jpg"]
    assert load_images(str(root), size=20).skipped == images.skipped  # and the cache remembers


def test_strict_names_the_first_unreadable_file(tmp_path: Path, make_images: MakeImages) -> None:
    root = broken_folder(tmp_path, make_images, 4, 2, 1)
    for _ in range(2):
        with pytest.raises(UserError, match=r"text/0\.jpg.*not an image"):
            load_images(str(root), loader=LoaderConfig(strict=True))
        load_images(str(root))  # fills the cache, which must not hide the file from the next round
    (root / "text" / "0.jpg").unlink()
    with pytest.raises(UserError, match=r"cut/000\.png"):
        load_images(str(root), loader=LoaderConfig(strict=True))


@pytest.mark.parametrize(("cut", "text"), [(0, 3), (3, 0)])
def test_more_than_half_unreadable(tmp_path: Path, make_images: MakeImages, cache: Path, cut: int, text: int) -> None:
    root = broken_folder(tmp_path, make_images, 2, cut, text)
    with pytest.raises(UserError, match=r"3 of 5 .*unreadable"):
        load_images(str(root))
    assert not list(cache.glob("*.npy"))
    assert not list(cache.glob(".*"))


def test_nothing_to_read(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"holds no images.*empty"):
        load_images(str(tmp_path / "empty"))
    (tmp_path / "empty" / "a.txt").touch()
    (tmp_path / "empty" / "b.heic").touch()
    with pytest.raises(UserError, match=r"2 other .*1 \.(txt|heic), 1 \.(heic|txt)"):
        load_images(str(tmp_path / "empty"))
    (tmp_path / "empty" / "c.jpg").touch()
    with pytest.raises(UserError, match=r"1 of 1 .*empty file"):
        load_images(str(tmp_path / "empty"))


def test_one_image(tmp_path: Path, make_images: MakeImages) -> None:
    (path,) = make_images(tmp_path / "set", 1)
    for spec in (path.parent, path):
        images = load_images(str(spec))
        assert len(images) == 1
        assert images.paths == (str(path),)


def test_dangling_link_is_listed(tmp_path: Path, make_images: MakeImages) -> None:
    make_images(tmp_path / "set", 2)
    (tmp_path / "set" / "gone.jpg").symlink_to(tmp_path / "nowhere")
    (skipped,) = load_images(str(tmp_path / "set")).skipped
    assert skipped.reason == "No such file or directory"


def test_an_entry_that_cannot_be_looked_at_is_lost_alone(tmp_path: Path, make_images: MakeImages) -> None:
    root = tmp_path / "set"
    for name in ("cat", "dog"):
        make_images(root / name, 3)
    for name in ("round", "round.png"):
        (root / "cat" / name).symlink_to(root / "cat" / name)
        (root / name).symlink_to(root / name)
    (root / "dog" / "through.png").symlink_to(root / "dog" / "000.png" / "below")
    images = load_images(str(root), size=20)
    assert len(images) == 6
    assert sorted(os.path.relpath(each.path, root) for each in images.skipped) == [
        "cat/round",
        "cat/round.png",
        "dog/through.png",
        "round",
        "round.png",
    ]
