"""Runs an experiment: a grid of training runs, resumed cell by cell, with results as JSON, table and figure.

An experiment is a file `experiments/NAME.py` of the source checkout with a docstring whose first line is its title, and
    cells(scale, data) -> dict of cell name -> RunConfig       (the seed is set here)
    published: dict of cell name -> dict of column -> number   (what the papers print, may be empty)
    conclude(results) -> str                                   (one line: was the published ordering seen?)
    figure(results) -> matplotlib figure                       (one picture)
where `results` maps cell name -> list of summaries (summary.json), one per seed. It may also have
    prepare(data)                                              (checks and makes what its cells read, before the first)
    measure(run) -> dict of JSON values                        (what summaries do not hold; added to each as "measured")
    most_seeds: dict of cell name -> int                       (fewer seeds for some cells; the others get all)
    peers(scale, data, console) -> dict of row name -> Peer    (runs by another library, as rows below the cells; if it
                                                                is not installed: print that, and return {})
"""

from __future__ import annotations

import glob
import importlib
import importlib.util
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, TypeAlias

from eigenview import runfiles
from eigenview.config import RunConfig, with_fields
from eigenview.errors import UserError, hint, require
from eigenview.run import Run, pretrain
from eigenview.terminal import Console
from experiments._index import described, sources, write_index
from experiments._recorded import recorded_runs, settings_of
from experiments._results import terminal_table, write_results

FOLDER = Path(__file__).parent
MEASURED = "measured.json"  # in the run directory, of an experiment that has measure()
Train: TypeAlias = Callable[[RunConfig[Any], Path, Console], None]
"""(config, run directory, console): trains, and leaves the files of a finished run, environment.json included."""
Peer: TypeAlias = tuple[RunConfig[Any], Train]


def experiments() -> dict[str, str]:
    """Name -> title of the experiments in this folder, without importing them."""
    return {path.stem: described(path)[0] for path in sources(FOLDER)}


def load_experiment(name: str) -> ModuleType:
    """The module of an experiment.

    Raises:
        UserError: an unknown name, with the nearest one.
    """
    known = experiments()
    if name not in known:
        raise UserError(f"experiment {name}: no such experiment. {hint(name, known)}(eigenview list experiments)")
    return importlib.import_module(f"experiments.{name}")


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
    recorded: bool = False,
) -> dict[str, Any]:
    """Run what is missing of a grid, then write results.json, table.md and figure.png; returns the results.

    Args:
        name: the experiment.
        scale: "tiny", "cpu" or "gpu".
        seeds: seeds per cell.
        data: folder of CIFAR-10 images; None: the environment variable CIFAR10.
        only: names of cells, separated by commas. Just these are run and no result file is written; a later call
            without it finds them finished and collects them.
        out: folder of the result files; None: results/NAME/SCALE in this folder.
        console: where progress, table and conclusion are printed.
        finished: run nothing; write the results of the runs that have finished, and name the missing cells below the
            table.
        recorded: count runs in the results.json of the result folder as finished, where their cells' settings are the
            same and their run directories are not here.

    Raises:
        UserError: unknown experiment or cell, no matplotlib, no images, a run directory with other settings, nothing
            finished.
    """
    if finished and only is not None:
        raise UserError("--finished collects the whole grid; leave --cells out.")
    module = load_experiment(name)
    if importlib.util.find_spec("matplotlib") is None:  # now, not after hours of training
        raise UserError("experiments draw a figure with matplotlib, which is not installed: uv sync --extra figures")
    source = data or os.environ.get("CIFAR10")
    if source is None:
        raise UserError("an experiment needs CIFAR-10 images: give --data FOLDER (with train/ and test/), or CIFAR10=.")
    directory = out or FOLDER / "results" / name / scale
    cells = _cells(module, scale, source, only, console)
    configs = {cell: config for cell, (config, _) in cells.items()}
    settings = {cell: settings_of(config) for cell, config in configs.items()}
    results: dict[str, list[dict[str, Any]]] = {cell: [] for cell in cells}
    most: dict[str, int] = getattr(module, "most_seeds", {})
    root = Path("runs") / "experiments" / name / scale
    if hasattr(module, "prepare") and not finished:
        module.prepare(source)
    kept = recorded_runs(directory, configs) if recorded else {}
    kept = {at: run for at, run in kept.items() if not _has_ended(root, *at)}
    if finished:  # every seed that has finished: fewer than in the results so far would silently replace them
        seeds = max(seeds, *(_finished_seeds(root, cell) for cell in cells))
    planned = [(cell, seed) for seed in range(seeds) for cell in cells if seed < most.get(cell, seeds)]
    planned += sorted(kept.keys() - set(planned))
    grid = planned
    if finished:
        grid = [at for at in planned if at in kept or _has_ended(root, *at)]
        if not grid:
            raise UserError(f"no run of {name} {scale} in {root.resolve()} has finished; leave --finished out to run.")
    for k, (cell, seed) in enumerate(grid):  # all cells before the second seed: an early stop leaves a full grid
        console.print(f"-- {name} {scale}: {cell}, seed {seed} ({k + 1} of {len(grid)})")
        config, train = cells[cell]
        run = kept.pop((cell, seed), None) or _run_cell(module, config, root, cell, seed, console, train)
        results[cell].append(run)
        if only is None and not finished:
            so_far = {cell: [*runs, *(r for at, r in kept.items() if at[0] == cell)] for cell, runs in results.items()}
            write_results(module, name, scale, so_far, directory, settings, missing=None)
    if only is not None:
        return results
    missing = [cell for cell, runs in results.items() if not runs]
    fewer = len(planned) - len(grid) - sum(cell in missing for cell, _ in planned)
    results = {cell: runs for cell, runs in results.items() if runs}
    conclusion = write_results(module, name, scale, results, directory, settings, missing=missing, fewer=fewer)
    if out is None:
        write_index(FOLDER)
    console.print(terminal_table(module, results))
    console.print(conclusion)
    return results


def _cells(
    module: ModuleType, scale: str, source: str, only: str | None, console: Console
) -> dict[str, tuple[RunConfig[Any], Train | None]]:
    """Settings of the cells that were asked for, and how a peer's are trained."""
    cells: dict[str, tuple[RunConfig[Any], Train | None]]
    cells = {cell: (config, None) for cell, config in module.cells(scale, source).items()}
    cells |= module.peers(scale, source, console) if hasattr(module, "peers") else {}
    if only is None:
        return cells
    for cell in only.split(","):
        require(cell in cells, "--cells", cell, ", ".join(cells))
    return {cell: cells[cell] for cell in only.split(",")}


def _has_ended(root: Path, cell: str, seed: int) -> bool:
    return (_directory(root, cell, seed) / runfiles.SUMMARY).exists()


def _directory(root: Path, cell: str, seed: int) -> Path:
    return root / f"{cell.replace(' ', '-')}-seed{seed}"


def _finished_seeds(root: Path, cell: str) -> int:
    """One more than the largest seed of the cell whose run has finished; 0 if none has."""
    stem = f"{cell.replace(' ', '-')}-seed"
    names = [path.parent.name.removeprefix(stem) for path in root.glob(f"{glob.escape(stem)}*/{runfiles.SUMMARY}")]
    return max((int(seed) + 1 for seed in names if seed.isdecimal()), default=0)


def _run_cell(
    module: ModuleType, config: Any, root: Path, cell: str, seed: int, console: Console, train: Train | None
) -> dict[str, Any]:
    """The summary of one run, which is trained now if its files are missing; a peer's run by its own `train`."""
    config = with_fields(config, {"seed": seed})
    run = Run(_directory(root, cell, seed))
    exists = (run.directory / runfiles.CONFIG).exists()
    if exists and not _has_settings(run, config):
        raise UserError(
            f"{run.directory} holds a run with other settings than {cell} has now. Move it away to run the cell again."
        )
    if not (run.directory / runfiles.SUMMARY).exists():
        _train(run, config, console, train)
    environment = runfiles.read_json(run.directory / runfiles.ENVIRONMENT)
    kept = ("eigenview", "torch", "device", "threads", "commit", "started")
    # results are committed, so the path of the images on this machine is reduced to its last two folders
    data = "/".join(Path(run.summary["data"]).parts[-2:])
    # a run that was resumed after a change of the code has several commits
    sessions = [environment, *environment.get("resumed", [])]
    commits = dict.fromkeys(str(each["commit"]) for each in sessions)
    origin = {key: environment[key] for key in kept} | {"commit": ", ".join(commits)}
    summary = {**run.summary, "data": data, "environment": origin}
    if hasattr(module, "measure"):
        path = run.directory / MEASURED
        if not path.exists():
            with console.waiting(f"measuring {cell}"):
                runfiles.write_json(path, module.measure(run))
        summary["measured"] = runfiles.read_json(path)
    return summary


def _has_settings(run: Run, config: RunConfig[Any]) -> bool:
    """Whether a run has these settings, compared as configurations: today's form of an older file, with the defaults of
    options that are newer than it. A file with a value that is no option any more has other settings."""
    try:
        return run.config.decided() == config.decided()
    except UserError:
        return False


def _train(run: Run, config: RunConfig[Any], console: Console, train: Train | None) -> None:
    """Start a run, or resume one that has a checkpoint."""
    exists = (run.directory / runfiles.CONFIG).exists()
    if exists and (run.directory / runfiles.CHECKPOINT).exists():
        pretrain(out=run.directory, resume=True, console=console)
        return
    if exists:  # killed before its first checkpoint, so nothing is lost
        with runfiles.run_lock(run.directory):  # raises if another process is training it
            shutil.rmtree(run.directory)
    if train is not None:
        train(config, run.directory, console)
    else:
        pretrain(config=config, out=run.directory, console=console)
