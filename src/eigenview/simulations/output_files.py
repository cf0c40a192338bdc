"""Writes the files of a simulation.

numbers.csv   quantity, then one column per value of the sweep (without a sweep: `value`)
curves.csv    setting, panel, curve, x axis, x, y axis, y: one row per point of a curve
points.csv    setting, panel, x, y, value: one row per point; only for simulations with scatter plots
figure.html   the interactive page
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from eigenview import runfiles
from eigenview.errors import UserError
from eigenview.simulations.html_page import render
from eigenview.simulations.plot_data import lines_of
from eigenview.simulations.sweep import Study

NUMBERS, CURVES, POINTS, FIGURE = "numbers.csv", "curves.csv", "points.csv", "figure.html"
OUTPUT_FILES = {NUMBERS, CURVES, POINTS, FIGURE}


def check_output_dir(directory: Path, png: Path | None = None) -> None:
    """Raise UserError if `directory` holds anything but the files of an earlier simulation and its PNG.

    Those may be overwritten.
    """
    ours = OUTPUT_FILES | ({png.name} if png is not None and png.parent.resolve() == directory.resolve() else set())
    try:
        # a write that was killed leaves a temporary file `.NAME....`; it may be overwritten too
        is_ours = directory.is_dir() and all(
            path.name in ours or path.name.startswith(tuple(f".{name}." for name in ours))
            for path in directory.iterdir()
        )
    except OSError as error:
        raise UserError(f"--out {directory} cannot be read: {error.strerror}.") from error
    if directory.exists() and not is_ours:
        runfiles.create_run_dir(directory)  # raises the error that names the directory


def write(study: Study, directory: Path, command: str, png: Path | None = None) -> list[Path]:
    """Write all files, each atomically. Returns their paths, the page first.

    Raises
        UserError for a directory that holds other files or cannot be written.
    """
    check_output_dir(directory, png)
    if not directory.exists():
        runfiles.create_run_dir(directory)
    labels = [label or "value" for label, _ in study.results]
    rows = [(name, *(result.numbers.get(name, "") for _, result in study.results)) for name in study.quantities]
    runfiles.write_table(directory / NUMBERS, ("quantity", *labels), rows)
    header = ("setting", "panel", "curve", "x axis", "x", "y axis", "y")
    runfiles.write_table(directory / CURVES, header, _curve_rows(study))
    points = list(_point_rows(study))
    if points:
        runfiles.write_table(directory / POINTS, ("setting", "panel", "x", "y", "value"), points)
    else:
        (directory / POINTS).unlink(missing_ok=True)  # left by an earlier simulation
    runfiles.write_text(directory / FIGURE, render(study, command))
    return [directory / name for name in (FIGURE, NUMBERS, CURVES, *([POINTS] if points else []))]


def _curve_rows(study: Study) -> Iterator[tuple[object, ...]]:
    for label, result in study.results:
        for panel in result.panels:
            for curve in panel.curves:
                for name, x, y in lines_of(curve):
                    for position, value in zip(x, y, strict=True):
                        yield label, panel.title, name, panel.x, position, panel.y, "" if value is None else value


def _point_rows(study: Study) -> Iterator[tuple[object, ...]]:
    for k, (label, result) in enumerate(study.results):
        for cloud in result.clouds:
            if k and cloud.is_shared:  # written with the first result
                continue
            for (x, y), value in zip(cloud.points.tolist(), cloud.values.tolist(), strict=True):
                yield "" if cloud.is_shared else label, cloud.title, x, y, value
