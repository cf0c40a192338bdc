"""Rows for people, for a Markdown page, and for programs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table

from benchmarks.contest import Goal, Row

HEADINGS = ("case", "contestant", "what", "threads", "ours", "theirs", "accept", "aim", "measured", "holds")
Line = Mapping[str, Any]


def measured(row: Row) -> str:
    """The figure (2.50x, 24x, 8.3 %, +0.04), with enough digits that rounding brings it to no goal that it misses."""
    scale, unit = {"%": (100, " %"), "x": (1, "x"), "+": (1, "")}[row.form]
    value, goal = scale * row.figure, row.goal
    fewest = 1 if row.form == "%" else 2 if value < 10 else 0
    for digits in range(fewest, 9):
        rounded = round(value, digits) / scale
        if goal is None or (goal.is_met(rounded) == row.is_accepted and goal.is_exceeded(rounded) == row.is_aimed):
            return f"{value:{'+' if row.form == '+' else ''},.{digits}f}{unit}"
    return f"{value}{unit}"


def asked(limit: float | None, goal: Goal, form: str) -> str:
    """A limit with its direction; empty if there is none."""
    if limit is None:
        return ""
    return f"{'at most' if goal.at_most else 'at least'} " + (
        f"{100 * limit:g} %" if form == "%" else f"{limit:g}{'x' if form == 'x' else ''}"
    )


def amount(value: float | None, unit: str) -> str:
    """A number with its unit and three or four digits."""
    if value is None:
        return ""
    digits = 0 if value >= 1000 else 1 if value >= 100 else 2 if value >= 1 else 4
    return f"{value:,.{digits}f} {unit}"


def cells(row: Row) -> list[str]:
    """One line of the table, under HEADINGS."""
    goals = [asked(g, row.goal, row.form) for g in (row.goal.accept, row.goal.aim)] if row.goal else ["", ""]
    threads = "" if row.threads is None else str(row.threads)
    numbers = [amount(value, row.unit) for value in (row.ours, row.theirs)]
    return [
        row.case,
        row.contestant,
        row.quantity,
        threads,
        *numbers,
        *goals,
        measured(row),
        row.verdict,
    ]


def _without_repeats(rows: Sequence[Row]) -> list[list[str]]:
    lines, last = [], ""
    for row in rows:
        first, *rest = cells(row)
        lines.append(["" if first == last else first, *rest])
        last = first
    return lines


def table_of(section: str, rows: Sequence[Row]) -> Table:
    """A section for the terminal."""
    table = Table(*HEADINGS, title=section, title_justify="left")
    for line in _without_repeats(rows):
        if line[0]:
            table.add_section()
        table.add_row(*line)
    return table


def markdown_of(sections: Mapping[str, Sequence[Row]], ceilings: Sequence[Line], machine: Line) -> str:
    """The whole table for RESULTS.md."""
    facts = ", ".join(f"{name} {value}" for name, value in machine.items() if value is not None)
    lines = [f"Measured with: {facts}.", "", "Ceilings of the machine:", ""]
    lines += ["| " + " | ".join(each) + " |" for each in _ceiling_lines(ceilings)]
    for section, rows in sections.items():
        lines += ["", f"### {section}", "", "| " + " | ".join(HEADINGS) + " |", "|" + "---|" * len(HEADINGS)]
        lines += ["| " + " | ".join(line) + " |" for line in _without_repeats(rows)]
    judged = [row for rows in sections.values() for row in rows if row.goal is not None]
    missed = [row for row in judged if not row.is_accepted]
    if judged:
        lines += ["", f"{len(judged) - len(missed)} of {len(judged)} lines with a goal are acceptable."]
    return "\n".join(lines) + "\n"


def _ceiling_lines(ceilings: Sequence[Line]) -> list[list[str]]:
    names = list(ceilings[0])
    rule = [["---"] * len(names)]
    return [names] + rule + [[f"{line[name]:,}" for name in names] for line in ceilings]


def json_lines(rows: Sequence[Row], machine: Line) -> list[str]:
    """A line of JSON for each row, with what it was measured on."""
    return [json.dumps({"benchmark": "side_by_side", **row.line(), **machine}) for row in rows]


def document(
    sections: Mapping[str, Sequence[Row]], ceilings: Sequence[Line], machine: Line, profiles: Sequence[Line] = ()
) -> str:
    """Everything as one JSON document."""
    rows = [row.line() for each in sections.values() for row in each]
    content = {"machine": dict(machine), "ceilings": list(ceilings), "rows": rows, "profiles": list(profiles)}
    return json.dumps(content, indent=1) + "\n"
