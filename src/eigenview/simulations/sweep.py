"""One set of options, or one option at several values: `--sweep eta=0.05,0.1,0.2`."""

from __future__ import annotations

import dataclasses
import typing
from dataclasses import dataclass
from types import NoneType
from typing import Any, Literal

from eigenview.errors import UserError, nearest, require
from eigenview.simulations.outcome import Outcome, Theory

MOST = 7  # as many colours as can be told apart


@dataclass(frozen=True)
class Study:
    """What was simulated under one name."""

    name: str
    assumptions: str
    outcomes: tuple[tuple[str, Outcome], ...]
    """Label such as `eta = 0.1` and its outcome; one with an empty label where nothing was swept."""

    @property
    def quantities(self) -> list[str]:
        """Names of all numbers, in the order in which they appear."""
        return list(dict.fromkeys(name for _, outcome in self.outcomes for name in outcome.numbers))


def run(name: str, theory: Theory, options: Any, sweep: str | None) -> Study:
    """Simulate once per value of the sweep.

    Raises
        UserError for a sweep of an unknown option, of values of the wrong kind, twice the same or more than seven, and
        what the simulation refuses; the message then names the value.
    """
    if sweep is None and theory.usual_sweep is not None:
        usual, _ = parse_sweep(theory.usual_sweep, theory.options)
        sweep = theory.usual_sweep if getattr(options, usual) is None else None
    if sweep is None:
        return Study(name, theory.assumptions, (("", theory.simulate(options)),))
    option, values = parse_sweep(sweep, theory.options)
    outcomes: list[tuple[str, Outcome]] = []
    for value in values:
        shown = f"{value:g}" if isinstance(value, float) else str(value).lower()
        label = f"{option.replace('_', '-')} = {shown}"
        try:
            outcomes.append((label, theory.simulate(dataclasses.replace(options, **{option: value}))))
        except UserError as error:
            raise UserError(f"at {label}: {error}") from error
    return Study(name, theory.assumptions, tuple(outcomes))


def parse_sweep(text: str, options: type) -> tuple[str, list[Any]]:
    """`option=a,b,c` as the name of a field and values of its type."""
    option, equals, listed = text.partition("=")
    option = option.strip().lstrip("-").replace("-", "_")
    kinds = {f.name: typing.get_type_hints(options)[f.name] for f in dataclasses.fields(options)}
    kinds = {name: kind for name, kind in kinds.items() if not _is_list(kind)}
    names = ", ".join(name.replace("_", "-") for name in kinds)
    require(bool(equals), "--sweep", text, "option=a,b,c", f"Options: {names}.")
    require(option in kinds, "the option of --sweep", option, names, nearest(option, kinds))
    values = [_value(option, kinds[option], item.strip()) for item in listed.split(",")]
    require(len(values) == len(set(values)), "--sweep", text, "values that differ")
    require(len(values) <= MOST, "the number of values of --sweep", len(values), f"1 to {MOST}")
    return option, values


def _is_list(kind: Any) -> bool:
    return any(typing.get_origin(k) is tuple for k in (kind, *typing.get_args(kind)))


def _value(option: str, kind: Any, text: str) -> Any:
    """One value of the sweep, as the field's type says."""
    if typing.get_origin(kind) is Literal:
        require(text in typing.get_args(kind), option, text, ", ".join(typing.get_args(kind)))
        return text
    kinds = typing.get_args(kind) or (kind,)
    if NoneType in kinds and text.lower() == "none":
        return None
    if bool in kinds:
        require(text in ("true", "false"), option, text, "true, false")
        return text == "true"
    number = float if float in kinds else int
    try:
        return number(text)
    except ValueError:
        allowed = "a whole number" if number is int else "a number"
        raise UserError(f"{option} is {text!r} in --sweep; allowed: {allowed}.") from None
