"""Sentences that must be decoded may not come back: no phrase of BANNED in source, pages and help texts."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from eigenview.cli import VERBS, run
from eigenview.methods import METHODS

ROOT = Path(__file__).parents[1]
FOLDERS = ("src", "docs", "examples")
KINDS = {".py", ".md", ".html", ".js", ".css"}
HISTORY = {"docs/log.md"}
"""Tells of the past in the words of the past."""
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md"]
FILES = PAGES + sorted(
    path
    for folder in FOLDERS
    for path in (ROOT / folder).rglob("*")
    if path.suffix in KINDS and path.relative_to(ROOT).as_posix() not in HISTORY
)

WORDS = [
    *("is told", "said", "settled", "in good order", "whole or not at all", "stranger's", "for ever", "way out"),
    *("where it is not given", "begins anew", "of its own", "a word why"),
]
SENTENCES = [  # of the first edition; what replaced them says the same in the field's words
    *("leaving in good order", "the rest of the run does not notice it", "options that do not go together"),
    *("none is timed: it comes soon enough", "what the last images added is continued in proportion"),
    *("by how much the memory grew at the most", "of which two stand for all", "a run may have come and gone"),
    *("diagnosis and all", "two images span one direction, whatever the network does"),
    *("has left its dtype's range", "would go on with zeros", "is content once one positive is near"),
    *("two threads take as long to meet", "the refusal of second derivatives", "what a sharded function asks of"),
    *("it sees the global batch. off:", "may be predicted, the first of all", "widens the way out of collapse"),
    *("which for the others is another loss", "of the kinds its fields are declared with"),
    *("the collapse is the wreck", "tie its rows together", "the theory says nothing of it"),
    "of what independent features would have",
]
BANNED = re.compile("|".join(rf"(?<!\w){re.escape(phrase)}(?!\w)" for phrase in WORDS + SENTENCES), re.IGNORECASE)

NOT_YET: dict[str, str] = {}
"""File, or help text of a verb -> what is still to be reworded. Whoever rewords a file removes its entry."""


def found_in(text: str) -> list[str]:
    """Every banned phrase of a text, also across the ends of lines, of comments and of strings in a row."""
    lines = (re.sub(r'^\s*(#|\*|>|f?")?\s*', " ", re.sub(r'\s*"?$', "", line)) for line in text.splitlines())
    return BANNED.findall(re.sub(r"\s+", " ", "".join(lines)))


def require_plain(name: str, text: str) -> None:
    found = found_in(text)
    if name in NOT_YET:
        assert found, f"{name} is plain now: remove it from NOT_YET"
        pytest.xfail(f"{name}: {NOT_YET[name]}")
    assert not found, f"{name} has {sorted(set(found))}; write what a tired engineer understands at first reading"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_files_are_plain(path: Path) -> None:
    require_plain(path.relative_to(ROOT).as_posix(), path.read_text())


def exit_code(arguments: list[str]) -> int:
    try:
        return run(arguments)
    except SystemExit as stop:  # tyro ends a help text so
        return int(stop.code or 0)


@pytest.mark.parametrize("verb", ["", *VERBS])
def test_help_is_plain(verb: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "1000")  # a help text in one line
    calls = [["pretrain", "--method", method, "--help"] for method in METHODS] if verb == "pretrain" else []
    assert not any(exit_code(arguments) for arguments in [[*verb.split(), "--help"], *calls])
    text = capsys.readouterr().out
    assert "usage" in text.lower()
    require_plain(f"--help of {verb or 'eigenview'}", text)


def test_what_is_allowed_in_the_table_exists() -> None:
    names = {path.relative_to(ROOT).as_posix() for path in FILES} | {f"--help of {verb}" for verb in VERBS}
    assert set(NOT_YET) <= names | {"--help of eigenview"}


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("It is written atomically.", []),
        ("Written whole or\n    not at all.", ["whole or not at all"]),
        ("# as Was\n# Said above", ["Said"]),
        ('    "left in "\n    "good order"', ["in good order"]),
        ("unsaid, settled2, of its owner", []),
        ("the way\nout", ["way out"]),
    ],
)
def test_phrases_are_found_across_lines(text: str, found: list[str]) -> None:
    assert found_in(text) == found
