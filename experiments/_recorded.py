"""Runs that results.json holds already: a grid goes on in another place, where their run directories are not."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any, TypeAlias

from eigenview import runfiles
from eigenview.config import RunConfig, from_dict, method_name, to_dict
from eigenview.errors import UserError

PATHS = ("data", "probe_data", "weights")
"""Options that name places on the machine of the run."""
Settings: TypeAlias = dict[str, Any]


def settings_of(config: RunConfig[Any]) -> Settings:
    """A cell's settings as results.json holds them: without the seed, and of a path its last two parts."""
    values = to_dict(config.decided())
    del values["seed"]
    reduced = {name: "/".join(PurePosixPath(values[name]).parts[-2:]) for name in PATHS if values[name] is not None}
    return values | reduced


def _are_of(config: RunConfig[Any], recorded: Settings) -> bool:
    """Whether recorded settings are these: an option newer than them has its default, an older one is no option."""
    if recorded["method"]["name"] != method_name(config.method):
        return False
    try:
        return settings_of(from_dict(recorded, type(config.method))) == settings_of(config)
    except UserError:
        return False


def recorded_runs(directory: Path, cells: Mapping[str, RunConfig[Any]]) -> dict[tuple[str, int], dict[str, Any]]:
    """The runs in a folder's results.json whose settings are those that their cells have now, by cell and seed.

    Args:
        directory: the folder of result files; without results.json there are none.
        cells: the settings of each cell, of any seed.
    """
    path = directory / "results.json"
    content = runfiles.read_json(path) if path.exists() else {}
    known: dict[str, Settings] = content.get("settings", {})
    same = {cell for cell, config in cells.items() if cell in known and _are_of(config, known[cell])}
    return {(cell, run["seed"]): run for cell in same for run in content["results"].get(cell, ())}
