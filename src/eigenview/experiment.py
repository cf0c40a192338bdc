"""The frame of all experiments: a grid of runs, resumable cell by cell, results as JSON + table + figure.

An experiment is a file `experiments/NAME.py` of the source checkout with a docstring whose first line is its title, and
    cells(scale, data) -> dict of cell name -> RunConfig       (the seed is set here)
    published: dict of cell name -> dict of column -> number   (what the papers print, may be empty)
    conclude(results) -> str                                   (one line: was the published ordering seen?)
    figure(results) -> matplotlib figure                       (one picture)
and, where summaries do not hold what is asked,
    measure(run) -> dict of JSON values                        (kept in each summary as "measured")
and, where not every cell is worth every seed,
    most_seeds: dict of cell name -> int                       (cells that are not in it are run with all seeds)
and, where another library's loop is run beside ours,
    peers(scale, data, console) -> dict of row name -> Peer    (rows below the cells; none, said, where it is missing)
where `results` maps cell name -> list of summaries (summary.json), one per seed.
"""

from __future__ import annotations

import glob
import importlib.util
import os
import shutil
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, TypeAlias

from rich.console import Console
from rich.table import Table

from eigenview import runfiles
from eigenview.config import RunConfig
from eigenview.errors import UserError, nearest, require
from eigenview.experiment_index import described, sources, write_index
from eigenview.probes.protocols import PROTOCOLS

FOLDER = Path("experiments")
NOT_A_CHECKOUT = f"no folder {FOLDER}/ here; run it from eigenview's source checkout."
MEASURED = "measured.json"  # in the run directory, of an experiment that measures something of its own
COLUMNS = {p.name: p.title for p in PROTOCOLS} | {"linear_few": "10 per class"}  # no experiment changes the number
Train: TypeAlias = Callable[[RunConfig[Any], Path, Console], None]
"""(config, run directory, console): trains, and leaves the files of a finished run, environment.json included."""
Peer: TypeAlias = tuple[RunConfig[Any], Train]


def experiments() -> dict[str, str]:
    """Name -> title of the experiments in the current checkout, without importing them."""
    return {path.stem: described(path)[0] for path in sources(FOLDER)}


def load_experiment(name: str) -> ModuleType:
    """The module of an experiment; an unknown name suggests the nearest."""
    known = experiments()
    if not known:
        raise UserError(f"experiment {name}: {NOT_A_CHECKOUT}")
    if name not in known:
        raise UserError(f"experiment {name}: no such experiment. {nearest(name, known)} (eigenview list experiments)")
    spec = importlib.util.spec_from_file_location(f"experiments.{name}", FOLDER / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    checkout = str(FOLDER.parent.resolve())
    if checkout not in sys.path:
        sys.path.insert(0, checkout)  # the command's own path does not hold it, and experiments share _grids.py
    spec.loader.exec_module(module)
    return module


def run_experiment(
    name: str,
    scale: str,
    seeds: int,
    data: str | None,
    only: str | None,
    out: Path | None,
    console: Console,
    *,
    finished: bool = False,
) -> dict[str, Any]:
    """Run what is missing of a grid, then write results.json, table.md and figure.png; returns the results.

    With `only` (cell names with commas) just these cells are run, and no result file is written: a later call without
    it finds them done and collects them. With `finished` nothing is run: what has ended is written, and what has not is
    named below the table.
    """
    if finished and only is not None:
        raise UserError("--finished collects the whole grid; leave --cells out.")
    module = load_experiment(name)
    source = data or os.environ.get("CIFAR10")
    if source is None:
        raise UserError("an experiment needs CIFAR-10 images: give --data FOLDER (with train/ and test/), or CIFAR10=.")
    directory = out or FOLDER / "results" / name / scale
    cells: dict[str, tuple[RunConfig[Any], Train | None]]
    cells = {cell: (config, None) for cell, config in module.cells(scale, source).items()}
    cells |= module.peers(scale, source, console) if hasattr(module, "peers") else {}
    if only is not None:
        for cell in only.split(","):
            require(cell in cells, "--cells", cell, ", ".join(cells))
        cells = {cell: cells[cell] for cell in only.split(",")}
    results: dict[str, list[dict[str, Any]]] = {cell: [] for cell in cells}
    most: dict[str, int] = getattr(module, "most_seeds", {})
    root = Path("runs") / "experiments" / name / scale
    if finished:  # all seeds there are: fewer than were collected before would silently replace them
        seeds = max(seeds, *(_seeds(root, cell) for cell in cells))
    whole = [(seed, cell) for seed in range(seeds) for cell in cells if seed < most.get(cell, seeds)]
    grid = whole
    if finished:
        grid = [(seed, cell) for seed, cell in grid if (_directory(root, cell, seed) / runfiles.SUMMARY).exists()]
        if not grid:
            raise UserError(f"no run of {name} {scale} has ended in {root.resolve()}; leave --finished out to run it.")
    for k, (seed, cell) in enumerate(grid):  # all cells before the second seed: an early stop leaves a full grid
        console.rule(f"{name} {scale}: {cell}, seed {seed} ({k + 1} of {len(grid)})")
        config, train = cells[cell]
        results[cell].append(_run_cell(module, config, root, cell, seed, console, train))
        if only is None and not finished:
            _write(module, name, scale, results, directory, missing=None)
    if only is not None:
        return results
    missing = [cell for cell, runs in results.items() if not runs]
    fewer = len(whole) - len(grid) - sum(cell in missing for _, cell in whole)
    results = {cell: runs for cell, runs in results.items() if runs}
    conclusion = _write(module, name, scale, results, directory, missing=missing, fewer=fewer)
    if out is None:
        write_index(FOLDER)
    console.print(_table(module, results))
    console.print(conclusion, markup=False)
    return results


def _directory(root: Path, cell: str, seed: int) -> Path:
    return root / f"{cell.replace(' ', '-')}-seed{seed}"


def _seeds(root: Path, cell: str) -> int:
    """One more than the largest seed that has ended."""
    stem = f"{cell.replace(' ', '-')}-seed"
    ended = [path.parent.name.removeprefix(stem) for path in root.glob(f"{glob.escape(stem)}*/{runfiles.SUMMARY}")]
    return max((int(seed) + 1 for seed in ended if seed.isdecimal()), default=0)


def _run_cell(
    module: ModuleType, config: Any, root: Path, cell: str, seed: int, console: Console, train: Train | None
) -> dict[str, Any]:
    """The summary of one run, made now if it is not there; `train` (a peer's) in place of the engine."""
    from eigenview.run import Run, pretrain, with_fields

    settled = with_fields(config, {"seed": seed})
    run = Run(_directory(root, cell, seed))
    known = (run.directory / runfiles.CONFIG).exists()
    # as configurations: a file from before an option existed has that option's default
    if known and run.config != settled:
        raise UserError(
            f"{run.directory} holds a run with other settings than {cell} has now. Move it away to run the cell again."
        )
    if not (run.directory / runfiles.SUMMARY).exists():
        started = known and (run.directory / runfiles.CHECKPOINT).exists()
        if known and not started:
            with runfiles.run_lock(run.directory):  # refused where another process is at it
                shutil.rmtree(run.directory)  # killed before its first checkpoint: nothing to lose
        if started:
            pretrain(out=run.directory, resume=True, console=console)
        elif train is not None:
            train(settled, run.directory, console)
        else:
            pretrain(config=settled, out=run.directory, console=console)
    environment = runfiles.read_json(run.directory / runfiles.ENVIRONMENT)
    kept = ("eigenview", "torch", "device", "threads", "commit", "started")
    # results are committed: where the images lie on this machine is nobody's business
    data = "/".join(Path(run.summary["data"]).parts[-2:])
    # a run that was resumed after a change of the code is of both
    sessions = [environment, *environment.get("resumed", [])]
    commits = dict.fromkeys(str(each["commit"]) for each in sessions)
    origin = {key: environment[key] for key in kept} | {"commit": ", ".join(commits)}
    summary = {**run.summary, "data": data, "environment": origin}
    if hasattr(module, "measure"):
        path = run.directory / MEASURED
        if not path.exists():
            with console.status(f"measuring {cell}"):
                runfiles.write_json(path, module.measure(run))
        summary["measured"] = runfiles.read_json(path)
    return summary


def spread(results: list[dict[str, Any]], column: str) -> str:
    """`mean` or `mean +- half the range` of a column over seeds, or a dash."""
    values = [r[column] for r in results if r.get(column) is not None]
    if not values:
        return "-"
    half = f" +- {(max(values) - min(values)) / 2:.1f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.1f}{half}"


def table_rows(module: ModuleType, results: dict[str, list[dict[str, Any]]]) -> tuple[list[str], list[list[str]]]:
    """Header and rows: ours beside the published numbers, with the two baselines."""
    published: dict[str, dict[str, float]] = module.published
    extra = sorted({column for cell in results for column in published.get(cell, {})})
    header = ["", *COLUMNS.values(), "verdict", "images/s", "seconds", *extra]
    rows: list[list[str]] = []
    baselines: dict[str, list[dict[str, Any]]] = {}
    for cell, runs in results.items():
        done = [r for r in runs if r]
        for r in done:
            for baseline, numbers in r["baselines"].items():
                baselines.setdefault(baseline, []).append(numbers)
        verdicts = sorted({r["verdict"] for r in done})
        speed = [spread(done, "images_per_second"), spread(done, "seconds")]
        theirs = [str(published.get(cell, {}).get(column, "")) for column in extra]
        rows.append([cell, *(spread(done, c) for c in COLUMNS), ", ".join(verdicts), *speed, *theirs])
    for baseline, numbers in baselines.items():
        rows.append([baseline, *(spread(numbers, c) for c in COLUMNS), "", "", "", *("" for _ in extra)])
    return header, rows


def _table(module: ModuleType, results: dict[str, list[dict[str, Any]]]) -> Table:
    header, rows = table_rows(module, results)
    table = Table(*header)
    for row in rows:
        table.add_row(*row)
    return table


def _origin(results: dict[str, list[dict[str, Any]]]) -> str:
    """Which code on which machine the rows come from: the cells of one grid may have been run days apart."""
    kept = ("commit", "torch", "device", "threads")
    seen = {key: sorted({str(r["environment"][key]) for runs in results.values() for r in runs}) for key in kept}
    commits, torch, device, threads = (", ".join(seen[key]) for key in kept)
    return f"Commit {commits}; torch {torch}; {device}, threads: {threads}."


def _write(
    module: ModuleType,
    name: str,
    scale: str,
    results: dict[str, list[dict[str, Any]]],
    directory: Path,
    *,
    missing: list[str] | None,
    fewer: int = 0,
) -> str:
    """results.json after every cell; table and figure at the end, which leaves these cells `missing`, and of the others
    `fewer` runs than there should be."""
    complete = missing == [] and not fewer
    content: dict[str, Any] = {"experiment": name, "scale": scale, "complete": complete, "results": results}
    conclusion = "" if missing is None else module.conclude(results)
    if missing:
        conclusion += f" Not run: {len(missing)} of {len(missing) + len(results)} cells ({', '.join(missing)})."
    if fewer:
        conclusion += f" Of {fewer + sum(map(len, results.values()))} runs of these cells {fewer} have not ended."
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
