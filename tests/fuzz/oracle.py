"""What every case promises, whatever its input is.

* It ends by itself: in 30 seconds, in 2 GB, with one of the exit codes of eigenview.cli, and leaves no process behind.
* No traceback and no Python warning in either stream.
* A failure is one line on standard error that begins with "eigenview: ". Lines before it may name images left out;
  `check` prints its table instead.
* Inputs stay as they are; files appear and change only where the command says, and in the caches.
* After exit code 0 the command's result is there.
* Nothing is half-written: no temporary file is left, and after bad input (exit code 2) everything is as it was.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from tests.fuzz.sandbox import CACHES, Command, is_below

SECONDS, MEGABYTES = 30.0, 2048
CODES = (0, 1, 2, 3, 130)
_TEMPORARY = re.compile(r"(^|/)\.[^/]+\.[A-Za-z0-9_]{8}$|(^|/)\.writer$")
_WARNING = re.compile(r"^.*(?<!eigenview: )\b\w*Warning: .*$", re.MULTILINE)


@dataclass(frozen=True, kw_only=True)
class Ending:
    """How a case ended."""

    code: int | None
    """Exit code; negative: killed by that signal. None: ended by the battery."""
    out: str
    err: str
    seconds: float
    megabytes: float
    """Largest memory of the process."""
    why: str = ""
    """Why the battery ended it."""
    left_processes: bool = False


def broken_promises(command: Command, ending: Ending, before: dict[str, str], after: dict[str, str]) -> list[str]:
    """A sentence for each promise that was not kept."""
    return [*_of_the_process(ending), *_of_the_words(command, ending), *_of_the_files(command, ending, before, after)]


def _of_the_process(ending: Ending) -> list[str]:
    found = []
    if ending.why:
        found.append(ending.why)
    elif ending.code not in CODES:
        found.append(f"exit code {ending.code}")
    if ending.left_processes:
        found.append("a process of it was still running")
    return found


def _of_the_words(command: Command, ending: Ending) -> list[str]:
    found = []
    if "Traceback (most recent call last)" in ending.out + ending.err:
        last = [line for line in ending.err.splitlines() if line.strip()]
        return [f"a traceback: {last[-1] if last else ''}"]
    found += [f"a warning: {line}" for line in _WARNING.findall(ending.err)[:1]]
    lines = [line for line in ending.err.split("\n") if line and not line.startswith("left out: ")]
    if ending.code == 2 and command.args[:1] == ["check"] and not lines:
        if not re.search(r" (damaged|missing) ", ending.out):
            found.append("check failed and its table does not say why")
    elif ending.code == 2 and (len(lines) != 1 or not lines[0].startswith("eigenview: ")):
        found.append(f"{len(lines)} lines on standard error")
    elif ending.code == 1 and not lines and "verdict" not in ending.out:
        found.append("it failed without a word")
    return found


def _of_the_files(command: Command, ending: Ending, before: dict[str, str], after: dict[str, str]) -> list[str]:
    changed = sorted(path for path in before.keys() | after.keys() if before.get(path) != after.get(path))
    left = [path for path in after if path not in before and (_TEMPORARY.search(path) or path.startswith("tmp/"))]
    found = [f"a temporary file is left: {path}" for path in left[:1]]
    if ending.code == 0:
        found += [f"it ended well and did not make {path}" for path in command.makes if path not in after]
    ours = [path for path in changed if not is_below(path, CACHES) and path not in left]
    beside = [path for path in ours if not is_below(path, command.may_write)]
    found += [f"{'changed' if path in before else 'created'}: {path}" for path in beside[:1]]
    if ending.code == 2 and not command.replaces:
        found += [f"it failed and {_what(path, before, after)} {path}" for path in ours if path not in beside][:1]
    if ending.code == 2 and command.replaces:
        lost = [path for path in ours if path not in after]
        found += [f"it failed and deleted {path}" for path in lost[:1]]
    return found


def _what(path: str, before: dict[str, str], after: dict[str, str]) -> str:
    return "left" if path not in before else "changed" if path in after else "deleted"
