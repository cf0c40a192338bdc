"""What a JSON value may be, declared once per file, and the first place where a value differs from it.

A kind is a Leaf (a number, text, ...), Maybe (also null), ListOf, TableOf (an object with names of any kind) or Fields
(an object with known names). Names that Fields does not list are allowed and not looked at: a later version wrote them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

LARGEST_INTEGER = 2**64
SHOWN = 60  # characters of a wrong value that a message repeats


@dataclass(frozen=True)
class Leaf:
    """A value without parts."""

    words: str
    accepts: Callable[[Any], bool]


@dataclass(frozen=True)
class Maybe:
    """null, or the kind."""

    kind: Kind


@dataclass(frozen=True)
class ListOf:
    """A list whose values are all of one kind; `length` values if that is given."""

    kind: Kind
    length: int | None = None


@dataclass(frozen=True)
class TableOf:
    """An object whose values are all of one kind, under any names."""

    kind: Kind


@dataclass(frozen=True, kw_only=True)
class Fields:
    """An object: `required` must be there, `optional` may be; both have the kind that is given."""

    required: Mapping[str, Kind] = field(default_factory=dict)
    optional: Mapping[str, Kind] = field(default_factory=dict)


@dataclass(frozen=True)
class Either:
    """One of two kinds, the first for JSON objects and lists, the second for everything else."""

    with_parts: Kind
    without: Kind


Kind = Leaf | Maybe | ListOf | TableOf | Fields | Either


def integer(least: int = -LARGEST_INTEGER, most: int = LARGEST_INTEGER) -> Leaf:
    """A whole number from `least` to `most`."""
    if most < LARGEST_INTEGER:
        words = f"a whole number from {least} to {most}"
    else:
        words = "a whole number" if least == -LARGEST_INTEGER else f"a whole number, {least} or more"
    return Leaf(words, lambda value: type(value) is int and least <= value <= most)


def number(least: float = -math.inf) -> Leaf:
    """A finite number, `least` or more."""
    words = "a number" if least == -math.inf else f"a number, {least:g} or more"
    return Leaf(words, lambda value: type(value) in (int, float) and math.isfinite(value) and value >= least)


def one_of(*names: str) -> Leaf:
    """One of these texts."""
    return Leaf(f"one of {', '.join(names)}", lambda value: isinstance(value, str) and value in names)


TEXT = Leaf("text", lambda value: isinstance(value, str))
FLAG = Leaf("true or false", lambda value: isinstance(value, bool))
LABEL = Leaf("text or a whole number", lambda value: isinstance(value, str) or type(value) is int)
PLAIN = Leaf("text, a number, true, false or null", lambda value: not isinstance(value, dict | list))
ANY = Leaf("any value", lambda value: True)
OBJECT = TableOf(ANY)
NUMBERS = TableOf(Maybe(number()))


def misfit(value: Any, kind: Kind, name: str = "") -> str | None:
    """A sentence about the first place where `value`, which it calls `name`, is not of the kind; None if there is none.

    Values come from JSON of limited depth (`reading.MOST_DEPTH`).
    """
    match kind:
        case Leaf():
            return None if kind.accepts(value) else _sentence(name, value, kind.words)
        case Maybe():
            if value is None:
                return None
            found = misfit(value, kind.kind, name)
            return None if found is None else found + ", or null"
        case Either():
            return misfit(value, kind.with_parts if isinstance(value, dict | list) else kind.without, name)
        case ListOf():
            if not isinstance(value, list) or (kind.length is not None and len(value) != kind.length):
                return _sentence(name, value, "a list" if kind.length is None else f"a list of {kind.length} values")
            return _first(misfit(each, kind.kind, f"{name}[{k}]") for k, each in enumerate(value))
        case TableOf():
            if not isinstance(value, dict):
                return _sentence(name, value, "an object with named fields")
            return _first(misfit(each, kind.kind, _below(name, key)) for key, each in value.items())
        case Fields():
            if not isinstance(value, dict):
                return _sentence(name, value, "an object with named fields")
            missing = next((key for key in kind.required if key not in value), None)
            if missing is not None:
                return f"{_below(name, missing)} is missing"
            known = {**kind.required, **kind.optional}
            return _first(misfit(value[key], known[key], _below(name, key)) for key in known if key in value)


def _first(found: Any) -> str | None:
    return next((each for each in found if each is not None), None)


def _below(name: str, key: str) -> str:
    key = key if key.isidentifier() else repr(key[:SHOWN])
    return f"{name}.{key}" if name else key


def _sentence(name: str, value: Any, words: str) -> str:
    if isinstance(value, dict | list):
        shown = f"{'an object' if isinstance(value, dict) else 'a list'} of {len(value)} values"
    else:
        shown = repr(value)
        shown = shown if len(shown) <= SHOWN else f"{shown[:SHOWN]}..."
    return f"{name or 'it'} is {shown}; expected {words}"
