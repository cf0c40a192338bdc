"""Arrays: every accepted layout gives the same images; errors name what was received and what is allowed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from eigenview.config import LoaderConfig
from eigenview.data import npz
from eigenview.data.load import load_images, load_probe_sets
from eigenview.data.sources import arrays as arrays_module
from eigenview.errors import UnusableLabels, UserError

CHANNELS_FIRST = np.random.default_rng(0).integers(0, 256, (12, 3, 32, 32), dtype=np.uint8)


def save(path: Path, array: np.ndarray) -> str:
    np.save(path, array, allow_pickle=True)
    return str(path)


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("is_last", [False, True])
def test_layouts(tmp_path: Path, order: str, is_last: bool) -> None:
    array = CHANNELS_FIRST.transpose(0, 2, 3, 1) if is_last else CHANNELS_FIRST
    images = load_images(save(tmp_path / "faces.npy", np.asarray(array, order=order)))  # type: ignore[call-overload]
    np.testing.assert_array_equal(images.read(np.arange(12)), CHANNELS_FIRST)
    assert (images.name, images.size, images.source_size, images.labels) == ("faces", 32, 32, None)
    assert "32" in images.size_reason
    np.testing.assert_array_equal(images.take(np.array([3, 1])).read(np.arange(2)), CHANNELS_FIRST[[3, 1]])


@pytest.mark.parametrize("shape", [(12, 32, 32), (12, 32, 32, 1), (12, 1, 32, 32)])
def test_grey_has_three_equal_channels(tmp_path: Path, shape: tuple[int, ...]) -> None:
    grey = CHANNELS_FIRST[:, 0]
    pixels = load_images(save(tmp_path / "grey.npy", grey.reshape(shape))).read(np.arange(12))
    np.testing.assert_array_equal(pixels, np.stack([grey] * 3, 1))


def test_other_sides_are_resized_and_cropped(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = np.repeat(np.arange(10, dtype=np.uint8) * 20, 40 * 60 * 3).reshape(10, 40, 60, 3)
    path = save(tmp_path / "wide.npy", plain)
    for in_memory in (64e6, 0):
        monkeypatch.setattr(arrays_module, "_IN_MEMORY_BYTES", in_memory)
        images = load_images(path)
        assert (images.size, images.source_size, images.side_range) == (32, 37, (40, 40))
        assert images.pixels is not None
        assert images.pixels.shape == (10, 3, 37, 37)
        assert (images.pixels == (np.arange(10, dtype=np.uint8) * 20)[:, None, None, None]).all()
        assert len(list(cache.glob("*.npy"))) == (in_memory == 0)
    # too large for the cache: the centred square of each image as it is, not copied
    own = load_images(path, loader=LoaderConfig(cache_gb=0))
    assert (own.size, own.source_size) == (32, 40)
    assert own.pixels is not None
    assert own.pixels.base is not None
    with pytest.raises(UserError, match=r"enlarged from 40 to 64 px.*cache_gb 0"):
        load_images(path, size=64, loader=LoaderConfig(cache_gb=0))


def test_the_file_is_never_changed(tmp_path: Path) -> None:
    path = save(tmp_path / "a.npy", CHANNELS_FIRST)
    images = load_images(path)
    assert images.pixels is not None
    images.pixels[:] = 0
    np.testing.assert_array_equal(np.load(path), CHANNELS_FIRST)


def test_npz_with_labels(tmp_path: Path) -> None:
    labels = np.array([7, 3] * 6)
    for name, arrays in {
        "ab": {"images": CHANNELS_FIRST, "labels": labels},
        "xy": {"x": CHANNELS_FIRST, "y": labels[:, None], "extra": np.zeros(3)},
    }.items():
        np.savez_compressed(tmp_path / f"{name}.npz", **arrays)  # type: ignore[arg-type]
        images = load_images(str(tmp_path / f"{name}.npz"))
        assert images.class_names == ("3", "7")
        assert images.labels is not None
        assert images.labels.tolist() == [1, 0] * 6
    named = np.where(labels == 7, "seven", "three")
    np.savez(tmp_path / "named.npz", images=CHANNELS_FIRST, labels=named)
    assert load_images(str(tmp_path / "named.npz")).class_names == ("seven", "three")
    pair = load_probe_sets(str(tmp_path / "named.npz"), size=32)
    assert pair is not None
    assert [len(part) for part in pair] == [10, 2]
    np.savez(tmp_path / "plain.npz", CHANNELS_FIRST)
    assert load_images(str(tmp_path / "plain.npz")).labels is None
    assert load_probe_sets(str(tmp_path / "plain.npz"), size=32) is None


def test_npz_with_splits(tmp_path: Path) -> None:
    path = tmp_path / "set.npz"
    halves = {"x_train": CHANNELS_FIRST[:9], "x_test": CHANNELS_FIRST[9:]}
    np.savez(path, **halves, y_train=np.arange(9) % 3, y_test=np.array([2, 2, 0]))
    assert len(load_images(str(path))) == 9
    assert len(load_images(str(path), split="all")) == 12
    pair = load_probe_sets(str(path), size=32)
    assert pair is not None
    train, test = pair
    assert train.class_names == test.class_names == ("0", "1", "2")
    assert test.labels is not None
    assert test.labels.tolist() == [2, 2, 0]
    np.testing.assert_array_equal(test.read(np.arange(3)), CHANNELS_FIRST[9:])
    np.savez(path, **halves)
    assert load_probe_sets(str(path), size=32) is None
    for other in (np.uint16, np.float32):
        np.savez(path, x_train=halves["x_train"], x_test=halves["x_test"].astype(other))
        with pytest.raises(UserError, match=rf"x_train holds uint8, x_test {np.dtype(other)}.*Save both as one type"):
            load_images(str(path))


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (CHANNELS_FIRST.astype(complex), r"complex128.*\(12, 3, 32, 32\).*integers or floats of shape"),
        (CHANNELS_FIRST[:, 0, 0], "integers or floats of shape"),
        (CHANNELS_FIRST[0].transpose(1, 2, 0), "single image"),
        (CHANNELS_FIRST[:, [0, 1]], "no axis.*colour.*1 or 3"),
        (CHANNELS_FIRST[:, :, :, :3], "which axis is colour"),
        (CHANNELS_FIRST[:0], "integers or floats of shape"),
        (np.array([{}, {}]), "never unpickled"),
    ],
)
def test_refused_arrays(tmp_path: Path, array: np.ndarray, message: str) -> None:
    with pytest.raises(UserError, match=message):
        load_images(save(tmp_path / "a.npy", array))
    np.savez(tmp_path / "a.npz", images=array)
    with pytest.raises(UserError, match=message):
        load_images(str(tmp_path / "a.npz"))


def test_an_array_under_the_other_suffix(tmp_path: Path) -> None:
    save(tmp_path / "a.npy", CHANNELS_FIRST)
    (tmp_path / "a.npy").rename(tmp_path / "a.npz")
    np.savez(tmp_path / "b.npz", images=CHANNELS_FIRST)
    (tmp_path / "b.npz").rename(tmp_path / "b.npy")
    for name, hint in (("a.npz", r"call it \.npy"), ("b.npy", "magic string")):
        with pytest.raises(UserError, match=rf"{name} cannot be read.*{hint}"):
            load_images(str(tmp_path / name))


def test_damaged_files(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", CHANNELS_FIRST)
    np.savez_compressed(tmp_path / "a.npz", images=CHANNELS_FIRST)
    for name in ("a.npy", "a.npz"):
        whole = (tmp_path / name).read_bytes()
        for damage in (b"", b"nonsense", whole[:40], whole[:-1000], whole[:3000] + bytes(500) + whole[3500:]):
            if name == "a.npy" and len(damage) == len(whole):
                continue  # other pixel values are no damage that could be seen
            (tmp_path / name).write_bytes(damage)
            with pytest.raises(UserError, match=name):
                load_images(str(tmp_path / name))


@pytest.mark.parametrize("labels", [np.zeros(11, int), np.zeros(12), np.zeros((12, 14), int), np.zeros(12, bool)])
def test_arrays_that_are_no_labels_do_not_keep_the_images_from_being_used(tmp_path: Path, labels: np.ndarray) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, images=CHANNELS_FIRST, labels=labels)
    images = load_images(str(path))
    assert len(images) == 12
    assert images.labels is None
    (note,) = images.label_notes
    assert note.startswith(f"no labels: labels is {labels.dtype} of shape {labels.shape}; labels are integers or text")
    with pytest.raises(UnusableLabels, match="no labels: labels is"):
        load_probe_sets(str(path), size=32)
    halves = {"x_train": CHANNELS_FIRST[:4], "x_test": CHANNELS_FIRST[4:], "y_train": np.arange(4)}
    np.savez(path, **halves, y_test=labels[:8].astype(float))  # type: ignore[arg-type]
    assert load_images(str(path)).labels is None
    with pytest.raises(UnusableLabels, match="no labels: y_test is float64"):
        load_probe_sets(str(path), size=32)


def test_nothing_known_in_the_archive(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", weights=np.zeros(3))
    with pytest.raises(UserError, match=r"weights.*needs images"):
        load_images(str(tmp_path / "a.npz"))
    np.savez(tmp_path / "a.npz", x=CHANNELS_FIRST)
    with pytest.raises(UserError, match="no test images"):
        load_images(str(tmp_path / "a.npz"), split="test")


@pytest.mark.parametrize("order", ["C", "F"])
def test_a_large_array_of_an_archive_is_mapped_unless_it_is_compressed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, order: Any
) -> None:
    monkeypatch.setattr(npz, "_MAPPED_BYTES", 5000)
    images = np.asarray(np.random.default_rng(0).integers(0, 256, (9, 16, 16, 3), dtype=np.uint8), order=order)
    labels = np.arange(9) % 3
    np.savez(tmp_path / "plain.npz", more=np.zeros(7), images=images, labels=labels)
    np.savez_compressed(tmp_path / "packed.npz", images=images, labels=labels)
    plain, packed = (load_images(str(tmp_path / name)) for name in ("plain.npz", "packed.npz"))
    assert isinstance(plain.pixels, np.memmap)
    assert str(plain.pixels.filename) == str(tmp_path / "plain.npz")
    assert not isinstance(packed.pixels, np.memmap)
    np.testing.assert_array_equal(plain.read(np.arange(9)), packed.read(np.arange(9)))
    np.testing.assert_array_equal(plain.labels, labels)
    content = (tmp_path / "plain.npz").read_bytes()
    magic = content.index(b"\x93NUMPY", content.index(b"images.npy"))
    (tmp_path / "plain.npz").write_bytes(content[:magic] + b"x" + content[magic + 1 :])
    with pytest.raises(UserError, match=r"plain\.npz cannot be read as a NumPy file"):
        load_images(str(tmp_path / "plain.npz"))
