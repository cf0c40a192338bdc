"""The battery (marked fuzz), and what it stands on: the promises are noticed when they are broken, cases repeat."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fuzz import battery
from tests.fuzz.damage import changed, damage, edited
from tests.fuzz.oracle import Ending, broken_promises
from tests.fuzz.sandbox import Command, listing

CASES, SEED = (
    int(os.environ.get("EIGENVIEW_FUZZ_CASES", "300")),
    int(os.environ.get("EIGENVIEW_FUZZ_SEED", battery.SEED)),
)
ONLY = os.environ.get("EIGENVIEW_FUZZ_ONLY", "")


@pytest.mark.fuzz
@pytest.mark.timeout(120 + 30 * CASES)
def test_every_case_keeps_the_promises(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """The battery runs in an interpreter without pytest, which forks cases and reports those that broke a promise."""
    given = ["--cases", str(CASES), "--seed", str(SEED), "--only", ONLY, "--keep", str(tmp_path / "fuzz")]
    variables = os.environ | {"OMP_NUM_THREADS": "1"}
    with capfd.disabled():
        print()
        done = subprocess.run([sys.executable, "-m", "tests.fuzz.battery", *given], env=variables, check=False)
    assert done.returncode == 0, "cases broke a promise; they are printed above, each with the command that repeats it"


def ending(code: int | None = 0, out: str = "", err: str = "", **others: bool | str) -> Ending:
    return Ending(code=code, out=out, err=err, seconds=1.0, megabytes=1.0, **others)  # type: ignore[arg-type]


REFUSED = ending(2, err="eigenview: x is missing. Give another.\n")


@pytest.mark.parametrize(
    ("command", "ended", "before", "after", "said"),
    [
        (Command(args=["embed"]), ending(), {"x": "1"}, {"x": "1"}, ""),
        (Command(args=["embed"]), REFUSED, {"x": "1"}, {"x": "1", "cache/y": "2"}, ""),
        (Command(args=["check"]), ending(2, out="config.json damaged why\n"), {}, {}, ""),
        (Command(args=["embed"], may_write=("e",)), ending(), {}, {"e": "1"}, ""),
        (Command(args=["embed"]), ending(2, err="left out: 1\neigenview: x\n"), {}, {}, ""),
        (
            Command(args=["embed"]),
            ending(1, err="Traceback (most recent call last):\nKeyError: 1\n"),
            {},
            {},
            "KeyError",
        ),
        (Command(args=["embed"]), ending(0, err="x.py:1: RuntimeWarning: overflow\n"), {}, {}, "a warning"),
        (Command(args=["embed"]), ending(2), {}, {}, "0 lines on standard error"),
        (Command(args=["embed"]), ending(2, err="eigenview: a\nb\n"), {}, {}, "2 lines on standard error"),
        (Command(args=["check"]), ending(2), {}, {}, "does not say why"),
        (Command(args=["embed"]), ending(-11), {}, {}, "exit code -11"),
        (Command(args=["embed"]), ending(1), {}, {}, "without a word"),
        (Command(args=["embed"]), ending(None, why="it took over 30 s"), {}, {}, "over 30 s"),
        (Command(args=["embed"]), ending(left_processes=True), {}, {}, "still running"),
        (Command(args=["embed"], may_write=("e",)), ending(), {}, {"e2": "1"}, "created: e2"),
        (Command(args=["embed"], may_write=("e",), makes=("e",)), ending(), {}, {}, "did not make e"),
        (Command(args=["embed"]), ending(), {"x": "1"}, {"x": "2"}, "changed: x"),
        (Command(args=["embed"]), ending(), {"x": "1"}, {}, "changed: x"),
        (Command(args=["embed"], may_write=("e",)), REFUSED, {"e": "1"}, {}, "deleted e"),
        (Command(args=["embed"], may_write=("e",)), REFUSED, {}, {"e/a": "1"}, "left e/a"),
        (Command(args=["embed"], may_write=("e",)), ending(), {}, {"e/.a.x1_yZ2ab": "1"}, "temporary file"),
        (Command(args=["embed"]), ending(), {}, {"tmp/x": "1"}, "temporary file"),
        (Command(args=["pretrain"], may_write=("r",), replaces=True), REFUSED, {"r/a": "1"}, {}, "deleted r/a"),
        (Command(args=["pretrain"], may_write=("r",)), ending(), {}, {"r/.writer": "1"}, "temporary file"),
    ],
)
def test_a_broken_promise_is_noticed(
    command: Command, ended: Ending, before: dict[str, str], after: dict[str, str], said: str
) -> None:
    found = broken_promises(command, ended, before, after)
    assert bool(found) == bool(said), found
    assert said in " ".join(found)


def test_cases_are_the_same_however_many_there_are() -> None:
    few, many = battery.cases_of(50), battery.cases_of(500)
    assert len(few) == 50
    assert len(many) == 500
    assert {(case.kind, case.number) for case in few} <= {(case.kind, case.number) for case in many}
    assert {case.kind for case in few} == set(battery.KINDS)
    assert (sum(case.is_fresh for case in few), sum(case.is_fresh for case in battery.cases_of(1000))) == (5, 50)
    for kind in battery.KINDS:
        first, other = (battery.drawn(battery.Case(kind, number), SEED) for number in (0, 1))
        assert battery.drawn(battery.Case(kind, 0), SEED) == first != other


def test_damages_change_what_they_name(tmp_path: Path) -> None:
    assert changed(b"abcd", {"how": "flip", "at": 5000, "bit": 0}) == b"abbd"
    assert changed(b"abcd", {"how": "cut", "at": 2500}) == b"a"
    assert changed(b"abcd", {"how": "set", "at": 9999, "to": [120]}) == b"abcx"
    assert changed(b"", {"how": "flip", "at": 0, "bit": 1}) == b""
    edit = {"path": [9999, 0], "do": "set", "value": None}
    assert edited({"a": 1, "b": [2, 3]}, edit) == {"a": 1, "b": [None, 3]}
    assert edited({"a": 1, "b": [2, 3]}, edit | {"do": "delete"}) == {"a": 1, "b": [3]}
    assert edited([1], {"path": [], "do": "set", "value": 7}) == 7
    path = tmp_path / "x.json"
    path.write_text("{}")
    before = listing(tmp_path)
    damage(path, {"how": "place", "what": "folder"})
    assert path.is_dir()
    assert listing(tmp_path) != before
