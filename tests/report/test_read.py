from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from eigenview import runfiles
from eigenview.errors import UserError
from eigenview.report.configuration import flat
from eigenview.report.read import read_run, read_runs
from tests.report.synthetic_run import write_run


def test_reads_every_file_of_a_run(tmp_path: Path) -> None:
    record = read_run(write_run(tmp_path / "run-1"))
    assert record.name == "run-1"
    assert record.method == record.config["method"]["name"] == "vicreg"
    assert record.summary["linear"] == 70.2
    assert len(record.metrics) == 61
    assert len(record.diagnostics) == 13
    assert record.spectra["h"].shape == (13, 128)
    assert record.gallery["neighbours"].shape == (6, 7, 3, 32, 32)
    assert record.skipped == 2


def test_a_run_just_begun_has_empty_parts(tmp_path: Path) -> None:
    runfiles.write_json(tmp_path / runfiles.CONFIG, {"method": "vicreg"})
    record = read_run(tmp_path)
    assert record.summary == record.probes == record.environment == record.spectra == record.gallery == {}
    assert record.metrics == record.diagnostics == []
    assert record.skipped == 0


def test_options_of_an_earlier_version_have_todays_names(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    old = {"method": "directset", "objective": {"alpha": 0.5, "normalise_by": "frobenius"}, "size": 32, "epochs": 3}
    runfiles.write_json(run / runfiles.CONFIG, old | {"network": {"branches": "separate"}})
    environment = runfiles.read_json(run / runfiles.ENVIRONMENT) | {"defaults": old}
    runfiles.write_json(run / runfiles.ENVIRONMENT, environment)
    today = {"method": {"name": "directset", "alpha": 0.5, "normalise_by": "frobenius"}, "image_size": 32, "epochs": 3}
    record = read_run(run)
    assert record.config == today | {"network": {"shared_weights": False}}
    assert record.environment["defaults"] == today
    assert "method.normalise_by" in flat(record.config)
    assert flat(record.config)["method"] == "directset"


def test_a_last_line_cut_by_a_kill_is_dropped(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    with (run / runfiles.METRICS).open("a") as file:
        file.write('{"step": 610, "ep')
    assert len(read_run(run).metrics) == 61


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("")
    for name, message in (
        ("empty", r"empty .*config\.json"),
        ("file", "file is a file"),
        ("gone", "gone does not exist"),
    ):
        with pytest.raises(UserError, match=message):
            read_run(tmp_path / name)
    with pytest.raises(UserError, match=r"run.*none"):
        read_runs([])


@pytest.mark.parametrize("name", [runfiles.SUMMARY, runfiles.SPECTRA, runfiles.GALLERY, runfiles.METRICS])
def test_a_damaged_file_is_named(tmp_path: Path, name: str) -> None:
    run = write_run(tmp_path / "run")
    (run / name).write_bytes(b"\xff\xfe not what it should be")
    with pytest.raises(UserError, match=rf"{name}.*damaged"):
        read_run(run)


def test_json_of_another_kind_is_refused(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    runfiles.write_json(run / runfiles.PROBES, [1, 2])
    with pytest.raises(UserError, match=r"probes\.json.*damaged.*list"):
        read_run(run)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("originals", lambda a: a[:-1]),
        ("views", lambda a: a.astype(np.float32)),
        ("queries", lambda a: a[:, 0]),
        ("cosines", lambda a: a[:-1]),
        ("neighbours", lambda a: a[:, :-1]),
    ],
)
def test_arrays_that_do_not_fit_are_refused(tmp_path: Path, name: str, change: object) -> None:
    run = write_run(tmp_path / "run")
    arrays = runfiles.read_arrays(run / runfiles.GALLERY)
    arrays[name] = change(arrays[name])  # type: ignore[operator]
    runfiles.write_arrays(run / runfiles.GALLERY, arrays)
    with pytest.raises(UserError, match=r"gallery\.npz.*damaged"):
        read_run(run)


def test_spectra_without_a_row_per_step_are_refused(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    runfiles.write_arrays(run / runfiles.SPECTRA, {"step": np.arange(3), "h": np.ones((2, 8))})
    with pytest.raises(UserError, match=r"spectra\.npz.*h.*\(2, 8\)"):
        read_run(run)


def test_runs_of_one_name_are_told_apart_and_repeats_dropped(tmp_path: Path) -> None:
    first = write_run(tmp_path / "a" / "run")
    second = shutil.copytree(first, tmp_path / "b" / "run")
    assert [r.name for r in read_runs([first, second, first])] == ["a/run", "b/run"]
