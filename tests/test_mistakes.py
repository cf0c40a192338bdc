"""docs/mistakes.md: what it shows of refused commands is what they print; .ci/pages runs the others as well."""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from eigenview.cli import run
from tests.readme_commands import BLOCK, differs, transcript

PAGE = (Path(__file__).parents[1] / "docs/mistakes.md").read_text()
REFUSED = [block for block in BLOCK.finditer(PAGE) if block["kind"] == "console" and block["code"] == "2"]
BEFORE_TRAINING = [pair for block in REFUSED[:3] for pair in transcript(block["body"])]


@pytest.mark.parametrize(("line", "expected"), BEFORE_TRAINING)
def test_a_refused_command_prints_what_the_page_shows(
    line: str, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for folder, count in (("photos", 10), ("few", 3)):
        (tmp_path / folder).mkdir()
        for i in range(count):
            pixels = np.random.default_rng(i).integers(0, 256, (20, 20, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / folder / f"{i}.png")
    program, *arguments = shlex.split(line)
    assert program == "eigenview"
    code = run(arguments)
    done = subprocess.CompletedProcess(arguments, code, stdout="".join(capsys.readouterr()))
    assert differs(done, expected, 2) is None, differs(done, expected, 2)


def test_the_page_shows_six_mistakes() -> None:
    assert PAGE.count("\n## ") == 6
    assert len(BEFORE_TRAINING) == 3
    assert len(REFUSED) == 4


def test_outputs_are_compared() -> None:
    done = subprocess.CompletedProcess([], 2, stdout="one 17 s\ntwo  \nthree\n")
    assert differs(done, "one ... s\n...\nthree\n", 2) is None
    assert differs(done, "...\n", 2) is None
    assert differs(done, "...\n", 0)
    assert differs(done, "one ... s\nthree\n", 2)
    assert differs(done, "one ... s\ntwo\n", 2)
