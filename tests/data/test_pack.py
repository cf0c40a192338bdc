"""Packs: the same images, labels, order and loss as the source they were made of; written atomically."""

from __future__ import annotations

import json
import os
import resource
import signal
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from eigenview import runfiles
from eigenview.cli import run
from eigenview.config import LoaderConfig
from eigenview.config.reading import Reading
from eigenview.data import packing
from eigenview.data.batches import Batches
from eigenview.data.images import ImageSet
from eigenview.data.load import load_images, load_probe_sets
from eigenview.data.packing import PackOptions, write_pack
from eigenview.data.pixels.byte_ranges import Piece, as_piece
from eigenview.data.sources import files as files_module
from eigenview.data.sources.packs import MANIFEST
from eigenview.errors import UserError
from eigenview.run import pretrain
from tests.data.conftest import MakeImages

ROWS = LoaderConfig(cache_gb=0)  # a pack beyond loader.cache_gb is read row by row


def made(source: Path | str, out: Path, **options: Any) -> Path:
    return write_pack(PackOptions(data=str(source), out=out, **options)).folder


def all_of(images: ImageSet) -> np.ndarray:
    return images.read(np.arange(len(images)))


def assert_same_set(ours: ImageSet, theirs: ImageSet) -> None:
    np.testing.assert_array_equal(all_of(ours), all_of(theirs))
    np.testing.assert_array_equal(ours.labels, theirs.labels)  # type: ignore[arg-type]
    about = ("name", "class_names", "size", "source_size", "size_reason", "side_range", "label_notes")
    assert [getattr(ours, name) for name in about] == [getattr(theirs, name) for name in about]
    assert ours.notes + ours.pixel_notes == theirs.notes + theirs.pixel_notes
    assert [s.reason for s in ours.skipped] == [s.reason for s in theirs.skipped]


def split_folder(root: Path, make_images: MakeImages) -> Path:
    """Six training and three test images of two classes, 30 px, of which one training image is no image."""
    for split, counts in (("train", (4, 2)), ("test", (1, 2))):
        for name, count in zip(("cat", "dog"), counts, strict=True):
            make_images(root / split / name, count, 30)
    (root / "train" / "dog" / "broken.jpg").write_text("no image")
    return root


@pytest.mark.parametrize("loader", [LoaderConfig(), ROWS], ids=["mapped", "row by row"])
def test_a_pack_is_the_folder(tmp_path: Path, make_images: MakeImages, cache: Path, loader: LoaderConfig) -> None:
    root = split_folder(tmp_path / "pets", make_images)
    pack = made(root, tmp_path / "pack")
    assert not cache.exists()  # decoded straight into the pack
    images = load_images(str(pack), loader=loader)
    assert_same_set(images, load_images(str(root)))
    assert (images.pixels is None) == (loader is ROWS)
    size, source = images.size, images.source_size
    ours, theirs = (load_probe_sets(str(e), size=size, source_size=source, loader=loader) for e in (pack, root))
    assert ours is not None
    assert theirs is not None
    for a, b in zip(ours, theirs, strict=True):
        assert_same_set(a, b)
    assert [len(part) for part in ours] == [6, 3]
    everything = load_images(str(pack), split="all", loader=loader)
    np.testing.assert_array_equal(all_of(everything), np.concatenate([all_of(part) for part in ours]))
    assert everything.labels is not None
    assert everything.labels.tolist() == [0, 0, 0, 0, 1, 1, 0, 1, 1]


def test_the_manifest_says_what_was_packed_and_nothing_of_the_machine(tmp_path: Path, make_images: MakeImages) -> None:
    pack = made(split_folder(tmp_path / "pets", make_images), tmp_path / "pack")
    names = {path.name for path in pack.iterdir()}
    assert names == {MANIFEST, "train.npy", "train-labels.npy", "test.npy", "test-labels.npy"}
    text = (pack / MANIFEST).read_text()
    assert str(tmp_path) not in text
    content = json.loads(text)
    assert content["parts"]["train"]["name"] == "pets/train"
    assert content["parts"]["train"]["images"] == 6
    assert content["parts"]["train"]["skipped"] == [
        ["train/dog/broken.jpg", "not an image in a format eigenview reads"]
    ]
    assert np.load(pack / "train.npy").shape == (6, 3, 28, 28)  # plain NumPy files
    assert np.load(pack / "test-labels.npy").tolist() == [0, 1, 1]
    assert load_images(str(pack)).skipped[0].path == "train/dog/broken.jpg"


def test_another_size_than_the_pack_s(tmp_path: Path, make_images: MakeImages) -> None:
    make_images(tmp_path / "set", 3, 64)
    pack = made(tmp_path / "set", tmp_path / "pack", image_size=48)
    images = load_images(str(pack))
    assert (images.size, images.source_size, images.size_reason) == (48, 55, "as asked for")  # 55 = 48 * 8 / 7
    same = load_images(str(pack), size=48)
    np.testing.assert_array_equal(all_of(same), all_of(images))
    small = [load_images(str(pack), size=24, loader=loader) for loader in (LoaderConfig(), ROWS)]
    assert [(each.size, each.source_size) for each in small] == [(24, 27), (24, 27)]
    np.testing.assert_array_equal(all_of(small[0]), all_of(small[1]))
    (note,) = load_images(str(pack), size=64).notes
    assert "holds 55 px, enlarged to 64" in note


def test_arrays_and_digits(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    arrays = {name: rng.integers(0, 256, (n, 20, 24), dtype=np.uint8) for name, n in (("x_train", 30), ("x_test", 10))}
    np.savez(tmp_path / "set.npz", allow_pickle=False, **arrays, y_train=np.arange(30) % 3, y_test=np.arange(10) % 3)
    np.save(tmp_path / "flat.npy", rng.integers(0, 256, (7, 3, 16, 16), dtype=np.uint8))
    for spec in (str(tmp_path / "set.npz"), str(tmp_path / "flat.npy"), "digits"):
        pack = made(spec, tmp_path / "packs" / Path(spec).name)
        assert_same_set(load_images(str(pack)), load_images(spec))
        size = load_images(spec).size
        ours, theirs = (load_probe_sets(each, size=size) for each in (str(pack), spec))
        assert (ours is None) == (theirs is None) == spec.endswith(".npy")
        for a, b in zip(ours or (), theirs or (), strict=True):
            assert_same_set(a, b)
    with pytest.raises(UserError, match="no labelled test images"):
        load_images(str(tmp_path / "packs" / "flat.npy"), split="test")


def test_large_arrays_are_resized_into_the_pack_itself(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("eigenview.data.sources.arrays._IN_MEMORY_BYTES", 0)
    np.save(tmp_path / "set.npy", np.random.default_rng(0).integers(0, 256, (5, 3, 40, 40), dtype=np.uint8))
    pack = made(tmp_path / "set.npy", tmp_path / "pack", image_size=16)
    assert not cache.exists()
    assert {path.name for path in pack.iterdir()} == {MANIFEST, "train.npy"}
    np.testing.assert_array_equal(
        all_of(load_images(str(pack))), all_of(load_images(str(tmp_path / "set.npy"), size=16))
    )


def test_training_images_without_labels_beside_labelled_ones(tmp_path: Path) -> None:
    """STL-10: the probes' training images are not those that are trained on."""
    folder = tmp_path / "stl10_binary"
    folder.mkdir()
    for k, (name, count) in enumerate((("train", 6), ("test", 4), ("unlabeled", 7))):
        rows = np.random.default_rng(k).integers(0, 256, (count, 3, 96, 96), dtype=np.uint8)
        (folder / f"{name}_X.bin").write_bytes(rows.tobytes())
        if name != "unlabeled":
            (folder / f"{name}_y.bin").write_bytes((np.arange(count) % 3 + 1).astype(np.uint8).tobytes())
    (folder / "class_names.txt").write_text("airplane\nbird\ncar\n")
    pack = made(tmp_path, tmp_path / "pack")
    assert_same_set(load_images(str(pack)), load_images(str(tmp_path / "stl10_binary")))
    ours, theirs = (load_probe_sets(str(each), size=96) for each in (pack, folder))
    assert ours is not None
    assert theirs is not None
    for a, b in zip(ours, theirs, strict=True):
        assert_same_set(a, b)
    everything = load_images(str(pack), split="all")
    np.testing.assert_array_equal(all_of(everything), all_of(load_images(str(folder), split="all")))
    assert everything.labels is None
    assert everything.class_names == ()


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_of_rows_are_the_batches_of_the_files(tmp_path: Path, make_images: MakeImages, workers: int) -> None:
    make_images(tmp_path / "set", 9)
    pack = made(tmp_path / "set", tmp_path / "pack")
    sets = [load_images(str(each), loader=ROWS) for each in (tmp_path / "set", pack)]
    ours, theirs = (list(Batches(each, batch_size=4, seed=3, workers=workers, epochs=2)) for each in sets)
    for a, b in zip(ours, theirs, strict=True):
        assert np.array_equal(a["index"], b["index"])  # type: ignore[arg-type]
        assert np.array_equal(a["images"], b["images"])  # type: ignore[arg-type]


def test_strict_and_the_half_rule_are_the_folder_s(tmp_path: Path, make_images: MakeImages) -> None:
    root = split_folder(tmp_path / "pets", make_images)
    with pytest.raises(UserError, match=r"broken\.jpg.*--strict"):
        made(root, tmp_path / "pack", strict=True)
    for k in range(9):
        (root / "train" / "cat" / f"x{k}.jpg").write_text("no image")
    with pytest.raises(UserError, match=r"10 of 16 .*unreadable"):
        made(root, tmp_path / "pack")
    assert {path.name for path in tmp_path.iterdir()} == {"pets"}


def test_an_occupied_folder_is_refused_before_any_work(tmp_path: Path, make_images: MakeImages) -> None:
    make_images(tmp_path / "set", 3)
    pack = made(tmp_path / "set", tmp_path / "pack")
    before = {path: path.stat().st_mtime_ns for path in pack.iterdir()}
    with pytest.raises(UserError, match=r"--out .*pack"):
        made(tmp_path / "set", pack)
    with pytest.raises(UserError, match=r"--out .*other files"):
        made(tmp_path / "set", tmp_path / "set")
    with pytest.raises(UserError, match=r"--out .*is a file"):
        made(tmp_path / "set", pack / MANIFEST)
    assert {path: path.stat().st_mtime_ns for path in pack.iterdir()} == before
    (tmp_path / "empty").mkdir()
    assert len(load_images(str(made(tmp_path / "set", tmp_path / "empty")))) == 3


def test_ctrl_c_and_a_full_disk_leave_nothing(
    tmp_path: Path, make_images: MakeImages, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make_images(tmp_path / "set", 200, 30)
    args = ["pack", str(tmp_path / "set"), "--out", str(tmp_path / "new" / "pack")]
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))  # 200 images of 28 px take 470 kB
    try:
        assert run(args) == 2
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    error = capsys.readouterr().err
    assert f"the pack {tmp_path}/new/pack cannot be written: File too large. Free space, or choose another" in error
    decode_rows, calls = files_module.decode_rows, []

    def stopped(paths: list[str], side: int, reading: Reading) -> tuple[np.ndarray, dict[int, str]]:
        calls.append(len(paths))
        if len(calls) == 4:
            raise KeyboardInterrupt
        return decode_rows(paths, side, reading)

    with monkeypatch.context() as patch:
        patch.setattr(files_module, "decode_rows", stopped)
        assert run(args) == 130
    assert list((tmp_path / "new").iterdir()) == []
    assert run(args) == 0
    assert "200 images of 28 px" in capsys.readouterr().out


def test_what_a_killed_pack_left_is_removed_an_hour_later(tmp_path: Path, make_images: MakeImages) -> None:
    make_images(tmp_path / "set", 3)
    old, running, other = (tmp_path / name for name in (".pack.unfinished-a", ".pack.unfinished-b", ".pack.kept"))
    for folder in (old, running, other):
        folder.mkdir()
        (folder / "train.npy").touch()
        long_ago = time.time() - 2 * packing.ABANDONED_SECONDS
        if folder is not running:
            os.utime(folder / "train.npy", (long_ago, long_ago))
        os.utime(folder, (long_ago, long_ago))
    made(tmp_path / "set", tmp_path / "pack")
    assert [folder.exists() for folder in (old, running, other)] == [False, True, True]


def test_pieces() -> None:
    piece = Piece("a b/ü.npy", "7", 128, 768, 16)
    assert as_piece(piece.path()) == piece
    assert as_piece("a b/ü.npy") is None


FIELDS = ["--epochs", "2", "--batch-size", "16", "--monitor.images", "16", "--monitor.log-every-steps", "1"]
FIELDS += ["--network.projector-hidden", "32", "--network.projector-width", "32", "--probe.few-label-draws", "1"]


def loss_curve(out: Path) -> list[tuple[object, ...]]:
    """All of metrics.jsonl but the clock."""
    rows = runfiles.read_rows(out / runfiles.METRICS)
    return [(row["step"], row["epoch"], row["lr"], row["loss"], row["terms"]) for row in rows]


def stop_at(out: Path, step: int) -> None:
    """Ctrl-C, sent to this process once the run in `out` has logged `step`."""
    deadline = time.monotonic() + 100
    while len(runfiles.read_rows(out / runfiles.METRICS)) < step and time.monotonic() < deadline:
        time.sleep(0.005)
    os.kill(os.getpid(), signal.SIGINT)


def test_a_run_on_the_pack_has_the_folder_s_loss_curve_and_resumes_within_an_epoch(
    tmp_path: Path, make_images: MakeImages
) -> None:
    root, whole, parted = tmp_path / "photos", tmp_path / "whole", tmp_path / "parted"
    for kind, name in enumerate(("bright", "dark")):
        for path in make_images(root / name, 80, 20):
            Image.fromarray(np.asarray(Image.open(path)) // 2 + np.uint8(120 * kind)).save(path)
    pack = made(root, tmp_path / "pack")
    assert run(["pretrain", str(root), *FIELDS, "--out", str(whole)]) == 0
    stopper = threading.Thread(target=stop_at, args=(parted, 13))
    stopper.start()
    assert run(["pretrain", str(pack), *FIELDS, "--out", str(parted)]) == 130
    stopper.join()
    step = torch.load(parted / runfiles.CHECKPOINT, weights_only=True)["global_step"]
    assert 10 < step < 20  # within the second of two epochs of ten steps
    assert pretrain(out=parted, resume=True).verdict
    assert len(loss_curve(whole)) == 20
    assert loss_curve(parted) == loss_curve(whole)
    first, second = (runfiles.read_json(out / runfiles.SUMMARY) for out in (whole, parted))
    assert [first[key] for key in ("verdict", "knn", "linear")] == [second[key] for key in ("verdict", "knn", "linear")]


def test_labels_that_cannot_be_probed_are_packed_all_the_same(tmp_path: Path, make_images: MakeImages) -> None:
    for part, name, count in (("train", "cat", 3), ("train", "dog", 2), ("test", "cat", 1), ("test", "yak", 2)):
        make_images(tmp_path / "set" / part / name, count)
    pack = made(tmp_path / "set", tmp_path / "pack")
    images = load_images(str(pack))
    assert len(images) == 5
    assert "no test images are packed: set/train has the classes cat, dog" in images.label_notes[-1]
    pair = load_probe_sets(str(pack), size=16)
    assert pair is not None
    assert [len(part) for part in pair] == [3, 2]  # split: one of each class to test


@pytest.mark.parametrize("size", ["4097", "1" + "0" * 30, "-1"])
def test_a_side_beyond_all_measure_is_refused(size: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["pack", "digits", "--image-size", size]) == 2
    assert f"--image-size is {size}; allowed: 8 to 4096." in capsys.readouterr().err
