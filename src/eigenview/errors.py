"""Errors a user can act on. The command line prints them in one line and exits with code 2."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence


class UserError(ValueError):
    """Bad input. The message has the value received, the values allowed, and what to do."""


class UnusableLabels(UserError):
    """Labels that probes cannot use. An error where probes were asked for; otherwise a run trains without probes."""


class ReplacedImages(UserWarning):
    """Images broke after they were found, and others stand in for them. The command line prints the line alone."""


class NonFiniteError(RuntimeError):
    """A loss term stopped being finite during training: the message names the term, the step and the likely cause."""


def require(ok: bool, field: str, value: object, allowed: str, advice: str = "") -> None:
    """Raise UserError unless `ok`: one line with the field, the value received, the values allowed, and what to do."""
    if not ok:
        raise UserError(f"{field} is {value!r}; allowed: {allowed}." + (f" {advice}" if advice else ""))


def nearest(name: str, known: Iterable[str]) -> str:
    """`Did you mean X?` for a mistyped name, or an empty string if no name is close."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f"Did you mean {close[0]}?" if close else ""


def listed(names: Sequence[str], most: int = 5) -> str:
    """`a, b, c`, or the first `most` names and how many more there are."""
    return ", ".join(names[:most]) + (f" and {len(names) - most:,} more" if len(names) > most else "")


def hint(name: str, known: Iterable[str]) -> str:
    """`nearest` with a space behind it, to stand between two sentences."""
    found = nearest(name, known)
    return f"{found} " if found else ""


class ProcessLost(RuntimeError):
    """A run on several processes ended because one of them did. The command line prints the line and exits with 1."""


class Interrupted(Exception):
    """The run was asked to stop (a signal, a closed terminal) and can be resumed from its checkpoint at `step`."""

    def __init__(self, step: int, *, is_trained: bool = False) -> None:
        done = "training is complete, and its last checkpoint is saved; the probes and the report are missing"
        super().__init__(done if is_trained else f"stopped at step {step}")
        self.step = step


class Collapsed(Exception):
    """The run stopped because its features collapsed and --monitor.stop-on-collapse is on."""
