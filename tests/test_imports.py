"""The house rules that imports can break: one direction, one file for collectives, a report without torch."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "eigenview"
FILES = sorted(SOURCE.rglob("*.py"))
# a part may import from itself, from parts of a lower level, and from these anywhere
ANYWHERE = {
    "errors",
    "views",
    "records",
    "config",
    "runfiles",
    "distributed",
    "progress",
    "",
}
LEVEL = {
    "functional": 0,
    "diagnostics": 1,
    "data": 1,
    "models": 2,
    "probes": 2,
    "embeddings_file": 2,
    "theory": 1,
    "methods": 3,
    "recipes": 4,
    "report": 4,
    "simulations": 5,
    "engine": 5,
}
TOP = 6  # run, cli, commands, experiment


def part(path: Path) -> str:
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def imported(path: Path) -> list[str]:
    """Dotted names of all modules a file imports, wherever in the file."""
    names: list[str] = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names.append(node.module or "")
    return names


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_imports_flow_one_way(path: Path) -> None:
    ours = LEVEL.get(part(path), TOP)
    if part(path) in ANYWHERE or path == SOURCE / "__init__.py":
        return
    for name in imported(path):
        if name.startswith("eigenview."):
            theirs = name.split(".")[1]
            allowed = theirs in ANYWHERE or theirs == part(path) or LEVEL.get(theirs, TOP) < ours or ours == TOP
            assert allowed, f"{path.name} imports {name}"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_collectives_live_in_one_file(path: Path) -> None:
    if path.name != "distributed.py":
        assert not [name for name in imported(path) if name.startswith("torch.distributed")]


def test_the_report_never_imports_torch() -> None:
    for path in (SOURCE / "report").glob("*.py"):
        assert not [name for name in imported(path) if name.split(".")[0] in ("torch", "lightning")]


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_files_fit_the_house(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 350
