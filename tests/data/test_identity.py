"""Images that are known again: copies are the same, other images of the same names are not."""

from __future__ import annotations

import os
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from eigenview.config.reading import Reading
from eigenview.data import identity
from eigenview.data.identity import identities
from eigenview.data.load import load_images
from eigenview.runfiles import images_hash


def hashed(folder: Path, fit: str = "crop", **reading: object) -> str:
    images = load_images(str(folder), size=8, source_size=8, reading=Reading(fit=fit, **reading))  # type: ignore[arg-type]
    assert images.labels is not None
    return images_hash(identities(images), images.labels, None)


def folder_of(place: Path, seed: int = 0, suffix: str = "png", side: int = 8) -> Path:
    """Six pictures of 8 x 16 in two classes."""
    pixels = np.random.default_rng(seed).integers(0, 256, (6, side, 2 * side, 3), dtype=np.uint8)
    for number, each in enumerate(pixels):
        path = place / "ab"[number % 2] / f"{number:03}.{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(each).save(path)
    return place


def test_a_copy_at_another_place_with_other_times_is_the_same(tmp_path: Path) -> None:
    one = folder_of(tmp_path / "one")
    other = shutil.copytree(one, tmp_path / "far" / "away")
    for path in other.rglob("*.png"):
        os.utime(path, (1, 1))
    assert hashed(one) == hashed(other)


def test_other_images_of_the_same_names_and_labels_are_others(tmp_path: Path) -> None:
    """Also where all files are of one size, and where images are tiles."""
    for suffix, fit in (("png", "crop"), ("bmp", "crop"), ("bmp", "tiles:2")):
        hashes = {hashed(folder_of(tmp_path / f"{suffix}{fit[:4]}{seed}", seed, suffix), fit) for seed in range(3)}
        assert len(hashes) == 3


def test_of_files_beyond_those_looked_into_the_size_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identity, "LOOKED_INTO", 1)
    before = hashed(folder_of(tmp_path / "set"))
    with (tmp_path / "set" / "b" / "003.png").open("ab") as file:
        file.write(b"0")
    assert hashed(tmp_path / "set") != before


def test_pixels_may_be_read_in_another_way_but_tiles_are_other_images(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "set")
    crop, pad, channels, two, three = (
        hashed(folder),
        hashed(folder, "pad"),
        hashed(folder, channels=1),
        hashed(folder, "tiles:2"),
        hashed(folder_of(tmp_path / "wide", side=16), "tiles:2"),
    )
    assert crop == pad == channels
    assert len({crop, two, three}) == 3


def test_images_in_shards_are_the_same_in_other_shards(tmp_path: Path) -> None:
    hashes = []
    for name, seed, first in (("x", 0, b""), ("y", 0, b"more"), ("z", 1, b"")):
        folder = folder_of(tmp_path / name, seed, "bmp")
        (folder / "a" / "000.txt").write_bytes(first)
        (tmp_path / "tars" / name).mkdir(parents=True)
        with tarfile.open(tmp_path / "tars" / name / f"{name}.tar", "w") as tar:
            for path in sorted(folder.rglob("*.*")):
                tar.add(path, path.relative_to(folder))
                if path.suffix == ".bmp":
                    label = path.with_suffix(".cls")
                    label.write_text(str(int(path.stem) % 2))
                    tar.add(label, label.relative_to(folder))
        hashes.append(hashed(tmp_path / "tars" / name / f"{name}.tar"))
    assert hashes[0] == hashes[1] != hashes[2]


def test_a_file_that_is_gone_and_arrays(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "set")
    images = load_images(str(folder), size=8, source_size=8)
    before = identities(images)
    (folder / "a" / "000.png").unlink()
    after = identities(images)
    assert before[0] != after[0] == "a/000.png\0" + "0\0"
    assert before[1:] == after[1:]
    assert identities(load_images("digits")) == []


def test_earlier_versions_hashed_names_alone(tmp_path: Path) -> None:
    """Whether a run of theirs was tested on the same images is not known: they count as others."""
    images = load_images(str(folder_of(tmp_path / "set")), size=8, source_size=8)
    assert images.labels is not None
    names = ["/".join(Path(path).parts[-2:]) for path in images.paths]
    assert images_hash(names, images.labels, None) != images_hash(identities(images), images.labels, None)
