"""One process at a time writes a run directory."""

from __future__ import annotations

import errno
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from eigenview import runfiles
from eigenview.errors import UserError
from eigenview.runfiles import writing
from tests.writer import other_writer


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that writes `tmp_path`."""
    with other_writer(tmp_path) as process:
        yield process


def test_a_second_process_is_refused_and_told_the_first(writer: subprocess.Popen[str], tmp_path: Path) -> None:
    expected = rf"another process, number {writer.pid}\..*--resume"
    with pytest.raises(UserError, match=expected), runfiles.run_lock(tmp_path):
        pytest.fail("two processes write one run")
    assert (tmp_path / runfiles.WRITER).read_text() == str(writer.pid)


def test_a_killed_writer_holds_nobody_up(writer: subprocess.Popen[str], tmp_path: Path) -> None:
    writer.kill()
    writer.wait()
    with runfiles.run_lock(tmp_path):
        pass
    assert not list(tmp_path.iterdir())


def test_runs_started_together_have_directories_of_their_own(tmp_path: Path) -> None:
    root = tmp_path / "runs"
    with (
        runfiles.run_dir(None, "a/photos", "byol", root) as first,
        runfiles.run_dir(None, "photos", "byol", root) as second,
    ):
        assert [path.name for path in (first, second)] == ["photos-byol-1", "photos-byol-2"]
        assert first.is_dir()
        (second / "kept").touch()
    assert [path.name for path in root.iterdir()] == ["photos-byol-2"]
    with pytest.raises(ZeroDivisionError), runfiles.run_dir(None, "x", "byol", tmp_path / "new"):
        raise ZeroDivisionError
    assert not (tmp_path / "new").exists()
    with runfiles.run_dir(tmp_path / "mine", "x", "byol", root) as given:
        assert given == tmp_path / "mine"
    assert not given.exists()
    root.joinpath("file").touch()
    refused = pytest.raises(UserError, match=r"file.* cannot be created.*--out")
    with refused, runfiles.run_dir(None, "x", "byol", root / "file"):
        pytest.fail("no folder can be there")


def test_a_later_process_of_a_run_makes_no_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with runfiles.run_dir(None, "x", "byol", tmp_path / "runs"):
        assert not (tmp_path / "runs").exists()


def test_a_directory_that_only_a_killed_writer_left_can_be_taken(tmp_path: Path) -> None:
    (tmp_path / runfiles.WRITER).touch()
    runfiles.create_run_dir(tmp_path)
    (tmp_path / "else").touch()
    with pytest.raises(UserError, match=r"--out .*other files"):
        runfiles.create_run_dir(tmp_path)


def test_what_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"page\.html cannot be written.*--out"):
        runfiles.write_bytes(tmp_path / "file" / "page.html", b"")
    with pytest.raises(UserError, match=r"cannot be written.*--out"), runfiles.run_lock(tmp_path / "file"):
        pytest.fail("no run can be there")


def test_nothing_stays_behind_where_the_work_fails(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), runfiles.run_lock(tmp_path):
        raise ZeroDivisionError
    assert not list(tmp_path.iterdir())


def test_a_disk_without_room_for_the_first_bytes_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(handle: int, content: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(UserError, match=r"No space left.*--out"), runfiles.run_lock(tmp_path):
        pytest.fail("nothing was written")
    assert not list(tmp_path.iterdir())


def test_what_killed_writers_left_is_deleted_at_the_next_start(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    left = [tmp_path / ".spectra.npz.abcdefgh", tmp_path / "checkpoints" / ".last.ckpt.12345678"]
    kept = [tmp_path / ".report.html.abcdefgh", tmp_path / ".spectra.npz.bak", tmp_path / "notes.npz.abcdefgh"]
    for path in (*left, *kept):
        path.touch()
    with runfiles.run_lock(tmp_path):
        assert [path.exists() for path in (*left, *kept)] == [False] * 2 + [True] * 3
    os.utime(kept[0], (0, 0))  # another process may be writing a report; not since 1970
    runfiles.write_bytes(tmp_path / runfiles.REPORT, b"page")
    assert not kept[0].exists()


def test_a_run_killed_before_it_had_a_configuration_can_be_started_again(tmp_path: Path) -> None:
    unfinished = tmp_path / f".{runfiles.CONFIG}.abcd1234"
    unfinished.touch()
    (tmp_path / runfiles.WRITER).touch()
    runfiles.create_run_dir(tmp_path)
    with runfiles.run_lock(tmp_path):
        assert not unfinished.exists()


def test_temporary_files_of_a_killed_writer_are_deleted_and_those_in_use_are_not(tmp_path: Path) -> None:
    target, long_ago = tmp_path / "pixels.npy", time.time() - 100
    left, new = tmp_path / ".pixels.npy.abcd1234", tmp_path / ".pixels.npy.abcd5678"
    with runfiles.atomic_write(target) as file:
        (used,) = tmp_path.iterdir()
        left.touch()
        for path in (used, left):
            os.utime(path, (long_ago, long_ago))
        new.touch()
        for delete in (runfiles.delete_leftovers, lambda path: runfiles.delete_abandoned(path.parent)):
            left.touch()
            os.utime(left, (long_ago, long_ago))
            delete(target)
            assert set(tmp_path.iterdir()) == {used, new}
        file.write(b"whole")
    assert target.read_bytes() == b"whole"


def test_without_locks_age_decides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "_lock", lambda handle: None)
    old, newer = tmp_path / ".x.abcd1234", tmp_path / ".x.abcd5678"
    for path, age in ((old, 2 * writing.WITHOUT_LOCKS), (newer, 2 * writing.ABANDONED_SECONDS)):
        path.touch()
        os.utime(path, (time.time() - age, time.time() - age))
    runfiles.delete_leftovers(tmp_path / "x")
    assert list(tmp_path.iterdir()) == [newer]
