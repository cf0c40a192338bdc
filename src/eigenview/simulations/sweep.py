"""Runs a simulation for one set of options, or once per value of one option: `--sweep eta=0.05,0.1,0.2`."""

from __future__ import annotations

import dataclasses
import math
import typing
from dataclasses import dataclass
from types import NoneType
from typing import Any, Literal

from eigenview.errors import UserError, nearest, require
from eigenview.simulations.result import Result, Theory

MAX_VALUES = 7  # as many as the palette has distinguishable colours
SMALLEST, LARGEST = 1e-12, 1e4
"""In size, of the numbers of a theory, whose values are near 1: beyond, one sees the limits of float64."""
MOST_SEED = 2**32 - 1


@dataclass(frozen=True)
class Study:
    """All results of one command: one, or one per value of the sweep."""

    name: str
    assumptions: str
    results: tuple[tuple[str, Result], ...]
    """Pairs (label, result), for example (`eta = 0.1`, ...). Without a sweep a single pair with an empty label."""

    @property
    def quantities(self) -> list[str]:
        """Names of all numbers of all results, in the order of first appearance."""
        return list(dict.fromkeys(name for _, result in self.results for name in result.numbers))


def run(name: str, theory: Theory, options: Any, sweep: str | None) -> Study:
    """Simulate once per value of the sweep, or once with `options` if there is no sweep.

    Raises
        UserError for a sweep of an unknown option, and for values of the wrong type, repeated values or more than seven
        values. An error of the simulation itself is raised again with the value of the sweep in front.
    """
    if sweep is None and theory.default_sweep is not None:
        option, _ = parse_sweep(theory.default_sweep, theory.options)
        sweep = theory.default_sweep if getattr(options, option) is None else None
    if sweep is None:
        return Study(name, theory.assumptions, (("", _simulated(theory, options)),))
    option, values = parse_sweep(sweep, theory.options)
    results: list[tuple[str, Result]] = []
    for value in values:
        shown = f"{value:g}" if isinstance(value, float) else str(value).lower()
        label = f"{option.replace('_', '-')} = {shown}"
        try:
            results.append((label, _simulated(theory, dataclasses.replace(options, **{option: value}))))
        except UserError as error:
            raise UserError(f"at {label}: {error}") from error
    return Study(name, theory.assumptions, tuple(results))


def _simulated(theory: Theory, options: Any) -> Result:
    """The result for these options. Raises UserError for a number that no memory, time or float64 suffices for."""
    for field, given in vars(options).items():
        for value in given if isinstance(given, tuple) else (given,):
            name = field.replace("_", "-")
            if name == "seed":
                require(value <= MOST_SEED, name, value, f"up to {MOST_SEED:,}")
            elif isinstance(value, float) and math.isfinite(value):  # the theories refuse the others
                is_plain = value == 0 or SMALLEST <= abs(value) <= LARGEST
                require(is_plain, name, value, f"0, or {SMALLEST:g} to {LARGEST:g} in size")
    return theory.simulate(options)


def parse_sweep(text: str, options: type) -> tuple[str, list[Any]]:
    """Parse `option=a,b,c` into the name of a field of `options` and values of its type."""
    option, equals, listed = text.partition("=")
    option = option.strip().lstrip("-").replace("-", "_")
    hints = typing.get_type_hints(options)
    types = {f.name: hints[f.name] for f in dataclasses.fields(options) if not _is_list(hints[f.name])}
    names = ", ".join(name.replace("_", "-") for name in types)
    require(bool(equals), "--sweep", text, "option=a,b,c", f"Options: {names}.")
    require(option in types, "the option of --sweep", option, names, nearest(option, types))
    values = [_parse_value(option, types[option], item.strip()) for item in listed.split(",")]
    require(len(values) == len(set(values)), "--sweep", text, "distinct values")
    require(len(values) <= MAX_VALUES, "the number of values of --sweep", len(values), f"1 to {MAX_VALUES}")
    return option, values


def _is_list(annotation: Any) -> bool:
    """Whether a field takes several values (a tuple, or a tuple or None)."""
    return any(typing.get_origin(part) is tuple for part in (annotation, *typing.get_args(annotation)))


def _parse_value(option: str, annotation: Any, text: str) -> Any:
    """Convert one value of the sweep to the annotated type of its field."""
    if typing.get_origin(annotation) is Literal:
        require(text in typing.get_args(annotation), option, text, ", ".join(typing.get_args(annotation)))
        return text
    types = typing.get_args(annotation) or (annotation,)
    if NoneType in types and text.lower() == "none":
        return None
    if bool in types:
        require(text in ("true", "false"), option, text, "true, false")
        return text == "true"
    number = float if float in types else int
    try:
        return number(text)
    except ValueError:
        allowed = "a whole number" if number is int else "a number"
        raise UserError(f"{option} is {text!r} in --sweep; allowed: {allowed}.") from None
