"""Names and published sets: digits, CIFAR and STL-10 as written by the tests in the published layouts."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits

from eigenview.data.load import load_images, load_probe_sets
from eigenview.data.sources.pickles import read_arrays_pickle
from eigenview.errors import UserError

NAMES = [f"class{i}" for i in range(10)]


def test_digits() -> None:
    images = load_images("digits")
    assert images.source_size == images.size == 16
    assert images.class_names == tuple("0123456789")
    assert images.size_reason.startswith("because")
    pair = load_probe_sets("digits", size=16, seed=3)
    assert pair is not None
    train, test = pair
    assert len(train) + len(test) == 1797 == len(load_images("digits", split="all"))
    np.testing.assert_array_equal(train.read(np.arange(len(train))), images.read(np.arange(len(images))))
    assert train.labels is not None
    assert test.labels is not None
    share = np.bincount(test.labels) / (np.bincount(train.labels) + np.bincount(test.labels))
    np.testing.assert_allclose(share, 0.2, atol=0.005)
    # the pixels themselves: 0..16 to 0..255, no image in both halves, no image lost
    small = load_images("digits", size=8, split="all").read(np.arange(1797))
    np.testing.assert_array_equal(small[:, 1].reshape(1797, 64), np.rint(load_digits().data * 255 / 16))
    rows = {half: load_images("digits", size=8, split=half) for half in ("train", "test")}
    seen = np.concatenate([half.read(np.arange(len(half))).reshape(len(half), -1) for half in rows.values()])
    assert sorted(map(bytes, seen)) == sorted(map(bytes, small.reshape(1797, -1)))


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("digit", "Did you mean digits"),
        ("photos/holiday", "'photos/holiday'.*built-in set.*digits"),
        ("x.npy", "'x.npy'.*path"),
    ],
)
def test_unknown_names(spec: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        load_images(spec)


def test_other_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "set.zip").touch()
    with pytest.raises(UserError, match=r"set.zip.*archive"):
        load_images(str(tmp_path / "set.zip"))


def some_pixels(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 3, 32, 32), dtype=np.uint8)


def write_pickle(path: Path, content: object, protocol: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps(content, protocol=protocol))


def write_cifar10_python(folder: Path, protocol: int) -> tuple[np.ndarray, np.ndarray]:
    for i, name in enumerate([*(f"data_batch_{k}" for k in range(1, 6)), "test_batch"]):
        content = {"data": some_pixels(4, i).reshape(4, 3072), "labels": [i, 1, 2, 3], "filenames": ["a"] * 4}
        write_pickle(folder / name, content, protocol)
    write_pickle(folder / "batches.meta", {"label_names": NAMES}, protocol)
    return np.concatenate([some_pixels(4, i) for i in range(5)]), np.array([[i, 1, 2, 3] for i in range(5)]).ravel()


def write_cifar10_binary(folder: Path, _: int) -> tuple[np.ndarray, np.ndarray]:
    folder.mkdir(parents=True)
    for i, name in enumerate([*(f"data_batch_{k}" for k in range(1, 6)), "test_batch"]):
        labels = np.array([[i], [1], [2], [3]], np.uint8)
        (folder / f"{name}.bin").write_bytes(np.hstack([labels, some_pixels(4, i).reshape(4, -1)]).tobytes())
    (folder / "batches.meta.txt").write_text("\n".join(NAMES) + "\n\n")
    return np.concatenate([some_pixels(4, i) for i in range(5)]), np.array([[i, 1, 2, 3] for i in range(5)]).ravel()


def write_cifar100_python(folder: Path, protocol: int) -> tuple[np.ndarray, np.ndarray]:
    for i, name in enumerate(("train", "test")):
        content = {"data": some_pixels(5, i).reshape(5, 3072), "fine_labels": [9, 0, 1, 2, 4], "coarse_labels": [0] * 5}
        write_pickle(folder / name, content, protocol)
    write_pickle(folder / "meta", {"fine_label_names": NAMES, "coarse_label_names": ["x"]}, protocol)
    return some_pixels(5, 0), np.array([9, 0, 1, 2, 4])


def write_cifar100_binary(folder: Path, _: int) -> tuple[np.ndarray, np.ndarray]:
    folder.mkdir(parents=True)
    labels = np.array([[0, k] for k in (9, 0, 1, 2, 4)], np.uint8)
    for i, name in enumerate(("train", "test")):
        (folder / f"{name}.bin").write_bytes(np.hstack([labels, some_pixels(5, i).reshape(5, -1)]).tobytes())
    (folder / "fine_label_names.txt").write_text("\n".join(NAMES))
    return some_pixels(5, 0), np.array([9, 0, 1, 2, 4])


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize(
    ("usual", "write", "name"),
    [
        ("cifar-10-batches-py", write_cifar10_python, "CIFAR-10"),
        ("cifar-10-batches-bin", write_cifar10_binary, "CIFAR-10"),
        ("cifar-100-python", write_cifar100_python, "CIFAR-100"),
        ("cifar-100-binary", write_cifar100_binary, "CIFAR-100"),
    ],
)
def test_cifar(tmp_path: Path, protocol: int, usual: str, write: Callable[..., tuple], name: str) -> None:
    pixels, labels = write(tmp_path / usual, protocol)
    for spec in (tmp_path, tmp_path / usual):
        images = load_images(str(spec))
        assert (images.name, images.size, images.source_size) == (name, 32, 32)
        assert images.class_names == tuple(NAMES)
        np.testing.assert_array_equal(images.read(np.arange(len(images))), pixels)
        np.testing.assert_array_equal(images.labels, labels)  # type: ignore[arg-type]
    pair = load_probe_sets(str(tmp_path), size=32)
    assert pair is not None
    assert len(pair[0]) == len(images)
    last = 5 if name == "CIFAR-10" else 1
    np.testing.assert_array_equal(pair[1].read(np.arange(len(pair[1]))), some_pixels(len(pair[1]), last))
    assert len(load_images(str(tmp_path), split="all")) == len(pair[0]) + len(pair[1])


def test_cifar_with_missing_or_foreign_parts(tmp_path: Path) -> None:
    folder = tmp_path / "cifar-10-batches-py"
    write_cifar10_python(folder, 2)
    write_cifar100_python(tmp_path / "cifar-100-python", 2)
    with pytest.raises(UserError, match="several data sets"):
        load_images(str(tmp_path))
    write_pickle(folder / "data_batch_2", {"data": np.zeros((2, 5)), "labels": [0, 1]}, 2)
    with pytest.raises(UserError, match=r"data_batch_2.*float64.*\(2, 5\)"):
        load_images(str(folder))
    write_pickle(folder / "data_batch_2", {"data": np.zeros((1, 3072), np.uint8), "labels": [10]}, 2)
    with pytest.raises(UserError, match="do not fit"):
        load_images(str(folder))
    one = np.zeros((1, 3072), np.uint8)
    for content, said in (
        ({"data": one, "labels": [[1, 2], 3]}, r"labels\[0\] is a list of 2 values"),
        ({"data": one, "labels": None}, "labels is None; expected a list"),
        ({"data": one, "labels": [1.5]}, r"labels\[0\] is 1.5; expected a whole number"),
        ({"data": [[1], [2, 3]], "labels": [1]}, "data is list, expected uint8"),
    ):
        write_pickle(folder / "data_batch_2", content, 2)
        with pytest.raises(UserError, match=said):
            load_images(str(folder))
    write_pickle(folder / "data_batch_2", {"labels": [1]}, 2)
    with pytest.raises(UserError, match="has no 'data'"):
        load_images(str(folder))
    (folder / "data_batch_2").unlink()
    with pytest.raises(UserError, match="data_batch_2 is missing"):
        load_images(str(folder))


class Malicious:
    def __init__(self, call: Callable[..., object], *arguments: object) -> None:
        self.reduced = call, arguments

    def __reduce__(self) -> tuple[object, ...]:
        return self.reduced


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_a_pickle_that_runs_commands_is_refused(tmp_path: Path, protocol: int) -> None:
    trace = tmp_path / "executed"
    for call, arguments in (
        (os.system, (f"touch {trace}",)),
        (eval, (f"__import__('pathlib').Path({str(trace)!r}).touch()",)),
    ):
        path = tmp_path / f"batch-{call.__name__}"
        write_pickle(path, {"data": Malicious(call, *arguments), "labels": [0]}, protocol)
        with pytest.raises(UserError, match=rf"it names \w+\.{call.__name__}"):
            read_arrays_pickle(path)
        assert not trace.exists()
        pickle.loads(path.read_bytes())  # the same file does run it where pickles are trusted
        assert trace.exists()
        trace.unlink()


def test_the_whole_way_refuses_it_too(tmp_path: Path) -> None:
    folder = tmp_path / "cifar-10-batches-py"
    write_cifar10_python(folder, 2)
    write_pickle(folder / "batches.meta", Malicious(os.system, f"touch {tmp_path}/executed"), 2)
    with pytest.raises(UserError, match=r"batches\.meta is damaged"):
        load_images(str(folder))
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("content", [b"", b"nonsense", pickle.dumps([1]), pickle.dumps({"a": 1})[:-4]])
def test_damaged_pickles(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "batch").write_bytes(content)
    with pytest.raises(UserError, match="batch"):
        read_arrays_pickle(tmp_path / "batch")


def write_stl10(folder: Path, unlabelled: int) -> dict[str, np.ndarray]:
    folder.mkdir()
    made = {}
    for i, (name, count) in enumerate((("train", 6), ("test", 4), ("unlabeled", unlabelled))):
        made[name] = np.random.default_rng(i).integers(0, 256, (count, 3, 96, 96), dtype=np.uint8)
        if count:
            (folder / f"{name}_X.bin").write_bytes(made[name].transpose(0, 1, 3, 2).tobytes())  # columns first
        if name != "unlabeled":
            (folder / f"{name}_y.bin").write_bytes((np.arange(count) % 3 + 1).astype(np.uint8).tobytes())
    (folder / "class_names.txt").write_text("airplane\nbird\ncar\n")
    return made


@pytest.mark.parametrize("unlabelled", [0, 7])
def test_stl10(tmp_path: Path, unlabelled: int) -> None:
    made = write_stl10(tmp_path / "stl10_binary", unlabelled)
    images = load_images(str(tmp_path))
    expected = made["unlabeled"] if unlabelled else made["train"]
    np.testing.assert_array_equal(images.read(np.arange(len(images))), expected)
    assert (images.labels is None) == bool(unlabelled)
    assert images.size == 96
    pair = load_probe_sets(str(tmp_path), size=96)
    assert pair is not None
    np.testing.assert_array_equal(pair[0].read(np.arange(6)), made["train"])
    np.testing.assert_array_equal(pair[1].read(np.arange(4)), made["test"])
    assert pair[1].labels is not None
    assert pair[1].labels.tolist() == [0, 1, 2, 0]
    assert pair[0].class_names == ("airplane", "bird", "car")
    assert len(load_images(str(tmp_path), split="all")) == 10 + unlabelled
    (tmp_path / "stl10_binary" / "train_X.bin").write_bytes(bytes(100))
    with pytest.raises(UserError, match="cut off"):
        load_probe_sets(str(tmp_path), size=96)
