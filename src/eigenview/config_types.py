"""Whether the values of a config are of the kinds its fields are declared with: Python and JSON give anything.

The command line parses by the same declarations, so this speaks to callers in Python and to edited config.json files.
A number must be finite: JSON has no other, and a run must be able to read its own configuration again.
"""

from __future__ import annotations

import dataclasses
import math
import types
from numbers import Integral, Real
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from eigenview.errors import require

WORDS = {int: "an integer", float: "a finite number", bool: "True or False", str: "text", types.NoneType: "None"}


def refuse_other_kinds(config: Any, prefix: str = "") -> None:
    """Raises UserError at the first field, of `config` or of a config in it, whose value is of another kind."""
    for name, kind in get_type_hints(type(config)).items():
        value = getattr(config, name)
        require(_fits(value, kind), f"{prefix}{name}", value, _words(kind))
        if dataclasses.is_dataclass(value):
            refuse_other_kinds(value, f"{prefix}{name}.")


def _fits(value: Any, kind: Any) -> bool:
    origin, options = get_origin(kind), get_args(kind)
    if origin is Literal:
        return value in options
    if origin in (Union, types.UnionType):
        return any(_fits(value, option) for option in options)
    if origin is tuple:
        return isinstance(value, tuple | list) and len(value) == len(options) and all(map(_fits, value, options))
    if kind is int:
        return isinstance(value, Integral) and not isinstance(value, bool)
    if kind is float:
        return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)
    if isinstance(kind, TypeVar):
        return dataclasses.is_dataclass(value)
    return isinstance(value, kind)


def _words(kind: Any) -> str:
    origin, options = get_origin(kind), get_args(kind)
    if origin is Literal:
        return ", ".join(map(str, options))
    if origin in (Union, types.UnionType):
        return " or ".join(map(_words, options))
    if origin is tuple:
        return f"({', '.join(map(_words, options))})"
    return "a config or a dict of its fields" if isinstance(kind, TypeVar) else WORDS.get(kind, f"a {kind.__name__}")
