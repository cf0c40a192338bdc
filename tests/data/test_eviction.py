"""The cache folder keeps to its limit, the longest unused entry goes first, and what is in use stays."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from eigenview.cli import run
from eigenview.data.pixels.cache import CacheDir, Entry
from eigenview.data.pixels.eviction import cache_entries, delete_entry, limit_bytes, make_room
from eigenview.errors import UserError


def write(folder: Path, name: str, size: int, used: float) -> None:
    for kind in ("8.npy", "8.json"):
        path = folder / f"{name}.{kind}"
        path.write_bytes(b"0" * (size // 2))
        os.utime(path, (used, used))


def test_the_longest_unused_entries_make_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EIGENVIEW_CACHE_GB", "0.00001")  # 10,000 bytes
    for name, used in (("middle", 2e9), ("oldest", 1e9), ("newest", 3e9)):
        write(tmp_path, name, 3000, used)
    assert [entry.name for entry in cache_entries(tmp_path)] == ["newest", "middle", "oldest"]
    make_room(tmp_path, 1000)
    assert len(cache_entries(tmp_path)) == 3
    make_room(tmp_path, 1001)
    assert [(entry.name, entry.num_bytes) for entry in cache_entries(tmp_path)] == [("newest", 3000), ("middle", 3000)]
    make_room(tmp_path, 10**9)
    assert cache_entries(tmp_path) == []


def test_an_entry_in_use_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EIGENVIEW_CACHE", str(tmp_path))
    monkeypatch.setenv("EIGENVIEW_CACHE_GB", "0")
    write(tmp_path, "other", 3000, 1e9)
    entry = Entry.of(tmp_path / "photos", [("a.png", 1, 1)], cache_dir=CacheDir(tmp_path, "cache", ""))
    entry.keep_pixels(4, [(np.zeros((2, 3, 4, 4), np.uint8), {})], 2)
    found = cache_entries(tmp_path)
    assert [each.name for each in found] == [f"{entry.place}-{entry.version}"], "other made room"
    make_room(tmp_path, 10**9)
    assert not delete_entry(found[0])
    assert entry.pixels(4) is not None


def test_a_limit_that_is_no_number_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for text in ("much", "-1", "nan", "inf"):
        monkeypatch.setenv("EIGENVIEW_CACHE_GB", text)
        with pytest.raises(UserError, match=f"EIGENVIEW_CACHE_GB is '{text}'"):
            limit_bytes()
    monkeypatch.delenv("EIGENVIEW_CACHE_GB")
    assert limit_bytes() == 50e9


def test_the_verb_lists_and_clears(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("EIGENVIEW_CACHE", str(tmp_path))
    write(tmp_path, "photos-1", 3_000_000, 1e9)
    (tmp_path / "probes").mkdir()
    (tmp_path / "probes" / "0123.json").write_text("{}")
    assert run(["cache", "list"]) == 0
    said = capsys.readouterr().out
    assert "3.0 MB" in said
    assert "probes/0123" in said
    assert "2 entries, 0.00 GB of at most 50" in said
    assert run(["cache", "clear"]) == 0
    assert "2 entries deleted" in capsys.readouterr().out
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
