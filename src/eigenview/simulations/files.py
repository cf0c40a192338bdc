"""What a simulation leaves on disk: numbers.csv, curves.csv, points.csv where there are points, figure.html.

numbers.csv   quantity, then a column per value of the sweep (or `value`)
curves.csv    setting, panel, curve, x axis, x, y axis, y: a row per point of a curve
points.csv    setting, panel, x, y, value
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from eigenview import runfiles
from eigenview.errors import UserError
from eigenview.simulations.layout import members
from eigenview.simulations.page import render
from eigenview.simulations.sweep import Study

NUMBERS, CURVES, POINTS, FIGURE = "numbers.csv", "curves.csv", "points.csv", "figure.html"
OURS = {NUMBERS, CURVES, POINTS, FIGURE}


def check_vacant(directory: Path, png: Path | None = None) -> None:
    """Refuse a directory with anything in it but an earlier simulation, which may be replaced, and its picture."""
    ours = OURS | ({png.name} if png is not None and png.parent.resolve() == directory.resolve() else set())
    try:
        # what a write that was killed left begins with a dot and the name of its file
        is_ours = directory.is_dir() and all(
            path.name in ours or path.name.startswith(tuple(f".{name}." for name in ours))
            for path in directory.iterdir()
        )
    except OSError as error:
        raise UserError(f"--out {directory} cannot be read: {error.strerror}.") from error
    if directory.exists() and not is_ours:
        runfiles.create_run_dir(directory)  # says what is there


def write(study: Study, directory: Path, command: str, png: Path | None = None) -> list[Path]:
    """Write all files, each whole or not at all; the paths in the order to be looked at.

    Raises
        UserError for a directory that holds other files or cannot be written.
    """
    check_vacant(directory, png)
    if not directory.exists():
        runfiles.create_run_dir(directory)
    labels = [label or "value" for label, _ in study.outcomes]
    rows = [(name, *(outcome.numbers.get(name, "") for _, outcome in study.outcomes)) for name in study.quantities]
    runfiles.write_table(directory / NUMBERS, ("quantity", *labels), rows)
    header = ("setting", "panel", "curve", "x axis", "x", "y axis", "y")
    runfiles.write_table(directory / CURVES, header, _curve_rows(study))
    points = list(_point_rows(study))
    if points:
        runfiles.write_table(directory / POINTS, ("setting", "panel", "x", "y", "value"), points)
    else:
        (directory / POINTS).unlink(missing_ok=True)  # of an earlier simulation
    runfiles.write_bytes(directory / FIGURE, render(study, command).encode())
    return [directory / name for name in (FIGURE, NUMBERS, CURVES, *([POINTS] if points else []))]


def _curve_rows(study: Study) -> Iterator[tuple[object, ...]]:
    for label, outcome in study.outcomes:
        for panel in outcome.panels:
            for curve in panel.curves:
                for name, x, y in members(curve):
                    for place, value in zip(x, y, strict=True):
                        yield label, panel.title, name, panel.x, place, panel.y, "" if value is None else value


def _point_rows(study: Study) -> Iterator[tuple[object, ...]]:
    for k, (label, outcome) in enumerate(study.outcomes):
        for cloud in outcome.clouds:
            if k and cloud.is_shared:
                continue
            for (x, y), value in zip(cloud.points.tolist(), cloud.values.tolist(), strict=True):
                yield "" if cloud.is_shared else label, cloud.title, x, y, value
