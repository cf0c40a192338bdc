"""The cache of a folder: reused, rebuilt, repaired, a full disk, and no cache."""

from __future__ import annotations

import json
import os
import resource
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from eigenview import runfiles
from eigenview.config import LoaderConfig, RunConfig
from eigenview.config.reading import Reading
from eigenview.data.load import find_source, load_images
from eigenview.data.pixels import cache as cache_module
from eigenview.data.pixels import image_files as files_of_images
from eigenview.data.sources import files as files_module
from eigenview.data.sources import tar_index
from eigenview.engine.plan import make_plan
from eigenview.errors import UserError
from tests.data.conftest import MakeImages
from tests.data.test_folder import LAZY, ids


def test_a_single_image_leaves_the_cache_of_its_folder(tmp_path: Path, make_images: MakeImages, cache: Path) -> None:
    paths = make_images(tmp_path / "set", 3)
    load_images(str(tmp_path / "set"), size=20)
    (kept,) = cache.glob("*.npy")
    load_images(str(paths[0]), size=20)
    assert kept.exists()


def test_cache_is_reused_and_rebuilt(tmp_path: Path, make_images: MakeImages, cache: Path, decoded: list[str]) -> None:
    root = tmp_path / "set"
    paths = make_images(root, 3)

    def load() -> tuple[list[int], int]:
        decoded.clear()
        return ids(load_images(str(root), size=20).pixels), len(decoded)

    assert load() == ([0, 1, 2], 3)
    assert load() == ([0, 1, 2], 0)
    (entry,) = cache.glob("*.npy")
    content = entry.read_bytes()
    assert np.load(entry).shape == (3, 3, 20, 20)  # a plain NumPy file
    for damage in (content[:-5], b"", b"nonsense", content[:128] + bytes(len(content) - 128)):
        entry.write_bytes(damage)
        assert load() == ([0, 1, 2], 3)
    for broken in ("{", '{"broken": [], ', '{"broken": {"9": "cut"}, ', '{"broken": {"0": 7}, '):
        card = runfiles.parse_json(entry.with_suffix(".json").read_bytes())
        rest = f'"rows": {card["rows"]}, "crc": {card["crc"]}}}' if len(broken) > 1 else ""
        entry.with_suffix(".json").write_text(broken + rest)
        assert load() == ([0, 1, 2], 3)
    entry.with_suffix(".json").unlink()
    os.mkfifo(entry.with_suffix(".json"))  # opening it would block
    assert load() == ([0, 1, 2], 3)
    next(iter(cache.glob("*.header"))).write_text('{"broken": {}, "crc": 1}\n12345678')
    assert load() == ([0, 1, 2], 0)
    make_images(tmp_path / "more", 8)[7].rename(root / "new.png")
    assert load() == ([0, 1, 2, 7], 1)  # only the new one is decoded
    assert len(list(cache.glob("*.npy"))) == 1  # the entry of the earlier list is gone
    changed = Image.open(paths[0]).copy()
    changed.putpixel((0, 0), (99, 0, 0))
    changed.save(paths[0])
    assert load() == ([99, 1, 2, 7], 1)
    paths[1].unlink()
    assert load() == ([99, 2, 7], 0)
    assert len(list(cache.glob("*.npy"))) == 1


def noise(path: Path, seed: int) -> None:
    """Two pages of 60 x 20, which are three tiles each."""
    first, second = np.random.default_rng(seed).integers(0, 256, (2, 20, 60), dtype=np.uint8)
    Image.fromarray(first).save(path, save_all=True, append_images=[Image.fromarray(second)])


@pytest.mark.parametrize(
    ("reading", "parts"),
    [
        (Reading(fit="tiles:3"), 3),
        (Reading(pages="images"), 2),
        (Reading(pages="images", fit="tiles:3"), 6),
    ],
)
def test_tiles_and_pages_of_unchanged_files_are_taken_over(
    tmp_path: Path, decoded: list[str], reading: Reading, parts: int
) -> None:
    root = tmp_path / "set"
    root.mkdir()
    for i in range(4):
        noise(root / f"{i}.tif", i)

    def check(files: int, changed: int) -> None:
        decoded.clear()
        images = load_images(str(root), size=20, source_size=20, reading=reading)
        assert (len(images), len(decoded)) == (files * parts, changed * parts)
        plain = load_images(str(root), size=20, source_size=20, reading=reading, loader=LoaderConfig(cache_gb=0))
        assert images.paths == plain.paths
        np.testing.assert_array_equal(images.read(np.arange(len(images))), plain.read(np.arange(len(images))))

    check(4, changed=4)
    noise(root / "11.tif", 11)  # the second of them
    check(5, changed=1)
    check(5, changed=0)
    (root / "0.tif").unlink()
    check(4, changed=0)
    noise(root / "2.tif", 12)
    os.utime(root / "2.tif", ns=(1, 1))
    check(4, changed=1)


def test_another_version_takes_no_rows_over(
    tmp_path: Path, make_images: MakeImages, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where files are decoded to other pixels than before, those of an earlier list are the wrong ones."""
    make_images(tmp_path / "set", 3)
    load_images(str(tmp_path / "set"), size=20)
    make_images(tmp_path / "more", 8)[7].rename(tmp_path / "set" / "new.png")
    monkeypatch.setattr(cache_module, "DECODE_VERSION", 0)
    monkeypatch.setattr(
        files_module, "decode_rows", lambda paths, side, reading: (np.full((4, 3, 20, 20), 9, "u1"), {})
    )
    assert ids(load_images(str(tmp_path / "set"), size=20).pixels) == [9] * 4


def test_a_repaired_file_is_noticed(tmp_path: Path, make_images: MakeImages) -> None:
    """Mended without a change of name, size or time (a permission, a mount): the skipped are tried again."""
    paths = make_images(tmp_path / "set", 3)
    whole, status = paths[1].read_bytes(), paths[1].stat()
    for broken in (bytes(len(whole)), whole[:600] + bytes(len(whole) - 600)):  # no header; a header only
        paths[1].write_bytes(broken)
        os.utime(paths[1], ns=(status.st_atime_ns, status.st_mtime_ns))
        assert len(load_images(str(tmp_path / "set")).skipped) == 1
        paths[1].write_bytes(whole)
        os.utime(paths[1], ns=(status.st_atime_ns, status.st_mtime_ns))
        assert ids(load_images(str(tmp_path / "set"), size=20).pixels) == [0, 1, 2]


def test_full_disk_leaves_nothing(
    tmp_path: Path, make_images: MakeImages, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_images(tmp_path / "set", 3)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, hard))  # writing beyond 2000 bytes fails, as on a full disk
    try:
        with pytest.raises(UserError, match=r"cannot be written.*EIGENVIEW_CACHE"):
            load_images(str(tmp_path / "set"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not list(cache.glob("*.npy"))
    assert not list(cache.glob(".*"))

    def nearly_full(_: Path) -> os.statvfs_result:
        return type("Usage", (), {"free": 100})()  # type: ignore[return-value]

    monkeypatch.setattr(cache_module.shutil, "disk_usage", nearly_full)
    with pytest.raises(UserError, match=r"0\.00 GB .*free.*EIGENVIEW_CACHE"):
        load_images(str(tmp_path / "set"))
    assert len(load_images(str(tmp_path / "set"), loader=LAZY)) == 3


def test_without_cache_images_are_decoded_when_read(tmp_path: Path, make_images: MakeImages, cache: Path) -> None:
    paths = make_images(tmp_path / "set", 5)
    images = load_images(str(tmp_path / "set"), size=20, loader=LAZY)
    assert images.pixels is None
    assert not cache.exists()
    index = np.array([4, 0, 2])
    kept = load_images(str(tmp_path / "set"), size=20)
    np.testing.assert_array_equal(images.read(index), kept.read(index))
    np.testing.assert_array_equal(images.take(index).read(np.arange(3)), images.read(index))
    paths[0].write_bytes(b"")
    pixels, broken = images.read_marked(index)
    assert broken == {1: "empty file"}
    assert not pixels[1].any()
    with pytest.warns(UserWarning, match=r"000\.png: empty file"):
        assert ids(images.read(index)) == [4, 2, 2]
    with pytest.raises(UserError, match="none of 1 images"):
        images.read(np.array([0]))


def test_a_subset_is_all_that_is_opened(
    tmp_path: Path, make_images: MakeImages, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`diagnose RUN --data FOLDER` embeds 2,000 images of however many."""
    for name in ("cat", "dog"):
        make_images(tmp_path / "set" / name, 30)
    opened: list[str] = []
    open_regular = files_of_images.open_regular

    def counting(path: str) -> object:
        opened.append(path)
        return open_regular(path)

    monkeypatch.setattr(files_of_images, "open_regular", counting)
    images = load_images(str(tmp_path / "set"), size=20, most=8, split="all")
    assert len(images.read(np.arange(8))) == 8
    assert len(opened) == 3 * 8  # headers, contrast and pixels
    assert images.labels is not None
    assert [images.class_names[k] for k in images.labels] == [Path(path).parent.name for path in images.paths]
    np.save(tmp_path / "x.npy", np.arange(60, dtype=np.uint8).repeat(1200).reshape(60, 20, 20, 3))
    assert (load_images(str(tmp_path / "x.npy"), size=20, most=8).read(np.arange(8)).std(axis=(1, 2, 3)) == 0).all()


def test_a_source_gives_what_is_asked_for_the_second_time_too(tmp_path: Path, make_images: MakeImages) -> None:
    make_images(tmp_path / "set", 8, 50)
    source = find_source(str(tmp_path / "set"))
    asked: tuple[dict[str, Any], ...] = ({"most": 3}, {}, {"multiple": 14}, {"most_size": 32}, {"most": 3})
    found = [load_images(str(tmp_path / "set"), source=source, **each) for each in asked]
    assert [(len(each), each.size) for each in found] == [(3, 48), (8, 48), (8, 42), (8, 32), (3, 48)]


def test_one_listing_serves_training_and_probes(
    tmp_path: Path, make_images: MakeImages, monkeypatch: pytest.MonkeyPatch
) -> None:
    for part in ("train", "test"):
        for name in ("cat", "dog"):
            make_images(tmp_path / "set" / part / name, 12)
    listed: list[str] = []
    scandir = os.scandir

    def counting(path: str) -> object:
        listed.extend([str(path)] if "/set" in str(path) else [])  # the cache is listed too
        return scandir(path)

    monkeypatch.setattr(os, "scandir", counting)
    plan = make_plan(RunConfig(data=str(tmp_path / "set"), batch_size=8))
    assert plan.probes is not None
    assert len(listed) == 7  # the top, two splits, four classes


def test_an_index_of_shards_is_read_from_the_cache(
    tmp_path: Path, make_images: MakeImages, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_images(tmp_path / "set", 4)
    path = Path(shutil.make_archive(str(tmp_path / "x"), "tar", tmp_path / "set"))
    monkeypatch.setattr(tar_index, "_WORTH_KEEPING", 1)
    made: list[str] = []
    index = tar_index.index.__wrapped__

    def counting(tar: str, *stamp: int) -> object:
        made.append(tar)
        return index(tar, *stamp)

    monkeypatch.setattr(tar_index, "index", counting)
    first, again = (load_images(str(path), size=20) for _ in range(2))
    assert len(made) == 1
    assert (first.paths, first.files) == (again.paths, again.files)
    np.testing.assert_array_equal(first.read(np.arange(4)), again.read(np.arange(4)))
    os.utime(path, ns=(1, 1))
    load_images(str(path), size=20)
    assert len(made) == 2
    kept = next(iter((tmp_path / "cache").glob("*.index.json")))
    content = runfiles.parse_json(kept.read_bytes())
    for k, change in enumerate(({"labels": [[], 1, 2, 3]}, {"offsets": ["0"] * 4}, {"further": None})):
        kept.write_text(json.dumps(content | change))
        load_images(str(path), size=20)
        assert len(made) == 3 + k
    kept.write_text("{")
    load_images(str(path), size=20)
    assert len(made) == 6
