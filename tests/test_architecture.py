"""docs/architecture.md names files and rooms that exist, and every room."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs/architecture.md").read_text()
SOURCE = ROOT / "src" / "eigenview"


def test_every_file_that_is_named_exists() -> None:
    named = set(re.findall(r"`([\w/]+(?:\.py|/))`", PAGE)) - {"parts/"}
    assert len(named) > 25
    missing = [name for name in named if not (SOURCE / name).exists() and not (ROOT / name).exists()]
    assert not missing


def test_every_room_has_its_sentence() -> None:
    rooms = {path.name for path in SOURCE.iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert not [room for room in rooms if f"`{room}/`" not in PAGE]


def test_it_fits_a_screen() -> None:
    assert len(PAGE.splitlines()) <= 60
