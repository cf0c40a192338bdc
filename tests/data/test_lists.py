"""Lists of files and folders, and patterns: which files, which names, which classes, what is refused."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from eigenview.commands import pretrain
from eigenview.data.images import ImageSet
from eigenview.data.load import absolute, find_source, load_images, load_probe_sets
from eigenview.errors import UserError
from eigenview.runfiles.directory import set_name
from tests.data.conftest import MakeImages


@pytest.fixture
def root(tmp_path: Path, make_images: MakeImages) -> Path:
    """Two folders a/ and b/ with the classes cat and dog, and flat/."""
    for folder in ("a/cat", "a/dog", "b/cat", "b/dog", "flat"):
        make_images(tmp_path / folder, 2)
    return tmp_path


def names(images: ImageSet, root: Path) -> list[str]:
    return [str(Path(path).relative_to(root)) for path in images.paths]


def classes(images: ImageSet) -> list[str] | None:
    return None if images.labels is None else [images.class_names[k] for k in images.labels]


def listed(root: Path, *lines: str) -> ImageSet:
    (root / "list.txt").write_text("\n".join(lines))
    return load_images(str(root / "list.txt"), size=20)


def test_a_list_of_folders_has_the_classes_of_each(root: Path) -> None:
    images = listed(root, "b", "", "a/", f"{root}/a/cat/000.png")
    assert names(images, root) == [f"{f}/{c}/00{i}.png" for f in "ab" for c in ("cat", "dog") for i in range(2)]
    assert [file.name for file in images.files] == names(images, root)
    assert classes(listed(root, "b", "a")) == ["cat", "cat", "dog", "dog"] * 2
    assert images.name == "list"
    # as if it was given alone
    alone, folder = listed(root, "a"), load_images(str(root / "a"), size=20)
    assert (alone.paths, alone.files, classes(alone)) == (folder.paths, folder.files, classes(folder))


def test_listed_folders_without_subfolders_are_the_classes(root: Path) -> None:
    images = listed(root, "a/cat", "b/cat", "flat")
    assert classes(images) == ["cat"] * 4 + ["flat"] * 2
    assert any("2 subfolders are taken for classes: cat, flat" in note for note in images.label_notes)
    assert classes(listed(root, "flat")) is None


def test_listed_files_have_the_first_folder_below_the_one_they_share(root: Path) -> None:
    assert classes(listed(root, "a/cat/000.png", "a/dog/001.png", "a/dog/001.png")) == ["cat", "dog"]
    assert classes(listed(root, "a/cat/000.png", "flat/001.png")) == ["a", "flat"]
    images = listed(root, "a/cat/000.png", "a/cat/001.png")
    assert classes(images) is None
    assert [file.name for file in images.files] == ["000.png", "001.png"]


def test_moved_data_have_the_same_names(root: Path) -> None:
    before = listed(root, "a", "flat/000.png")
    shutil.copytree(root, root / "moved" / "set", ignore=shutil.ignore_patterns("cache", "moved"))
    after = load_images(str(root / "moved" / "set" / "list.txt"), size=20)
    assert [file[:2] for file in before.files] == [file[:2] for file in after.files]


@pytest.mark.parametrize(
    ("pattern", "expected", "of_class"),
    [
        ("a/**/*.png", [f"a/{c}/00{i}.png" for c in ("cat", "dog") for i in range(2)], ["cat"] * 2 + ["dog"] * 2),
        ("[ab]/cat/*", [f"{f}/cat/00{i}.png" for f in "ab" for i in range(2)], ["a"] * 2 + ["b"] * 2),
        ("?/dog", [f"{f}/dog/00{i}.png" for f in "ab" for i in range(2)], None),
        ("*/00[1-9].png", ["flat/001.png"], None),
    ],
)
def test_patterns(
    root: Path, monkeypatch: pytest.MonkeyPatch, pattern: str, expected: list[str], of_class: list[str] | None
) -> None:
    images = load_images(f"{root}/{pattern}", size=20)
    assert names(images, root) == expected
    assert classes(images) == of_class
    monkeypatch.chdir(root)
    assert [file.name for file in load_images(pattern, size=20).files] == [file.name for file in images.files]
    assert absolute(pattern) == f"{root}/{pattern}"


def test_other_files_are_counted_and_a_folder_of_that_name_is_no_pattern(root: Path, make_images: MakeImages) -> None:
    (root / "flat" / "notes.md").write_text("")
    assert any("1 files are not used: 1 .md" in note for note in load_images(f"{root}/flat/*").notes)
    assert any("1 files are not used: 1 .md" in note for note in listed(root, "flat").notes)
    make_images(root / "a[1]", 3)
    assert len(load_images(str(root / "a[1]"))) == 3
    assert set_name(str(root / "a[1]")) == "a[1]"
    assert set_name("sets/photos/**/*.jpg") == "photos"
    assert set_name("hf:sets/photos?split=train") == "photos"


def test_a_csv_is_a_list_with_labels_and_splits(root: Path) -> None:
    rows = ["path,label,split", "a/cat/000.png,1,train", "a/cat/001.png,2,train", "b/cat/000.png,1,test"]
    rows += ["b/cat/001.png,2,test", "flat/000.png,,"]
    (root / "list.csv").write_text("\n".join(rows))
    images = load_images(str(root / "list.csv"), size=20)
    assert classes(images) == ["1", "2", "2"]  # the last one is -1
    assert images.labels is not None
    assert images.labels.tolist() == [0, 1, -1]
    sets = load_probe_sets(str(root / "list.csv"), size=20)
    assert sets is not None
    assert [names(each, root / "ab"[i]) for i, each in enumerate(sets)] == [["cat/000.png", "cat/001.png"]] * 2
    assert load_images(str(root / "list.csv"), source=find_source(str(root / "list.csv"), "none")).labels is not None
    (root / "list.csv").write_text("path\na/cat/000.png\na/dog/000.png\n")
    assert classes(load_images(str(root / "list.csv"), size=20)) == ["cat", "dog"]  # no column label: the folders
    with pytest.raises(UserError, match="no test images"):
        load_images(str(root / "list.csv"), split="test")


def test_bad_lists_and_patterns_are_one_line(root: Path) -> None:
    for content, message in [
        (b"a\ngone\n\nb/gone.png\n", r"2 of 3 paths do not exist, the first in line 2: gone\. Paths are relative to"),
        (b"\n \n", "is empty; a list has the path"),
        (b"\xff\xfe\0a", r"no text in UTF-8 \(byte 0 is 0xff\)"),
        (b"list.txt\n", r"names no images: it names 1 \.txt\. Image files are"),
    ]:
        (root / "list.txt").write_bytes(content)
        with pytest.raises(UserError, match=message):
            load_images(str(root / "list.txt"))
    (root / "list.csv").write_text("path,label\n")
    with pytest.raises(UserError, match="has no row"):
        find_source(str(root / "list.csv"))
    with pytest.raises(UserError, match="matches no file and no folder"):
        find_source(f"{root}/*/*.jpg")
    (root / "empty").mkdir()
    with pytest.raises(UserError, match="names no images: its folders are empty"):
        listed(root, "empty")
    with pytest.raises(UserError, match=r"Unrecognized options: b\. Images are one argument: quote a pattern"):
        pretrain.main(["a", "b"])
