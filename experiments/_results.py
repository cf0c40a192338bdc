"""The result files of an experiment: results.json, table.md, figure.png."""

from __future__ import annotations

import statistics
from pathlib import Path
from types import ModuleType
from typing import Any

from rich.table import Table

from eigenview import runfiles
from eigenview.probes.protocols import PROTOCOLS

COLUMNS = {p.name: p.title for p in PROTOCOLS} | {"linear_few": "10 per class"}  # no experiment changes the number


def mean_and_half_range(results: list[dict[str, Any]], column: str) -> str:
    """`mean`, or `mean +- half the range` over several seeds, or a dash without any value."""
    values = [r[column] for r in results if r.get(column) is not None]
    if not values:
        return "-"
    half = f" +- {(max(values) - min(values)) / 2:.1f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.1f}{half}"


def table_rows(module: ModuleType, results: dict[str, list[dict[str, Any]]]) -> tuple[list[str], list[list[str]]]:
    """Header and rows: ours beside the published numbers, with the baselines, of each data set by itself."""
    published: dict[str, dict[str, float]] = module.published
    extra = sorted({column for cell in results for column in published.get(cell, {})})
    header = ["", *COLUMNS.values(), "verdict", "images/s", "seconds", *extra]
    rows: list[list[str]] = []
    baselines: dict[str, list[dict[str, Any]]] = {}
    several = len({r.get("data") for runs in results.values() for r in runs if r}) > 1
    for cell, runs in results.items():
        done = [r for r in runs if r]
        for r in done:
            of = f", {r['data'].partition('/')[0]}" if several else ""
            for baseline, numbers in r["baselines"].items():
                baselines.setdefault(f"{baseline}{of}", []).append(numbers)
        accuracies = [mean_and_half_range(done, c) for c in COLUMNS]
        verdicts = sorted({r["verdict"] for r in done})
        speed = [mean_and_half_range(done, "images_per_second"), mean_and_half_range(done, "seconds")]
        theirs = [str(published.get(cell, {}).get(column, "")) for column in extra]
        rows.append([cell, *accuracies, ", ".join(verdicts), *speed, *theirs])
    for baseline, numbers in baselines.items():
        rows.append([baseline, *(mean_and_half_range(numbers, c) for c in COLUMNS), "", "", "", *("" for _ in extra)])
    return header, rows


def terminal_table(module: ModuleType, results: dict[str, list[dict[str, Any]]]) -> Table:
    """The table for the terminal."""
    header, rows = table_rows(module, results)
    table = Table(*header)
    for row in rows:
        table.add_row(*row)
    return table


def write_results(
    module: ModuleType,
    name: str,
    scale: str,
    results: dict[str, list[dict[str, Any]]],
    directory: Path,
    settings: dict[str, Any],
    *,
    missing: list[str] | None,
    fewer: int = 0,
) -> str:
    """Write results.json and, when the grid has ended, table.md and figure.png; returns the conclusion.

    Args:
        module: the experiment.
        name: its name.
        scale: its scale.
        results: cell -> summaries.
        directory: where the files go.
        settings: cell -> its settings; those of cells in `results` are written.
        missing: cells without any run; None while the grid is still running, which writes results.json alone.
        fewer: runs that the cells in `results` lack.
    """
    complete = missing == [] and not fewer
    content: dict[str, Any] = {"experiment": name, "scale": scale, "complete": complete, "results": results}
    content["settings"] = {cell: settings[cell] for cell in results}
    conclusion = "" if missing is None else module.conclude(results)
    if missing:
        conclusion += f" Not run: {len(missing)} of {len(missing) + len(results)} cells ({', '.join(missing)})."
    if fewer:
        conclusion += f" Of {fewer + sum(map(len, results.values()))} runs of these cells {fewer} have not finished."
    content["conclusion"] = conclusion
    runfiles.write_json(directory / "results.json", content)
    if missing is not None:
        header, rows = table_rows(module, results)
        lines = [header, ["---"] * len(header), *rows]
        title = (module.__doc__ or name).split("\n")[0]
        command = f"    eigenview experiment {name} --scale {scale} --seeds {max(len(r) for r in results.values())}"
        command += "" if complete else " --finished"
        table = "\n".join("| " + " | ".join(line) + " |" for line in lines)
        text = f"# {title}\n\n{command}\n\n{table}\n\n{conclusion}\n\n{_origin(results)}\n\n![figure](figure.png)\n"
        runfiles.write_bytes(directory / "table.md", text.encode())
        module.figure(results).savefig(directory / "figure.png", dpi=110, bbox_inches="tight")
    return conclusion


def _origin(results: dict[str, list[dict[str, Any]]]) -> str:
    """Code and machine of the rows; several of each if cells were run days apart."""
    kept = ("commit", "torch", "device", "threads")
    seen = {key: sorted({str(r["environment"][key]) for runs in results.values() for r in runs}) for key in kept}
    commits, torch, device, threads = (", ".join(seen[key]) for key in kept)
    return f"Commit {commits}; torch {torch}; {device}, threads: {threads}."
