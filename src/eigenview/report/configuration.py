"""What was run, as rows of text: options, those that differ, the environment and the command that repeats the run."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import Any

from eigenview import runfiles
from eigenview.report.numbers import MISSING, duration, number, short
from eigenview.report.read import RunRecord
from eigenview.report.tables import Cell, Table, TableRow

ENVIRONMENT_NAMES = {
    "python": "Python",
    "torch": "PyTorch",
    "estimated_memory_gb": "memory, estimated (GB)",
    "measured_memory_gb": "memory, measured (GB)",
    "estimated_seconds": "seconds of training, estimated",
}


def flat(config: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested options under their dotted names; the name of the method is the option `method`."""
    made: dict[str, Any] = {}
    for name, value in config.items():
        dotted = "method" if (prefix, name) == ("method.", "name") else f"{prefix}{name}"
        made |= flat(value, f"{dotted}.") if isinstance(value, dict) else {dotted: value}
    return made


def changed_options(config: dict[str, Any], default: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Dotted name -> (value, default) of each option that differs, or that the default does not know (None)."""
    ours, theirs = flat(config), flat(runfiles.json_ready(default))  # as in JSON: lists, not tuples
    return {
        name: (value, theirs.get(name)) for name, value in ours.items() if name not in theirs or value != theirs[name]
    }


def changed_table(record: RunRecord, default: dict[str, Any]) -> Table | None:
    """Options that differ from their defaults, with the default; None if all are equal."""
    changed = changed_options(record.config, default)
    rows = [TableRow(name, [Cell(option(v)), Cell(option(d))]) for name, (v, d) in changed.items()]
    return Table(["option", "this run", "default"], rows, []) if rows else None


def config_table(record: RunRecord, *, everyday: bool = False) -> Table | None:
    """Every option of the run, or with `everyday` those without a dotted name and those of the method."""
    options = flat(record.config)
    names = [n for n in options if not everyday or "." not in n or n.startswith("method.")]
    rows = [TableRow(name, [Cell(option(options[name]))]) for name in names]
    return Table(["option", "this run"], rows, []) if rows else None


def difference_table(records: Sequence[RunRecord]) -> Table | None:
    """Options in which the runs differ, a column per run; None if there are none."""
    configs = [flat(r.config) for r in records]
    names = dict.fromkeys(name for c in configs for name in c)
    rows = [
        TableRow(name, [Cell(option(c[name]) if name in c else MISSING) for c in configs])
        for name in names
        if any(name not in c or c[name] != configs[0].get(name) for c in configs)
    ]
    return Table(["option", *(r.name for r in records)], rows, []) if rows else None


def environment_table(record: RunRecord) -> Table | None:
    """Versions, machine and times."""
    hidden = ("command", "defaults", "resumed", "pixels")
    rows = [
        TableRow(ENVIRONMENT_NAMES.get(name, name), [Cell(option(value))])
        for name, value in record.environment.items()
        if name not in hidden and value not in (None, "")
    ]
    made = [f"{name} {option(value)}" for name, value in (record.environment.get("pixels") or {}).items() if value]
    rows += [TableRow("pixels", [Cell(", ".join(made))])] if made else []
    for session in record.environment.get("resumed") or []:
        if isinstance(session, dict):
            parts = [f"{name} {option(session[name])}" for name in ("started", "commit", "torch") if session.get(name)]
            rows.append(TableRow("continued", [Cell(f"from step {option(session.get('step'))}: {', '.join(parts)}")]))
    seconds = record.summary.get("seconds")
    if number(seconds) is not None:
        rows.append(TableRow("training took", [Cell(duration(seconds))]))
    if number(record.summary.get("images_per_second")) is not None:
        rows.append(TableRow("speed", [Cell(f"{short(record.summary['images_per_second'])} images/s")]))
    rows.append(
        TableRow("images skipped", [Cell(f"{record.skipped:,}", "listed in skipped.csv" if record.skipped else "")])
    )
    return Table(["", ""], rows, [])


def command(record: RunRecord) -> str:
    """The command that repeats the run, quoted for a shell; empty if it was not recorded."""
    parts = record.environment.get("command")
    return shlex.join(str(part) for part in parts) if isinstance(parts, list) else ""


def option(value: Any) -> str:
    """An option's value as one would type it."""
    if value is None:
        return "not set"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        # ranges within a list, one a view, are LOW:HIGH as on the command line
        return ", ".join(":".join(map(option, v)) if isinstance(v, list | tuple) else option(v) for v in value)
    if isinstance(value, float):
        return f"{value:g}"
    return str(value)
