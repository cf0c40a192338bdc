"""`eigenview check`: a row for each file of a run, and what is wrong with it."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.report.synthetic_run import write_run

from eigenview import runfiles
from eigenview.cli import run


def rows(said: str) -> dict[str, str]:
    return {line.split()[0]: line.split(maxsplit=1)[1] for line in said.splitlines()}


def test_each_file_is_whole_missing_or_damaged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = write_run(tmp_path / "run", width=4)
    summary = runfiles.read_summary(out) | {"finished": False}
    runfiles.write_object(out / runfiles.SUMMARY, summary)
    (out / runfiles.REPORT).write_text("<html>")
    assert run(["check", str(out)]) == 0
    found = rows(capsys.readouterr().out)
    assert found[runfiles.SUMMARY] == found[runfiles.METRICS] == found[runfiles.SPECTRA] == "whole"
    assert found[str(runfiles.CHECKPOINT)] == "missing  not every run has it"
    (out / runfiles.SUMMARY).write_text((out / runfiles.SUMMARY).read_text().replace("healthy", "health"))
    (out / runfiles.METRICS).unlink()
    assert run(["check", str(out)]) == 2
    found = rows(capsys.readouterr().out)
    assert found[runfiles.SUMMARY].startswith("damaged  its content does not fit the checksum")
    assert found[runfiles.METRICS] == "missing"


def test_a_finished_run_needs_its_encoder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = write_run(tmp_path / "run", width=4)
    assert run(["check", str(out)]) == 2
    found = rows(capsys.readouterr().out)
    assert found[runfiles.ENCODER] == found[runfiles.ENCODER_CARD] == found[str(runfiles.CHECKPOINT)] == "missing"


def test_what_is_no_run_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["check", str(tmp_path)]) == 2
    assert "is not a run: it has no config.json" in capsys.readouterr().err
