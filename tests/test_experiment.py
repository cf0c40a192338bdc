"""The frame of an experiment: each cell once, continued where it stopped, and what has ended collected."""

from __future__ import annotations

import re
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from experiments import _frame, _grids

from eigenview import runfiles
from eigenview.cli import run
from eigenview.config import RunConfig, to_dict, with_fields
from eigenview.errors import UserError
from eigenview.recipes import default, load_recipe
from eigenview.terminal import Console
from tests.test_config_names import old
from tests.test_experiment_files import summary


def made_up_module(monkeypatch: pytest.MonkeyPatch, **parts: Any) -> ModuleType:
    """An experiment of no cells, with these parts beside the least it must have."""
    module = ModuleType("experiments.made_up")
    least: dict[str, Any] = {"cells": lambda scale, data: {}, "published": {}, "conclude": lambda results: "seen."}
    for name, part in (least | {"figure": lambda results: _grids.bars(results, "made up")} | parts).items():
        setattr(module, name, part)
    monkeypatch.setattr(_frame, "load_experiment", lambda name: module)
    return module


def leave_run(config: RunConfig[Any], directory: Path) -> None:
    """Write the files of a finished run."""
    kept = ("eigenview", "torch", "device", "threads", "commit", "started")
    runfiles.write_json(directory / runfiles.CONFIG, to_dict(config))
    runfiles.write_json(directory / runfiles.ENVIRONMENT, dict.fromkeys(kept, "made up"))
    runfiles.write_json(directory / runfiles.SUMMARY, {**summary(50.0, seed=config.seed), "data": "a/b/c"})


def test_rows_are_run_once_and_what_has_ended_can_be_collected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The frame alone: a peer that writes the files of a run, then a second call that finds them."""
    calls: list[tuple[str, int]] = []

    def train(config: RunConfig[Any], directory: Path, console: Console) -> None:
        calls.append((directory.name, config.seed))
        runfiles.write_json(directory / runfiles.CONFIG, to_dict(config))
        if len(calls) == 1:
            raise KeyboardInterrupt
        leave_run(config, directory)

    peers = {"their loop": (load_recipe("small-simclr"), train)}
    module = made_up_module(monkeypatch, peers=lambda scale, data, console: peers)
    monkeypatch.chdir(tmp_path)
    arguments = ("made_up", "tiny", 2, "cifar", None, tmp_path / "out", Console(quiet=True))
    with pytest.raises(KeyboardInterrupt):
        _frame.run_experiment(*arguments)
    first = _frame.run_experiment(*arguments)
    assert calls == [("their-loop-seed0", 0), ("their-loop-seed0", 0), ("their-loop-seed1", 1)]
    assert _frame.run_experiment(*arguments) == first
    assert len(calls) == 3
    # a run from before an option existed is the cell's; one with another setting is not
    path = Path("runs/experiments/made_up/tiny/their-loop-seed0") / runfiles.CONFIG
    settings = runfiles.read_json(path)
    runfiles.write_json(path, {name: value for name, value in settings.items() if name != "local_views"})
    assert _frame.run_experiment(*arguments) == first
    runfiles.write_json(path, {**settings, "epochs": settings["epochs"] + 1})
    with pytest.raises(UserError, match=r"their-loop-seed0.*their loop"):
        _frame.run_experiment(*arguments)
    runfiles.write_json(path, settings)
    assert [r["data"] for r in first["their loop"]] == ["b/c", "b/c"]
    assert "| their loop | 48.0 +- 0.0 | 50.0 +- 0.0 |" in (tmp_path / "out" / "table.md").read_text()
    monkeypatch.setattr(module, "most_seeds", {"their loop": 1}, raising=False)
    assert _frame.run_experiment(*arguments) == {"their loop": first["their loop"][:1]}
    both = dict.fromkeys(("their loop", "another"), (load_recipe("small-simclr"), train))
    monkeypatch.setattr(module, "peers", lambda scale, data, console: both)
    assert list(_frame.run_experiment(*arguments, finished=True)) == ["their loop"]
    table = (tmp_path / "out" / "table.md").read_text()
    assert "seen. Not run: 1 of 2 cells (another)." in table
    assert "--seeds 1 --finished\n" in table
    assert not runfiles.read_json(tmp_path / "out" / "results.json")["complete"]
    assert len(calls) == 3
    monkeypatch.setattr(module, "most_seeds", {}, raising=False)
    three = ("made_up", "tiny", 3, *arguments[3:])
    for seeds in (three, ("made_up", "tiny", 1, *arguments[3:])):  # all there are, whatever was asked for
        assert _frame.run_experiment(*seeds, finished=True) == {"their loop": first["their loop"]}
    _frame.run_experiment(*three, finished=True)
    assert "Of 3 runs of these cells 1 have not finished." in (tmp_path / "out" / "table.md").read_text()
    with pytest.raises(UserError, match=r"--finished.*--cells"):
        _frame.run_experiment("made_up", "tiny", 1, "c", "another", None, Console(quiet=True), finished=True)
    with pytest.raises(UserError, match=r"made_up cpu.*--finished"):
        _frame.run_experiment("made_up", "cpu", 1, "c", None, None, Console(quiet=True), finished=True)


def test_a_grid_goes_on_from_its_results_where_its_runs_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[str, int]] = []

    def train(config: RunConfig[Any], directory: Path, console: Console) -> None:
        calls.append((directory.name, config.seed))
        if Path.cwd().name == "killed":
            raise KeyboardInterrupt
        leave_run(config, directory)

    cells = {name: (with_fields(load_recipe("small-simclr"), {"data": "there/x/y"}), train) for name in ("one", "two")}
    made_up_module(monkeypatch, peers=lambda scale, data, console: cells)

    def call(place: str, seeds: int, **options: Any) -> dict[str, Any]:
        (tmp_path / place).mkdir(exist_ok=True)
        monkeypatch.chdir(tmp_path / place)
        arguments = ("made_up", "tiny", seeds, "cifar", options.pop("only", None), tmp_path / "out")
        return _frame.run_experiment(*arguments, Console(quiet=True), **options)

    call("here", 2, only="one")
    before = call("here", 1, finished=True)
    assert {cell: [r["seed"] for r in runs] for cell, runs in before.items()} == {"one": [0, 1]}
    # another machine: the folder of images lies elsewhere
    cells["one"] = (with_fields(cells["one"][0], {"data": "elsewhere/x/y"}), train)
    calls.clear()
    call("there", 1, only="two")
    with pytest.raises(KeyboardInterrupt):
        call("killed", 2, recorded=True)
    assert runfiles.read_json(tmp_path / "out" / "results.json")["results"] == before | {"two": []}
    after = call("there", 2, recorded=True)
    assert calls == [("two-seed0", 0), ("two-seed0", 0), ("two-seed1", 1)]
    assert after["one"] == before["one"]
    assert call("nowhere", 1, recorded=True, finished=True) == after  # nothing is lost, whatever was asked for
    assert runfiles.read_json(tmp_path / "out" / "results.json")["complete"]
    cells["one"] = (with_fields(cells["one"][0], {"epochs": 7}), train)  # other settings: both seeds are trained again
    calls.clear()
    call("nowhere", 2, recorded=True)
    assert calls == [("one-seed0", 0), ("one-seed1", 1)]
    calls.clear()
    call("without", 1)
    assert calls == [("one-seed0", 0), ("two-seed0", 0)]


def test_a_run_of_an_earlier_version_is_a_cells_if_its_settings_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cell is found in config.json as an earlier version wrote it; a value that no option has any more is another
    setting, and the error names the directory and the cell."""
    monkeypatch.chdir(tmp_path)
    directory = Path("runs/experiments/made_up/tiny/copied-seed0")
    directory.mkdir(parents=True)
    kept = ("eigenview", "torch", "device", "threads", "commit", "started")
    runfiles.write_json(directory / runfiles.ENVIRONMENT, dict.fromkeys(kept, "made up"))
    runfiles.write_json(directory / runfiles.SUMMARY, {**summary(50.0), "data": "a/b/c"})
    cells = {"copied": _grids.with_fields(default("directcopy", "digits"), {"network": {"shared_weights": False}})}
    module = SimpleNamespace(cells=lambda scale, data: cells)
    monkeypatch.setattr(_frame, "load_experiment", lambda name: module)
    arguments = ("made_up", "tiny", 1, "digits", "copied", None, Console(quiet=True))

    written = old("directcopy", network={"branches": "separate"})
    runfiles.write_json(directory / runfiles.CONFIG, written)
    (found,) = _frame.run_experiment(*arguments)["copied"]
    assert found["linear"] == 50.0
    for changed in ({"objective": {"floor": 0.0}}, {"network": {"branches": "shared"}}):
        values = {**written, **{name: written[name] | fields for name, fields in changed.items()}}
        runfiles.write_json(directory / runfiles.CONFIG, values)
        with pytest.raises(UserError, match=r"copied-seed0.*copied"):
            _frame.run_experiment(*arguments)


def test_a_missing_matplotlib_is_reported_before_any_training(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"matplotlib.*uv sync --extra figures"):
        _frame.run_experiment("headline", "tiny", 1, "cifar", None, None, Console(quiet=True))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["methods", "--seeds", "1" + "0" * 30], r"--seeds is 1000.*; allowed: 1 to 1,000\."),
        (["methods", "--seeds", "0"], r"--seeds is 0; allowed: 1 to 1,000\."),
        (["zzz"], r"experiment zzz: no such experiment\. \(eigenview list experiments\)"),
    ],
)
def test_a_refused_experiment_is_one_line(
    arguments: list[str], said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(Path(__file__).parents[1])
    assert run(["experiment", *arguments]) == 2
    error = capsys.readouterr().err
    assert re.search(said, error), error
    assert error.count("\n") == 1
