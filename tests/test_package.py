"""What the package says of itself: metadata, versions and pins, and the files that other services read."""

from __future__ import annotations

import re
import subprocess
import tomllib
from importlib.metadata import metadata
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

import eigenview

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
GROUPS: dict[str, list[str]] = {
    "dependencies": PROJECT["project"]["dependencies"],
    **PROJECT["project"]["optional-dependencies"],
    **PROJECT["dependency-groups"],
}
DECLARED = [pytest.param(Requirement(text), id=f"{group}: {text}") for group, texts in GROUPS.items() for text in texts]
PINS = {canonicalize_name(r.name): r for r in map(Requirement, PROJECT["tool"]["uv"]["constraint-dependencies"])}
YAML_FILES = [*sorted((ROOT / ".github").rglob("*.yml")), ROOT / ".pre-commit-config.yaml", ROOT / "CITATION.cff"]
NO_TOOLS = {"pytest", "ruff", "pyright", "hypothesis", "beartype", "datasets", "matplotlib", "mkdocs", "lightly"}


def read_yaml(path: Path) -> dict[Any, Any]:
    content = yaml.safe_load(path.read_text())
    assert isinstance(content, dict)
    return content


def minimum(requirement: Requirement) -> Version:
    """The lowest version a requirement admits, as it is declared."""
    (lower,) = [part for part in requirement.specifier if part.operator == ">="]
    return Version(lower.version)


def test_type_checkers_see_the_annotations() -> None:
    assert (Path(eigenview.__file__).parent / "py.typed").is_file()


def test_the_version_is_written_once() -> None:
    assert "version" not in PROJECT["project"]
    assert PROJECT["project"]["dynamic"] == ["version"]
    written = (ROOT / PROJECT["tool"]["hatch"]["version"]["path"]).read_text()
    assert re.findall(r'^__version__ = "(.*)"$', written, re.MULTILINE) == [eigenview.__version__]


def test_citation_names_this_version() -> None:
    citation = read_yaml(ROOT / "CITATION.cff")
    assert str(citation["version"]) == eigenview.__version__
    assert citation["license"] == PROJECT["project"]["license"]
    assert citation["authors"] == [{"name": "The eigenview authors"}]


def test_all_links_have_one_base() -> None:
    """No address is known yet. When there is one, it changes in pyproject.toml and in the files that this names."""
    base = PROJECT["project"]["urls"]["Homepage"]
    assert all(url == base or url.startswith(f"{base}/") for url in PROJECT["project"]["urls"].values())
    for name in ("CITATION.cff", "CHANGELOG.md"):
        assert base in (ROOT / name).read_text()


@pytest.mark.parametrize("path", YAML_FILES, ids=lambda path: path.name)
def test_yaml_files_can_be_read(path: Path) -> None:
    assert read_yaml(path)


@pytest.mark.parametrize("name", ["gate", "nightly"])
def test_workflows_run_scripts_that_exist(name: str) -> None:
    """What a workflow runs can be run on one's own machine too."""
    jobs = read_yaml(ROOT / ".github" / "workflows" / f"{name}.yml")["jobs"]
    commands = [step["run"] for job in jobs.values() for step in job["steps"] if "run" in step]
    scripts = [command.split()[0] for command in commands if command.startswith(".ci/")]
    assert scripts
    assert all((ROOT / script).stat().st_mode & 0o100 for script in scripts)
    targets = {target for command in commands if command.startswith("make ") for target in command.split()[1:]}
    assert targets <= set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def test_the_nightly_versions_are_cases_of_the_script() -> None:
    jobs = read_yaml(ROOT / ".github" / "workflows" / "nightly.yml")["jobs"]
    (cases,) = re.findall(r"cases=\(([^)$]+)\)", (ROOT / ".ci" / "versions").read_text())
    assert jobs["versions"]["strategy"]["matrix"]["case"] == cases.split()
    pythons = {f"Programming Language :: Python :: {case.partition('-')[2]}" for case in cases.split()}
    assert pythons == {c for c in PROJECT["project"]["classifiers"] if re.search(r":: 3\.\d+$", c)}


def test_an_install_has_no_developer_tools() -> None:
    assert PROJECT["tool"]["uv"]["default-groups"] == []
    assert not NO_TOOLS & {Requirement(text).name for text in GROUPS["dependencies"]}


@pytest.mark.parametrize("requirement", DECLARED)
def test_every_dependency_has_a_minimum_and_a_pin(requirement: Requirement) -> None:
    pin = PINS[canonicalize_name(requirement.name)]
    (exact,) = pin.specifier
    assert exact.operator == "=="
    assert minimum(requirement) <= Version(exact.version)


def test_a_package_has_one_minimum() -> None:
    """In all groups: the lowest versions are installed together."""
    lowest: dict[str, set[Version]] = {}
    for texts in GROUPS.values():
        for requirement in map(Requirement, texts):
            lowest.setdefault(canonicalize_name(requirement.name), set()).add(minimum(requirement))
    assert {name: versions for name, versions in lowest.items() if len(versions) > 1} == {}


def test_commands_that_need_developer_tools_ask_for_the_group() -> None:
    """`uv run pytest` alone would not find pytest on a fresh clone."""
    files = ["Makefile", "CONTRIBUTING.md", ".pre-commit-config.yaml", ".ci/run", ".ci/pages", ".ci/versions"]
    for name in files:
        assert not re.findall(r"uv run (?:pytest|ruff|pyright)\b.*", (ROOT / name).read_text()), name


def test_the_lock_file_is_not_committed() -> None:
    """It would hold the address of somebody's package index."""
    done = subprocess.run(["git", "ls-files", "uv.lock"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert not done.stdout


def test_installed_metadata() -> None:
    installed = metadata("eigenview")
    assert installed["Author"] == "the eigenview authors"
    assert installed["Requires-Python"] == ">=3.11"
    assert installed["License-Expression"] == "MIT"
