"""One process at a time writes a run directory."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from eigenview import runfiles
from eigenview.errors import UserError
from tests.writer import other_writer


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that writes `tmp_path`."""
    with other_writer(tmp_path) as process:
        yield process


def test_a_second_process_is_refused_and_told_the_first(writer: subprocess.Popen[str], tmp_path: Path) -> None:
    said = rf"another process, number {writer.pid}\..*--resume"
    with pytest.raises(UserError, match=said), runfiles.only_writer(tmp_path):
        pytest.fail("two processes write one run")
    assert (tmp_path / runfiles.WRITER).read_text() == str(writer.pid)


def test_a_killed_writer_holds_nobody_up(writer: subprocess.Popen[str], tmp_path: Path) -> None:
    writer.kill()
    writer.wait()
    with runfiles.only_writer(tmp_path):
        pass
    assert not list(tmp_path.iterdir())


def test_nothing_stays_behind_where_the_work_fails(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), runfiles.only_writer(tmp_path):
        raise ZeroDivisionError
    assert not list(tmp_path.iterdir())
