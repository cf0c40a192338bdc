"""Damaged and foreign packs: refused with the file's name and what to do, checked before use, never run."""

from __future__ import annotations

import json
import os
import pickle
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from eigenview.config import LoaderConfig
from eigenview.data.load import load_images
from eigenview.data.sources.packs import MANIFEST
from eigenview.errors import UserError
from tests.data.conftest import MakeImages
from tests.data.test_pack import ROWS, made


def changed(pack: Path, *keys: str, to: object) -> None:
    content = json.loads((pack / MANIFEST).read_text())
    inner = content
    for key in keys[:-1]:
        inner = inner[key]
    inner[keys[-1]] = to
    (pack / MANIFEST).write_text(json.dumps(content))


DAMAGE: dict[str, tuple[Any, str]] = {
    "cut": (lambda p: os.truncate(p / "train.npy", 3000), r"train\.npy is damaged"),
    "longer": (lambda p: os.truncate(p / "train.npy", 128 + 3 * 768 + 1), r"train\.npy is damaged"),
    "zeroed": (
        lambda p: (p / "train.npy").write_bytes((p / "train.npy").read_bytes()[:128] + bytes(3 * 768 * 3)),
        "damaged",
    ),
    "missing": (lambda p: (p / "train.npy").unlink(), r"train\.npy is missing"),
    "swapped": (lambda p: np.save(p / "train.npy", np.zeros((3, 3, 16, 16))), "is damaged"),
    "labels": (lambda p: np.save(p / "train-labels.npy", np.array([0, 1, 7])), r"train-labels\.npy is damaged"),
    "label header": (
        lambda p: (p / "train-labels.npy").write_bytes((p / "train-labels.npy").read_bytes().replace(b")", b"(", 1)),
        r"train-labels\.npy is damaged",
    ),
    "label archive": (lambda p: (p / "train-labels.npy").write_bytes(b"PK\3\4" * 40), r"train-labels\.npy is damaged"),
    "no labels": (lambda p: (p / "train-labels.npy").unlink(), r"train-labels\.npy cannot be read"),
    "no json": (lambda p: (p / MANIFEST).write_text("{"), "eigenview-pack.json is damaged"),
    "list": (lambda p: (p / MANIFEST).write_text("[]"), "eigenview-pack.json is damaged"),
    "foreign": (lambda p: (p / MANIFEST).write_text("{}"), "eigenview-pack.json.*not the manifest"),
    "newer": (lambda p: changed(p, "version", to=2), "version 2.*reads 1"),
    "text": (lambda p: changed(p, "size", to="16"), "eigenview-pack.json is damaged"),
    "negative": (lambda p: changed(p, "source_size", to=-16), "eigenview-pack.json is damaged"),
    "no part": (lambda p: changed(p, "parts", to={}), "eigenview-pack.json is damaged"),
    "part": (lambda p: changed(p, "parts", "../../x", to={}), "eigenview-pack.json is damaged"),
    "count": (lambda p: changed(p, "parts", "train", "images", to=10**12), "is damaged"),
    "classes": (lambda p: changed(p, "parts", "train", "class_names", to=["cat"]), r"train-labels\.npy.*1 classes"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_or_foreign_pack_is_refused(tmp_path: Path, make_images: MakeImages, kind: str) -> None:
    make_images(tmp_path / "set" / "cat", 2, 16)
    make_images(tmp_path / "set" / "dog", 1, 16)
    pack = made(tmp_path / "set", tmp_path / "pack")
    damage, message = DAMAGE[kind]
    damage(pack)
    for loader in (LoaderConfig(), ROWS):
        with pytest.raises(UserError, match=message):
            load_images(str(pack), loader=loader)


def test_damaged_numbers_of_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    for i in range(2):
        Image.effect_noise((40, 20), 50).save(tmp_path / "set" / f"{i}.png")
    pack = made(tmp_path / "set", tmp_path / "pack", fit="tiles:2", image_size=20)
    assert np.load(pack / "train-files.npy").tolist() == [0, 0, 1, 1]
    np.save(pack / "train-files.npy", np.arange(4))
    with pytest.raises(UserError, match=r"train-files\.npy is damaged"):
        load_images(str(pack))


class Malicious:
    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[object, ...]:
        return os.system, (f"touch {self.trace}",)


@pytest.mark.parametrize("file", ["train.npy", "train-labels.npy"])
def test_pickles_in_a_pack_are_never_run(tmp_path: Path, make_images: MakeImages, file: str) -> None:
    make_images(tmp_path / "set" / "cat", 2, 16)
    make_images(tmp_path / "set" / "dog", 1, 16)
    pack = made(tmp_path / "set", tmp_path / "pack")
    header = np.array([None], dtype=object)
    for content in (pickle.dumps(Malicious(tmp_path / "executed")), None):
        if content is None:
            header[0] = Malicious(tmp_path / "executed")
            np.save(pack / file, header, allow_pickle=True)
        else:
            (pack / file).write_bytes(content)
        changed(pack, "parts", "train", "labels_crc", to=zlib.crc32((pack / "train-labels.npy").read_bytes()))
        with pytest.raises(UserError, match=file):
            load_images(str(pack))
        assert not (tmp_path / "executed").exists()
