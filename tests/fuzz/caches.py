"""What a command kept in the cache, damaged before the command is run again: it must end as it did the first time."""

from __future__ import annotations

from pathlib import Path

from hypothesis import strategies as st

from tests.fuzz.damage import FILES, JSON_EDITS, copy, damage
from tests.fuzz.folders import reading
from tests.fuzz.sandbox import Command
from tests.fuzz.values import PLACES, Recipe, at

RECIPES = st.fixed_dictionaries(
    {
        "data": st.sampled_from(["photos", "photos", "parts", "shards", "images.npz"]),
        "reader": st.sampled_from(["plan", "embed", "probe", "diagnose"]),
        "damages": st.lists(
            st.fixed_dictionaries({"file": PLACES, "damage": st.one_of(FILES, JSON_EDITS)}), min_size=1, max_size=3
        ),
        "limit": st.sampled_from(["", "", "", "0", "1e-9", "-1", "nan", "abc", "1e400"]),
    }
)


def build(recipe: Recipe, sandbox: Path, stock: Path) -> Command:
    """Images, read once, and then again with another cache."""
    copy(stock / recipe["data"], sandbox / recipe["data"])
    copy(stock / "vicreg", sandbox / "run")

    def damage_cache() -> None:
        paths = sorted(path for path in (sandbox / "cache").rglob("*") if path.is_file())
        for each in recipe["damages"] if paths else ():
            path = paths[at(each["file"], len(paths))]
            is_folder = each["damage"].get("what") == "folder"  # cannot be replaced by a file: the command is refused
            if not is_folder and not (each["damage"]["how"] == "edit" and path.suffix != ".json"):
                damage(path, each["damage"])

    limit = {"EIGENVIEW_CACHE_GB": recipe["limit"]} if recipe["limit"] else {}
    command = reading(recipe["data"], recipe["reader"])
    return Command(args=command.args, may_write=command.may_write, variables=limit, before=damage_cache)
