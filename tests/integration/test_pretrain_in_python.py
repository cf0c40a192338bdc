"""`ev.pretrain`: what it refuses, and that resume=True starts a run or continues it, as the command does."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import eigenview as ev
from eigenview import run as python_face
from eigenview import runfiles
from eigenview.cli import run
from eigenview.config import to_dict
from eigenview.errors import UserError
from eigenview.methods import card
from eigenview.records import MethodConfig
from eigenview.terminal import Console


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[tuple[ev.RunConfig[Any], bool]]:
    """The configurations that would be trained, and whether each run would be continued."""
    seen: list[tuple[ev.RunConfig[Any], bool]] = []

    def start(
        config: ev.RunConfig[Any],
        directory: Path,
        *,
        stored: ev.RunConfig[Any] | None,
        allow_changed_data: bool,
        console: Console,
        command: list[str],
    ) -> None:
        seen.append((config, stored is not None))
        directory.mkdir(exist_ok=True)
        runfiles.write_json(directory / runfiles.CONFIG, to_dict(config))

    monkeypatch.setattr(python_face, "start", start)
    return seen


def test_one_call_starts_the_run_and_continues_it(
    tmp_path: Path, started: list[tuple[ev.RunConfig[Any], bool]]
) -> None:
    for _ in range(2):
        ev.pretrain("digits", method="simclr", out=tmp_path / "run", resume=True, epochs=3)
    ev.pretrain(out=tmp_path / "run", resume=True)
    assert [resume for _, resume in started] == [False, True, True]
    assert len({str(config.decided()) for config, _ in started}) == 1
    assert started[0][0].epochs == 3


@pytest.mark.parametrize(
    "other",
    [{"views": 3}, {"method": "byol"}, {"method": ev.SimCLRConfig(temperature=0.5)}],
)
def test_a_continued_run_keeps_its_configuration(
    other: dict[str, Any], tmp_path: Path, started: list[tuple[ev.RunConfig[Any], bool]]
) -> None:
    ev.pretrain(method="simclr", out=tmp_path / "run", epochs=3)
    with pytest.raises(UserError, match="keeps its own configuration"):
        ev.pretrain(out=tmp_path / "run", resume=True, **other)
    assert len(started) == 1


def test_a_transform_is_imported_only_if_the_caller_names_it(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    started: list[tuple[ev.RunConfig[Any], bool]],
) -> None:
    """A config.json must not decide what is executed."""
    (tmp_path / "never_imported_yet.py").write_text("def shift(views, generator):\n    return views\n")
    monkeypatch.syspath_prepend(tmp_path)
    named: dict[str, Any] = {"augment": {"own": "never_imported_yet:shift"}}
    ev.pretrain(method="simclr", out=tmp_path / "run", **named)
    with pytest.raises(UserError, match=r"config\.json names a transform.*--augment\.own never_imported_yet:shift"):
        ev.pretrain(out=tmp_path / "run", resume=True)
    assert run(["pretrain", "--out", str(tmp_path / "run"), "--resume"]) == 2
    assert "--augment.own never_imported_yet:shift" in capsys.readouterr().err
    assert "never_imported_yet" not in sys.modules
    assert len(started) == 1
    ev.pretrain(out=tmp_path / "run", resume=True, **named)
    assert [resumed for _, resumed in started] == [False, True]
    with pytest.raises(UserError, match="keeps its own configuration"):
        ev.pretrain(out=tmp_path / "run", resume=True, augment={"own": "never_imported_yet:another"})


def test_a_method_of_the_started_program_is_refused_with_what_to_do(
    started: list[tuple[ev.RunConfig[Any], bool]],
) -> None:
    @dataclass(frozen=True, kw_only=True)
    class Mine(MethodConfig):
        card = card("vicreg")

    Mine.__module__ = "__main__"
    with pytest.raises(UserError, match=r"program that was started.*my_methods/"):
        ev.pretrain(method=Mine())
    assert not started


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"method": {"name": "simclr"}}, r"method is \{'name'.*SimCLRConfig"),
        ({"config": ev.RunConfig(), "method": "simclr"}, "config.*leave"),
        ({"config": ev.RunConfig(), "data": "digits"}, "config.*leave"),
        ({"data": np.zeros((4, 8, 8, 3), np.uint8)}, r"data is a ndarray.*np\.savez"),
        ({"resume": True}, "out="),
        ({"epoch": 3}, "epoch is 3.*epochs"),
        ({"network": {"projector_widht": 3}}, r"network\.projector_widht is 3.*projector_width"),
    ],
)
def test_refused_before_anything_is_done(
    given: dict[str, Any],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    started: list[tuple[ev.RunConfig[Any], bool]],
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=message):
        ev.pretrain(**given)
    assert not started
    assert not list(tmp_path.iterdir())


def test_a_notebook_shows_verdict_and_accuracies_of_a_run(tmp_path: Path) -> None:
    run = ev.Run(tmp_path / "<b>run")
    assert run._repr_html_() == f"<p><code>{tmp_path}/&lt;b&gt;run</code>: a run without a summary yet</p>"
    run.directory.mkdir()
    accuracies = {"knn": 98.25, "linear": 99.0, "linear_few": None}
    summary = {
        "verdict": "healthy",
        "since_epoch": None,
        "reason": "spread 0.9 > 0.5",
        "remedies": [],
        "notes": [],
        **accuracies,
    }
    baselines = {"raw pixels": {"knn": 97.2, "linear": 95.0, "linear_few": 88.16}}
    runfiles.write_object(run.directory / runfiles.SUMMARY, {**summary, "baselines": baselines})
    shown = run._repr_html_()
    assert "<b>healthy</b>: spread 0.9 &gt; 0.5" in shown
    assert "<tr><td>raw pixels</td><td>97.2</td><td>95.0</td><td>88.2</td></tr>" in shown
    assert "<tr><td>this encoder</td><td>98.2</td><td>99.0</td><td></td></tr>" in shown
    without = {**summary, "knn": None, "linear": None}
    runfiles.write_object(run.directory / runfiles.SUMMARY, without)
    assert "<table>" not in run._repr_html_()
