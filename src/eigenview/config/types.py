"""Checks the values of a config against the annotations of its fields.

The command line parses by the same annotations; this check is for callers in Python and for edited config.json files.
A number must be finite: JSON has no other, and a run must be able to read its own configuration again.
"""

from __future__ import annotations

import dataclasses
import sys
import types
from collections.abc import Callable, Mapping
from numbers import Integral, Real
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from eigenview.errors import require

LARGEST = 10**9
"""Size of any number that has no narrower bound: beyond it there are only typing errors, and tensors that overflow."""
UNBOUNDED = ("seed",)
"""Fields with a larger bound."""
WORDS: dict[Any, str] = {int: "an integer", float: "a finite number", bool: "True or False", str: "text"}
WORDS |= {types.NoneType: "None"}


def check_types(config: Any, prefix: str = "") -> None:
    """Raises UserError at the first field, of `config` or of a config in it, whose value has another type."""
    kinds = get_type_hints(type(config))
    for name in (each.name for each in dataclasses.fields(config)):
        kind, value = kinds[name], getattr(config, name)
        require(_fits(value, kind), f"{prefix}{name}", value, _words(kind))
        if isinstance(value, int | float) and name not in UNBOUNDED:
            require(abs(value) <= LARGEST, f"{prefix}{name}", value, f"numbers up to {LARGEST:,}")
        if dataclasses.is_dataclass(value):
            check_types(value, f"{prefix}{name}.")


def check_fields(kind: type, fields: Mapping[str, Any], prefix: str = "") -> None:
    """Raises UserError at the first of these values that the field of this name of a config class does not allow."""
    kinds = get_type_hints(kind)
    for name, value in fields.items():
        require(_fits(value, kinds[name]), f"{prefix}{name}", value, _words(kinds[name]))


def _fits(value: Any, kind: Any) -> bool:
    origin, options = get_origin(kind), get_args(kind)
    if origin is Literal:
        return value in options
    if origin in (Union, types.UnionType):
        return any(_fits(value, option) for option in options)
    if origin is Callable:
        return callable(value)
    if origin is tuple and options[-1] is ...:
        return isinstance(value, tuple | list) and len(value) > 0 and all(_fits(each, options[0]) for each in value)
    if origin is tuple:
        return isinstance(value, tuple | list) and len(value) == len(options) and all(map(_fits, value, options))
    if kind is int:
        return isinstance(value, Integral) and not isinstance(value, bool)
    if kind is float:
        is_number = isinstance(value, Real) and not isinstance(value, bool)
        return is_number and abs(value) <= sys.float_info.max  # type: ignore[operator]
    if isinstance(kind, TypeVar):
        return dataclasses.is_dataclass(value)
    return isinstance(value, kind)


def _words(kind: Any) -> str:
    origin, options = get_origin(kind), get_args(kind)
    if origin is Literal:
        return ", ".join(map(str, options))
    if origin in (Union, types.UnionType):
        return " or ".join(map(_words, options))
    if origin is Callable:
        return "a function"
    if origin is tuple:
        return f"({', '.join('...' if option is ... else _words(option) for option in options)})"
    return (
        "a method's config, such as VICRegConfig()"
        if isinstance(kind, TypeVar)
        else WORDS.get(kind, f"a {kind.__name__}")
    )
