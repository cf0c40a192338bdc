"""Options that README and docs show exist: every `eigenview` line of their shell blocks is parsed, none is run.

The commands themselves are run by .ci/pages: those of most pages in .ci/run, those of all pages in `make nightly`.
"""

from __future__ import annotations

import importlib
import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from eigenview.cli import VERBS, run
from eigenview.commands import options, pretrain, preview

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
COMMAND = re.compile(rf"\beigenview ((?:{'|'.join(VERBS)})\b[^|>)\n]*)")


class Parsed(Exception):
    """The options of a verb are valid; what it does with them is not wanted here."""


def commands_of(page: Path) -> list[str]:
    """The arguments of eigenview in each line of a page's shell blocks."""
    blocks = re.findall(r"```sh\n(.*?)```", page.read_text(), re.DOTALL)
    return [arguments.strip() for arguments in COMMAND.findall("\n".join(blocks).replace("\\\n", " "))]


CASES = [
    pytest.param(arguments, id=f"{page.relative_to(ROOT).as_posix()}: {arguments[:60]}")
    for page in PAGES
    for arguments in commands_of(page)
]


@pytest.mark.parametrize("arguments", CASES)
def test_options_of_pages_exist(
    arguments: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also of commands that the page expects to be refused: the values are refused, the options exist."""
    parse = options.parse

    def parse_and_stop(*given: Any, **keywords: Any) -> Any:
        parse(*given, **keywords)
        raise Parsed

    words = shlex.split(arguments)
    monkeypatch.chdir(ROOT if words[0] == "list" else tmp_path)  # experiments are listed in a checkout only
    if words[0] == "pretrain":  # it parses twice, and looks at the values in between
        for work in ("_train", "_dry_run"):
            monkeypatch.setattr(pretrain, work, lambda *given, **keywords: 0)
    elif words[0] == "preview":
        monkeypatch.setattr(preview, "_preview", lambda *given: None)
    elif hasattr(module := importlib.import_module(f"eigenview.commands.{words[0]}"), "parse"):
        monkeypatch.setattr(module, "parse", parse_and_stop)
    try:
        code = run(words)
    except Parsed:
        code = 0
    except SystemExit as stop:
        code = int(stop.code or 0)
    assert code == 0, capsys.readouterr().err


def test_the_pages_hold_commands() -> None:
    assert len(CASES) > 50
    assert {words.values[0].split()[0] for words in CASES} >= {"pretrain", "probe", "embed", "report", "simulate"}


def test_pages_left_to_the_night_exist() -> None:
    lines = (ROOT / ".ci/nightly-pages").read_text().splitlines()
    listed = {ROOT / line for line in lines if not line.startswith("#")}
    assert listed
    assert listed < set(PAGES)
