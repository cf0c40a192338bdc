"""One self-contained HTML file from run directories: no network, no server, opens from a disk or an e-mail."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup, escape
from plotly.offline import get_plotlyjs

import eigenview
from eigenview import runfiles
from eigenview.errors import UserError
from eigenview.report import configuration, figures, pictures, predictor, spectrum, tables, worth
from eigenview.report.read import RunRecord, read_runs
from eigenview.report.templates import page_templates

if TYPE_CHECKING:
    from eigenview.report.theory_section import Section


def write_report(
    runs: Sequence[Path],
    out: Path,
    *,
    default: dict[str, Any] | None = None,
    theory: bool = False,
    channels: Sequence[int] = (),
) -> Path:
    """Write the report of one run, or of several side by side, to `out`, atomically; returns `out`.

    Args:
        runs: run directories; for an unfinished run the page has what exists so far.
        out: the HTML file.
        default: the configuration that a single run started from (config.to_dict of its recipe); None takes the one
            in environment.json. If there is one, the page lists the options that differ from it, else the everyday
            ones; all options are folded below.
        theory: also compare the run with the linear theory of F and W_p; needs exactly one run.
        channels: the channels that pictures show, counted from 1: three as red, green and blue, or one as grey; empty
            for the first three, or the first of two.

    Raises:
        UserError: a directory that is not a run, a damaged file, or an `out` that cannot be written; with `theory`,
            several runs, or a run to which the theory does not apply.
    """
    records = read_runs(runs)
    runfiles.write_text(out, render(records, default, theory=theory, channels=channels))
    return out


def render(
    records: Sequence[RunRecord],
    default: dict[str, Any] | None = None,
    *,
    theory: bool = False,
    channels: Sequence[int] = (),
) -> str:
    """The page as text. Everything that comes from a run is escaped: its names and paths are untrusted."""
    if len(records) == 1 and default is None:
        default = records[0].environment.get("defaults")
    runs = [_run_context(r, default if len(records) == 1 else None, channels) for r in records]
    protocols = [run["probes"].below for run in runs if run["probes"]]
    environment = page_templates()
    environment.filters["options"] = _mark_options
    environment.policies["json.dumps_kwargs"] = {"allow_nan": False, "separators": (",", ":")}
    return environment.get_template("page.html").render(
        title=records[0].name if len(records) == 1 else f"{len(records)} runs side by side",
        version=eigenview.__version__,
        runs=runs,
        # shown once below all tables if every run was probed in the same way
        protocols=protocols[0] if protocols and all(p == protocols[0] for p in protocols) else None,
        comparison=tables.comparison_table(records) if len(records) > 1 else None,
        advice=[*worth.over_seeds(records), worth.recommendation(records)],
        not_compared=tables.not_compared(records),
        differences=configuration.difference_table(records) if len(records) > 1 else None,
        loss_figures=figures.loss_figures(records),
        figures=figures.collapse_figures(records) + spectrum.spectrum_figures(records),
        predictor_figures=predictor.predictor_figures(records),
        theory=_theory(records) if theory else None,
        plotlyjs=Markup(get_plotlyjs()),
    )


def _theory(records: Sequence[RunRecord]) -> Section:
    if len(records) != 1:
        raise UserError(f"--theory takes one run; got {len(records)}. Give one run, or leave --theory out.")
    from eigenview.report.theory_section import (
        theory_section,  # imports scipy, which is slow and which most pages do not need
    )

    return theory_section(records[0])


def _mark_options(text: str) -> Markup:
    """Escaped text with its --options as <code>, and no line broken between a number and its percent sign."""
    marked = re.sub(r"--[a-z][\w.-]*\w", r"<code>\g<0></code>", str(escape(text)))
    return Markup(marked.replace(" %", "\N{NO-BREAK SPACE}%"))


def _run_context(record: RunRecord, default: dict[str, Any] | None, channels: Sequence[int]) -> dict[str, Any]:
    return {
        "name": record.name,
        "path": str(record.path),
        "verdict": tables.verdict(record),
        "progress": tables.progress(record),
        "facts": tables.facts(record),
        "tiles": tables.tiles(record),
        "probes": tables.probe_table(record),
        "probe_note": tables.probe_note(record),
        "quality": tables.quality_tables(record),
        "views": pictures.view_rows(record, channels),
        "neighbours": pictures.neighbour_rows(record, channels),
        "channels": pictures.channels_note(record, channels),
        "has_default": default is not None,
        "changed": configuration.changed_table(record, default) if default is not None else None,
        "everyday": configuration.config_table(record, everyday=True),
        "config": configuration.config_table(record),
        "environment": configuration.environment_table(record),
        "command": configuration.command(record),
    }
