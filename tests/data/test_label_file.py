"""Labels from a CSV file: which rows, which images, which splits, what is noted, what is refused."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from eigenview.config import ProbeConfig
from eigenview.data.images import ImageSet
from eigenview.data.load import absolute_labels, find_source, load_images, load_probe_sets
from eigenview.data.packing import PackOptions, write_pack
from eigenview.data.sources.label_file import read_label_file
from eigenview.data.splitting import fitting_images
from eigenview.errors import UnusableLabels, UserError
from tests.data.conftest import MakeImages

ROWS = [("a/000.png", "cat"), ("a,b/é.png", "dog")]


def labelled(data: Path, csv: Path | str, split: str = "train", beside: Path | None = None) -> ImageSet:
    source = find_source(str(data), str(csv), beside=None if beside is None else str(beside))
    return load_images(str(data), size=20, split=split, source=source)  # type: ignore[arg-type]


def pair(data: Path, csv: Path) -> tuple[ImageSet, ImageSet]:
    sets = load_probe_sets(str(data), size=20, source=find_source(str(data), str(csv)))
    assert sets is not None
    return sets


def by_name(images: ImageSet) -> dict[str, str | None]:
    """The label of each image, by the last two parts of its path."""
    assert images.labels is not None
    names = ["/".join(path.split("/")[-2:]) for path in images.paths]
    labels = [None if k < 0 else images.class_names[k] for k in images.labels]
    return dict(zip(names, labels, strict=True))


@pytest.fixture
def root(tmp_path: Path, make_images: MakeImages) -> Path:
    """data/a and data/b with four images each."""
    make_images(tmp_path / "data" / "a", 4)
    make_images(tmp_path / "data" / "b", 4)
    return tmp_path


def write(path: Path, *rows: str) -> Path:
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return path


@pytest.mark.parametrize(
    "text",
    [
        'path,label\na/000.png,cat\n"a,b/é.png",dog\n',
        'a/000.png,cat\n"a,b/é.png",dog',  # without names
        '\ufeffPath,Label\r\na/000.png,cat\r\n"a,b/é.png",dog\r\n',  # as spreadsheets write it
        'label,other,filename\ncat,1,a/000.png\n\ndog,2,"a,b/é.png"\n',  # other order, other columns, an empty line
        "image;class\na/000.png; cat \na,b/é.png;dog\n",
        "path\tlabel\na/000.png\tcat\na,b/é.png\tdog\n",
        'path,label,about\ra/000.png,cat,"two\u2028lines\x0b"\r"a,b/é.png",dog,\x85\r',  # only CR and LF end a line
    ],
    ids=["names", "no names", "mark and CRLF", "order", "semicolons", "tabs", "CR"],
)
def test_rows_of_the_spellings_of_a_csv(tmp_path: Path, text: str) -> None:
    (tmp_path / "labels.csv").write_bytes(text.encode())
    found = read_label_file(tmp_path / "labels.csv")
    assert [(row.path, row.label) for row in found.rows] == ROWS
    assert not found.has_split


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "has no row; give a row for each image"),
        (b"path,label\n", "has no row"),
        (b"path,kind\na.png,cat\n", r"has no column label: its columns are path, kind\. Name one label"),
        (b"a.png\nb.png\n", r"has no column label: it has one column, such as a\.png"),
        (b"a.png,1,2,3\n", "has 4 columns"),
        (b"path,label\na.png,\nb.png,cat\nc.png, \n", "2 of 3 rows have no label, the first in line 2"),
        (b"path,label\na.png,cat\nb.png\n", "1 of 2 rows has no label, the first in line 3"),
        (b"path,label\n,cat\n", "1 of 1 rows has no path, the first in line 2"),
        (b"a.png,cat,train\nb.png,cat,exam\n", "1 of 2 rows has a split other than train, test and val, .* line 2"),
        (b"a.png,cat,train\nb.png,dog,train\n", "all rows have the split train"),
        (b"\x89PNG\r\n\x1a\n\0\0", r"no text in UTF-8 \(byte 0 is 0x89\)"),
        ("path,label\na.png,cat".encode("utf-16"), r"no text in UTF-8 \(byte 0 is 0xff\)"),
        (b"path,label\na\0.png,cat\n", "it holds zero bytes"),
        (b'path,label\n"a.png,cat\n', "line 2: .*Save it again as CSV"),
        (b"path,label\n" + b"a" * 200_000 + b",cat\n", "line 2: field larger than field limit"),
    ],
)
def test_files_that_are_no_labels(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "labels.csv").write_bytes(content)
    with pytest.raises(UserError, match=message) as caught:
        read_label_file(tmp_path / "labels.csv")
    assert "\n" not in str(caught.value)


def test_damaged_files_are_read_or_refused_in_one_line(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    whole = np.frombuffer(
        b'\xef\xbb\xbfpath,label,split\r\n"a,1.png",cat,train\r\nb.png,dog,test\n\n"c.png",1,val\n', np.uint8
    )
    refused: list[str] = []
    for _ in range(300):
        damaged = whole.copy()
        damaged[draw.integers(0, len(whole), 3)] = draw.choice(np.frombuffer(b'",;\t\r\n\0\xff\x85', np.uint8), 3)
        (tmp_path / "labels.csv").write_bytes(damaged[: draw.integers(1, len(whole) + 1)].tobytes())
        try:
            assert read_label_file(tmp_path / "labels.csv").rows
        except UserError as error:
            refused.append(str(error))
    assert 0 < len(refused) < 300
    assert not any("\n" in message for message in refused)


def test_values_that_name_no_file(tmp_path: Path, root: Path) -> None:
    with pytest.raises(UserError, match=r"no such file; allowed: auto, none, or a CSV file .* Did you mean none\?"):
        find_source(str(root / "data"), "non")
    with pytest.raises(UserError, match="is no file"):
        find_source(str(root / "data"), str(tmp_path))
    assert absolute_labels("none") == "none"
    assert absolute_labels("labels.csv") == f"{Path.cwd()}/labels.csv"


def test_images_are_found_below_data_beside_the_file_and_by_absolute_paths(root: Path) -> None:
    """Of data/a all images are also named relative to the folder of the file."""
    data = root / "data"
    file = write(root / "labels.csv", "a/000.png,2", "data/a/001.png,10", f"{data}/b/000.png,1", "b\\001.png,10")
    images = labelled(data, file)
    assert images.class_names == ("1", "2", "10")  # numbers in their order
    expected = {"a/000.png": "2", "a/001.png": "10", "b/000.png": "1", "b/001.png": "10"}
    assert by_name(images) == dict.fromkeys([f"{c}/00{i}.png" for c in "ab" for i in range(4)]) | expected
    assert images.label_notes == (
        "4 of 8 images of data have a label in labels.csv, of 3 classes (1, 2, 10); the other 4 have no row and are "
        "not probed",
    )
    assert len(labelled(data, file, "all")) == 8


def test_probes_split_the_labelled_images_alone(root: Path) -> None:
    rows = [f"{folder}/{i:03}.png,{'cat' if i % 2 else 'dog'}" for folder in "ab" for i in range(3)]
    train, test = pair(root / "data", write(root / "labels.csv", *rows))
    names = {**by_name(train), **by_name(test)}
    assert len(names) == len(train) + len(test) == 6
    assert names == {row.partition(",")[0]: row.partition(",")[2] for row in rows}
    assert set(by_name(test).values()) == {"cat", "dog"}


def test_a_column_split_decides_what_is_trained_on_and_probed(root: Path) -> None:
    rows = ["a/000.png,cat,train", "a/001.png,dog,train", "a/002.png,cat,test", "a/003.png,dog,test"]
    rows += ["b/000.png,cat,val", "b/001.png,bird,train"]
    file = write(root / "labels.csv", "path,label,split", *rows)
    train, test = pair(root / "data", file)
    assert by_name(train) == {"a/000.png": "cat", "a/001.png": "dog", "b/001.png": "bird"}
    assert by_name(test) == {"a/002.png": "cat", "a/003.png": "dog"}
    assert train.class_names == test.class_names == ("bird", "cat", "dog")
    trained = labelled(root / "data", file)
    assert by_name(trained) == by_name(train) | {"b/002.png": None, "b/003.png": None}
    assert len(labelled(root / "data", file, "all")) == 8
    # without test the images marked val are tested
    file = write(root / "labels.csv", *(row.replace("test", "val") for row in rows))
    assert len(pair(root / "data", file)[1]) == 3


def test_folders_train_and_test_are_the_splits_without_that_column(tmp_path: Path, make_images: MakeImages) -> None:
    data = tmp_path / "data"
    make_images(data / "train", 4)
    make_images(data / "test", 2)
    rows = [f"{part}/{i:03}.png,{i % 2}" for part, count in (("train", 4), ("test", 2)) for i in range(count)]
    train, test = pair(data, write(tmp_path / "labels.csv", *rows))
    assert by_name(train) == {f"train/{i:03}.png": f"{i % 2}" for i in range(4)}
    assert by_name(test) == {f"test/{i:03}.png": f"{i % 2}" for i in range(2)}
    # with the column the file decides alone
    swapped = [f"{row},{'test' if row.startswith('train') else 'train'}" for row in rows]
    train, test = pair(data, write(tmp_path / "labels.csv", *swapped))
    assert sorted(by_name(train)) == ["test/000.png", "test/001.png"]
    assert len(labelled(data, tmp_path / "labels.csv")) == 2
    # rows for train alone: it is split
    train, test = pair(data, write(tmp_path / "labels.csv", *rows[:4]))
    assert {*by_name(train), *by_name(test)} == {f"train/{i:03}.png" for i in range(4)}


def test_rows_that_do_not_fit_the_images(root: Path, make_images: MakeImages) -> None:
    data = root / "data"
    wrong = write(root / "labels.csv", "a/000.png,cat", "a/9.png,cat", "c/1.png,dog")
    with pytest.raises(UserError, match=r"2 of 3 rows name no file, the first in line 2: a/9\.png\. Paths are"):
        labelled(data, wrong)
    with pytest.raises(UserError, match=r"first in line 1: name\. If line 1 names the columns, call them path"):
        labelled(data, write(root / "labels.csv", "name,kind", "a/000.png,cat"))
    twice = write(root / "labels.csv", "a/000.png,cat", "a/001.png,dog", "a/./000.png,dog", "a/001.png,dog")
    with pytest.raises(UserError, match=r"1 image has two labels .*000\.png: cat in line 1, dog in line 3"):
        labelled(data, twice)
    one = write(root / "labels.csv", "a/001.png,cat", "a/000.png,cat")
    assert len(labelled(data, one)) == 8
    with pytest.raises(UnusableLabels, match=r"class cat \(the first in line 1: a/001\.png\), and probes need two"):
        pair(data, one)
    make_images(root / "others", 1)
    with pytest.raises(UserError, match=r"names none of the 8 images of data; its first row names others/000\.png"):
        labelled(data, write(root / "labels.csv", "others/000.png,cat"))


def test_rows_of_unreadable_files_are_no_error(root: Path) -> None:
    (root / "data" / "a" / "000.png").write_bytes(b"broken")
    (root / "data" / "b" / "gone.png").symlink_to("nowhere")
    images = labelled(root / "data", write(root / "labels.csv", "a/000.png,1", "b/gone.png,2", "a/001.png,3"))
    assert (len(images), len(images.skipped)) == (7, 2)
    assert images.class_names == ("3",)


def test_it_may_label_another_set_as_well_or_alone(root: Path, make_images: MakeImages) -> None:
    """Of two sets, such as --probe-data beside DATA, the one that no row names keeps its own labels."""
    make_images(root / "probes" / "x", 2)
    make_images(root / "probes" / "y", 2)
    file = write(root / "labels.csv", "x/000.png,cat", "x/001.png,dog", "y/000.png,cat", "y/001.png,dog")
    ours = labelled(root / "data", file, beside=root / "probes")
    assert ours.class_names == ("a", "b")
    assert any("names no image of data, whose own labels are used" in note for note in ours.label_notes)
    assert labelled(root / "probes", file, beside=root / "data").class_names == ("cat", "dog")
    with pytest.raises(UserError, match="rows name no file"):
        labelled(root / "data", file)


def test_images_in_shards_are_named_below_their_tar(root: Path) -> None:
    shutil.make_archive(str(root / "shards" / "x"), "tar", root / "data")
    rows = [f"x.tar/{folder}/{i:03}.png,{i % 2}" for folder in "ab" for i in range(4)]
    file = write(root / "labels.csv", *rows)
    images = labelled(root / "shards", file)
    assert images.labels is not None
    assert images.labels.tolist() == [0, 1] * 4
    with pytest.raises(UserError, match=r"1 of 9 rows names no file, the first in line 9: x\.tar/c\.png"):
        labelled(root / "shards", write(file, *rows, "x.tar/c.png,1"))


def test_images_without_paths_are_refused(root: Path) -> None:
    np.save(root / "x.npy", np.zeros((4, 16, 16, 3), np.uint8))
    file = write(root / "labels.csv", "a,1", "b,2")
    for data in (str(root / "x.npy"), "digits"):
        with pytest.raises(UserError, match=r"names images by their paths, and the images of .* have none"):
            find_source(data, str(file))


def test_a_pack_keeps_them(root: Path) -> None:
    file = write(root / "labels.csv", *(f"{folder}/{i:03}.png,{i % 2}" for folder in "ab" for i in range(3)))
    write_pack(PackOptions(data=str(root / "data"), labels=str(file), out=root / "pack"))
    packed = load_images(str(root / "pack"))
    assert packed.labels is not None
    assert packed.labels.tolist() == [0, 1, 0, -1] * 2
    sets = load_probe_sets(str(root / "pack"), size=20)
    assert sets is not None
    assert len(sets[0]) + len(sets[1]) == 6


def test_a_share_of_the_labels_is_drawn_from_each_class_alike(root: Path, make_images: MakeImages) -> None:
    make_images(root / "data" / "c", 1)
    images = load_images(str(root / "data"), size=20)
    half = fitting_images(images, ProbeConfig(label_fraction=0.5), seed=0)
    assert half.labels is not None
    assert half.labels.tolist() == [0, 0, 1, 1, 2]  # of the only image of c at least one
    assert half.label_notes[-1].startswith("probes use 5 of 9 training labels (label fraction 0.5)")
    assert half.paths == fitting_images(images, ProbeConfig(label_fraction=0.5), seed=0).paths
    draws = {fitting_images(images, ProbeConfig(label_fraction=0.5), seed=seed).paths for seed in range(8)}
    assert len(draws) > 1
    assert len(fitting_images(images, ProbeConfig(label_fraction=0.5, images=2), seed=0)) == 2
    assert fitting_images(images, ProbeConfig(), seed=0) is images
