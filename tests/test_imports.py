"""The house rules that imports can break: one direction, one file for collectives, a report without torch."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "eigenview"
FILES = sorted(SOURCE.rglob("*.py"))
# These may be imported from anywhere.
ANYWHERE = {"errors", "views", "records", "config", "runfiles", "distributed", "progress"}
ANYWHERE |= {"terminal", "durations", "launched", "hub"}
# Any other part may import from itself, from ANYWHERE and from parts of a lower level.
LEVEL = {
    "functional": 0,
    "diagnostics": 1,
    "data": 1,
    "theory": 1,
    "models": 2,
    "probes": 2,
    "embeddings_file": 2,
    "methods": 3,
    "recipes": 4,
    "report": 4,
    "simulations": 5,
    "engine": 5,
    "run": 6,  # the Python face of the command line: pretrain() and Run
    "commands": 7,
    "cli": 8,
    "__main__": 9,
}


def part(path: Path) -> str:
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def imported(path: Path) -> list[str]:
    """Dotted names of all modules a file imports, wherever in the file."""
    names: list[str] = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name} has a relative import"
            if node.module == "eigenview":  # from eigenview import runfiles
                names += [f"eigenview.{alias.name}" for alias in node.names]
            else:
                names.append(node.module or "")
    return names


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_imports_flow_one_way(path: Path) -> None:
    """Imports within functions count too."""
    ours = part(path)
    if ours in ANYWHERE or path == SOURCE / "__init__.py":
        return
    assert ours in LEVEL, f"{ours} has no level: add it to LEVEL"
    for name in imported(path):
        top, _, rest = name.partition(".")
        theirs = rest.split(".")[0]
        assert top not in ("experiments", "benchmarks", "tests"), f"{path.name} imports {name}: not in a wheel"
        if top == "eigenview" and theirs not in ("", "__version__"):  # the package itself: its version
            below = LEVEL.get(theirs, LEVEL[ours]) < LEVEL[ours]
            assert theirs in ANYWHERE or theirs == ours or below, f"{path.name} imports {name}"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_collectives_live_in_one_file(path: Path) -> None:
    if path.name != "distributed.py":
        assert not [name for name in imported(path) if name.startswith("torch.distributed")]


def test_the_report_never_imports_torch() -> None:
    for path in (SOURCE / "report").glob("*.py"):
        assert not [name for name in imported(path) if name.split(".")[0] == "torch"]


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_files_fit_the_house(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 350


def imported_at_once(path: Path) -> list[str]:
    """Dotted names of what a file imports when it is imported itself: not within functions, not for types alone."""
    names: list[str] = []
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names += [node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)]
    return names


def test_before_the_first_step_no_library_is_imported_that_only_the_end_needs() -> None:
    """sklearn takes a second, with scipy and pandas: a run imports it after its steps."""
    modules = {".".join(path.relative_to(SOURCE.parent).with_suffix("").parts): path for path in FILES}
    modules = {name.removesuffix(".__init__"): path for name, path in modules.items()}
    coming, seen, others = ["eigenview.engine.train"], set[str](), dict[str, str]()
    while coming:
        name = coming.pop()
        if name in seen:
            continue
        seen.add(name)
        for each in imported_at_once(modules[name]):
            if each in modules:
                coming.append(each)
            else:
                others[each.split(".")[0]] = name
    assert "torch" in others
    late = {"sklearn", "scipy", "pandas", "matplotlib", "pyarrow", "torchvision", "timm"} & set(others)
    assert not late, f"imported before the first step: {[f'{each} by {others[each]}' for each in late]}"
