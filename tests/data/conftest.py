"""A separate cache for every test, and folders of generated images."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

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
