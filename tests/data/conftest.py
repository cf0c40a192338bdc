"""A separate cache for every test, and folders of generated images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from eigenview.config.reading import Reading
from eigenview.data.pixels.parallel import Rows
from eigenview.data.sources import files as files_module

MakeImages = Callable[..., list[Path]]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("EIGENVIEW_CACHE", str(folder))
    return folder


@pytest.fixture
def make_images() -> MakeImages:
    """make_images(folder, count, side): PNGs of noise; image i of a folder has pixel (0, 0) of red value i."""

    def make(folder: Path, count: int, side: int = 20) -> list[Path]:
        folder.mkdir(parents=True, exist_ok=True)
        paths = [folder / f"{i:03}.png" for i in range(count)]
        for i, path in enumerate(paths):
            pixels = np.random.default_rng(i).integers(0, 256, (side, side, 3), dtype=np.uint8)
            pixels[0, 0, 0] = i
            Image.fromarray(pixels).save(path)
        return paths

    return make


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The paths of files that are decoded into the cache from here on, one after another."""
    paths: list[str] = []
    decode_rows = files_module.decode_rows

    def counting(wanted: Sequence[str], side: int, reading: Reading) -> Rows:
        paths.extend(wanted)
        return decode_rows(wanted, side, reading)

    monkeypatch.setattr(files_module, "decode_rows", counting)
    return paths
