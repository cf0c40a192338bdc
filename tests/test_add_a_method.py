"""docs/add-a-method.md is true: its one file, its test and its one line make a method that trains, reports and agrees.

Both ways of the page: a module of the user's own, and a file in a copy of the package.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from eigenview.cli import run

ROOT = Path(__file__).resolve().parents[1]
BLOCKS = re.findall(r"```python\n(.*?)```", (ROOT / "docs/add-a-method.md").read_text(), re.DOTALL)
METHOD_FILE, TEST_FILE = BLOCKS


def photos(folder: Path) -> Path:
    """A few coloured pictures in two class folders."""
    rng = np.random.default_rng(0)
    for k in range(96):
        (folder / "ab"[k % 2]).mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 60, (20, 20, 3)) + (k % 2) * np.linspace(0, 180, 20)[:, None]
        Image.fromarray(pixels.astype("uint8")).save(folder / "ab"[k % 2] / f"{k}.png")
    return folder


def python(arguments: list[str], where: Path, path: Path) -> subprocess.CompletedProcess[str]:
    environment = {
        **os.environ,
        "PYTHONPATH": str(path),
        "EIGENVIEW_CACHE": str(where / "cache"),
        "OMP_NUM_THREADS": "1",
    }
    done = subprocess.run(
        [sys.executable, *arguments], cwd=where, env=environment, text=True, capture_output=True, timeout=240
    )
    assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done


def commands(calls: list[list[str]], then: str, where: Path, path: Path) -> str:
    """What several command lines and then a statement print, in one process: importing torch takes longest."""
    lines = ["from eigenview.cli import run", f"for call in {calls!r}: assert run(call) == 0, call", then]
    return python(["-c", "\n".join(lines)], where, path).stdout


def command_lines(method: str, where: Path) -> list[list[str]]:
    """Command lines: `pretrain FOLDER --method NAME` from start to report, and its finished directory resumed."""
    options = ["--epochs", "2", "--batch-size", "16", "--encoder", "conv-tiny", "--method.centring", "0.5"]
    return [
        ["pretrain", str(photos(where / "photos")), "--out", "run", "--method", method, *options],
        ["pretrain", "--out", "run", "--resume", "--method", method],
    ]


def assert_it_trained(method: str, where: Path) -> None:
    summary = json.loads((where / "run/summary.json").read_text())
    assert summary["finished"] is True
    assert summary["method"] == method
    assert summary["knn"] is not None
    config = json.loads((where / "run/config.json").read_text())
    assert config["method"] == {"name": method, "centring": 0.5}
    assert config["network"]["projector_width"] == 64  # of the card's recipe
    rows = [json.loads(line) for line in (where / "run/metrics.jsonl").read_text().splitlines()]
    assert set(rows[-1]["terms"]) == {"agreement", "centring"}
    assert "agreement" in (where / "run/report.html").read_text()


def test_a_module_of_the_user_s_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    package = tmp_path / "my_methods"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "centred.py").write_text(METHOD_FILE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    for call in command_lines("my_methods.centred", tmp_path):
        assert run(call) == 0
    assert_it_trained("my_methods.centred", tmp_path)
    capsys.readouterr()
    with pytest.raises(SystemExit):
        run(["pretrain", "--method", "my_methods.centred", "--help"])
    assert "--method.centring" in capsys.readouterr().out


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the package and of the contract tests with the page's file, line and test."""
    copy = tmp_path_factory.mktemp("checkout")
    shutil.copytree(ROOT / "src", copy / "src", ignore=shutil.ignore_patterns("__pycache__"))
    (copy / "src/eigenview/methods/centred.py").write_text(METHOD_FILE)
    listed = copy / "src/eigenview/methods/__init__.py"
    listed.write_text(listed.read_text().replace('    "isoloss",\n', '    "isoloss",\n    "centred",\n'))
    for part in ("__init__.py", "conftest.py", "process_pool.py", "contract", "methods/__init__.py"):
        source, target = ROOT / "tests" / part, copy / "tests" / part
        target.parent.mkdir(parents=True, exist_ok=True)
        (shutil.copytree if source.is_dir() else shutil.copy)(source, target)
    (copy / "tests/methods/test_centred.py").write_text(TEST_FILE)
    shutil.copy(ROOT / "pyproject.toml", copy)
    return copy


@pytest.mark.slow
def test_a_file_and_a_line_in_the_package(checkout: Path, tmp_path: Path) -> None:
    from_python = "import eigenview as ev; ev.Centred(ev.CentredConfig(centring=2.0))"
    shown = commands(
        [*command_lines("centred", tmp_path), ["list", "methods"]], from_python, tmp_path, checkout / "src"
    )
    assert_it_trained("centred", tmp_path)
    assert "views agree, the mean embedding is zero" in shown


@pytest.mark.slow
def test_the_contract_and_its_own_test_hold(checkout: Path) -> None:
    """The battery over the new method alone, on 1, 2 and 4 processes; none of the battery's files was changed."""
    tests = ["tests/contract/test_objectives.py", "tests/methods/test_centred.py", "-k", "centred"]
    options = ["-n", "0", "-q", "-p", "no:cacheprovider", "-o", "addopts=", "-m", "not slow"]
    done = python(["-m", "pytest", *options, *tests], checkout, checkout / "src")
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed is not None
    assert int(passed[1]) > 40, done.stdout
