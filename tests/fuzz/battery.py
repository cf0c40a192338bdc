"""Draws the cases, runs them on several processes, and says which promises broke: python -m tests.fuzz.battery."""

from __future__ import annotations

import argparse
import gc
import hashlib
import json
import multiprocessing
import os
import shutil
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hypothesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.strategies import SearchStrategy

from tests.fuzz import caches, depths, folders, lists, options, runs, tables, weights
from tests.fuzz.children import run_forked, run_fresh
from tests.fuzz.oracle import broken_promises
from tests.fuzz.sandbox import Command, fresh, listing
from tests.fuzz.stock import prepare
from tests.fuzz.values import Recipe

SEED = 20261129
SHOWN = 40
"""Cases that are printed."""
QUICK = ("options", "run-files", "packs", "caches", "embeddings")
"""Kinds that start a new interpreter soon: a few seconds each, as long as thirty forked cases."""


@dataclass(frozen=True)
class Kind:
    """One kind of case."""

    share: int
    """How often it is drawn, relative to the others."""
    recipes: SearchStrategy[Recipe]
    build: Callable[[Recipe, Path, Path], Command]
    """(recipe, sandbox, stock) -> the command, after its inputs were put into the sandbox."""


KINDS = {
    "options": Kind(24, options.RECIPES_OF_OPTIONS, options.build),
    "run-files": Kind(20, runs.RECIPES, runs.build),
    "checkpoints": Kind(10, runs.RECIPES_OF_CHECKPOINTS, runs.build_checkpoints),
    "folders": Kind(12, folders.RECIPES, folders.build),
    "arrays": Kind(8, tables.RECIPES_OF_ARRAYS, tables.build_arrays),
    "data-sets": Kind(6, tables.RECIPES_OF_SETS, tables.build_set),
    "shards": Kind(8, folders.RECIPES_OF_SHARDS, folders.build_shards),
    "packs": Kind(3, folders.RECIPES_OF_PACKS, folders.build_pack),
    "caches": Kind(4, caches.RECIPES, caches.build),
    "cifar": Kind(2, tables.RECIPES_OF_CIFAR, tables.build_cifar),
    "weights": Kind(8, weights.RECIPES, weights.build),
    "lists": Kind(6, lists.RECIPES, lists.build),
    "depths": Kind(8, depths.RECIPES, depths.build),
    "embeddings": Kind(7, tables.RECIPES_OF_EMBEDDINGS, tables.build_embeddings),
}


@dataclass(frozen=True)
class Case:
    """One case: `kind` and `number` say which recipe, `is_fresh` whether it starts a new interpreter."""

    kind: str
    number: int
    is_fresh: bool = False

    def __str__(self) -> str:
        return f"{self.kind}:{self.number}{':fresh' if self.is_fresh else ''}"


@dataclass(frozen=True)
class Report:
    """What became of one case."""

    case: str
    args: list[str]
    code: int | None
    seconds: float
    megabytes: float
    broken: list[str]
    err: str


def drawn(case: Case, seed: int) -> Recipe:
    """The recipe of a case: the same for a seed and a state of the source, whatever else is drawn."""
    found: list[Recipe] = []
    number = int.from_bytes(hashlib.sha256(f"{seed} {case.kind} {case.number}".encode()).digest()[:8], "big")

    @hypothesis.seed(number)
    @settings(
        max_examples=2,
        phases=[Phase.generate],
        database=None,
        deadline=None,
        derandomize=False,
        suppress_health_check=list(HealthCheck),
    )
    @given(KINDS[case.kind].recipes)
    def collect(recipe: Recipe) -> None:
        found.append(recipe)

    collect()
    return found[-1]  # the first is the simplest there is, whatever the seed


def cases_of(count: int) -> list[Case]:
    """`count` cases, kinds mixed by their shares. 50 of a thousand or more, else a few of QUICK, are fresh."""
    total = sum(kind.share for kind in KINDS.values())
    numbered = [
        ((number + 0.5) / kind.share, name, number)
        for name, kind in KINDS.items()
        for number in range(-(-count * kind.share // total))
    ]
    chosen = [(name, number) for _, name, number in sorted(numbered)[:count]]
    if count >= 1000:
        is_fresh = {count * k // 50 for k in range(50)}
    else:
        is_fresh = {k for k, (name, number) in enumerate(chosen) if name in QUICK and number == 0}
    return [Case(name, number, k in is_fresh) for k, (name, number) in enumerate(chosen)]


def run_case(case: Case, recipe: Recipe, stock: Path, work: Path) -> Report:
    """Build the case's sandbox, run its command, and compare what happened with the promises."""
    sandbox = fresh(work / "sandbox")
    os.chdir(sandbox)
    command = KINDS[case.kind].build(recipe, sandbox, stock)
    first = None if command.before is None else run_forked(command, sandbox, work)
    if command.before is not None:
        command.before()
    before = listing(sandbox)
    for name in ("out", "err"):
        (work / name).unlink(missing_ok=True)
    ending = (run_fresh if case.is_fresh else run_forked)(command, sandbox, work)
    broken = broken_promises(command, ending, before, listing(sandbox))
    if first is not None and first.code != ending.code:
        broken.append(f"it ended with {first.code} before its cache was changed")
    return Report(str(case), command.args, ending.code, ending.seconds, ending.megabytes, broken, ending.err[-1500:])


def run_all(cases: list[tuple[Case, Recipe]], stock: Path, work: Path, processes: int) -> Iterator[dict[str, Any]]:
    """Run all cases, each process taking the next one that is left; yields the reports as they come."""
    context = multiprocessing.get_context("fork")
    place, reports = context.Value("i", 0), context.SimpleQueue()

    def take(number: int) -> None:
        own = work / f"process{number}"
        own.mkdir()
        while True:
            with place.get_lock():
                k = place.value
                place.value += 1
            if k >= len(cases):
                break
            try:
                report = run_case(*cases[k], stock, own)
            except Exception:  # a fault of the battery itself, which must not end the others
                report = Report(
                    str(cases[k][0]), [], None, 0.0, 0.0, ["it could not be run"], traceback.format_exc()[-1500:]
                )
            reports.put(vars(report))
        reports.put(None)

    workers = [context.Process(target=take, args=(k,)) for k in range(processes)]
    for worker in workers:
        worker.start()
    ended = 0
    while ended < len(workers):
        report = reports.get()
        if report is None:
            ended += 1
        else:
            yield report
    for worker in workers:
        worker.join()


def main() -> int:
    """Exit code 1 if any promise was broken."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.battery")
    parser.add_argument("--cases", type=int, default=300)
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--only", default="", help="KIND:NUMBER, or KIND:NUMBER:fresh; several separated by commas")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--keep", type=Path, help="a folder for reports.jsonl, and for the sandbox of a single case")
    given = parser.parse_args()
    began = time.monotonic()
    home = given.keep or Path(tempfile.mkdtemp(prefix="eigenview-fuzz-"))
    if home.exists():
        shutil.rmtree(home)
    home.mkdir(parents=True)
    stock = home / "stock"
    prepare(stock)
    cases = cases_of(given.cases) if not given.only else [_named(each) for each in given.only.split(",")]
    # here, where the same modules are imported whatever is run: hypothesis also tries numbers that the source names
    recipes = [(case, drawn(case, given.seed)) for case in cases]
    gc.freeze()  # what is there already is not touched again, and stays shared between the forks
    ready = time.monotonic() - began
    codes: Counter[tuple[str, int | None]] = Counter()
    failed: list[dict[str, Any]] = []
    with (home / "reports.jsonl").open("w") as file:
        for report in run_all(recipes, stock, home, min(given.processes, len(cases))):
            file.write(json.dumps(report) + "\n")
            file.flush()
            codes[report["case"].partition(":")[0], report["code"]] += 1
            if report["broken"]:
                failed.append(report)
                if len(failed) <= SHOWN:
                    _show(report, given.seed)
    _summarise(codes, failed, given.seed, len(cases), ready, time.monotonic() - began)
    gc.unfreeze()  # otherwise libraries report at the end what was not freed
    if given.keep is None:
        fresh(home)
        shutil.rmtree(home)
    return 1 if failed else 0


def _named(text: str) -> Case:
    kind, number, *rest = text.split(":")
    return Case(kind, int(number), rest == ["fresh"])


def _show(report: dict[str, Any], seed: int) -> None:
    print(f"\n{report['case']}: {'; '.join(report['broken'])}")
    print(f"  eigenview {report['args']!r} -> {report['code']} in {report['seconds']:.1f} s")
    print("  " + "\n  ".join(report["err"].splitlines()[-8:]))
    variables = f"EIGENVIEW_FUZZ_SEED={seed} EIGENVIEW_FUZZ_ONLY={report['case']}"
    print(f"  again: {variables} python -m pytest -n 0 -m fuzz tests/fuzz")
    sys.stdout.flush()


def _summarise(
    codes: Counter[tuple[str, int | None]],
    failed: list[dict[str, Any]],
    seed: int,
    count: int,
    ready: float,
    took: float,
) -> None:
    print(f"\n{count} cases, seed {seed}, {took:.0f} s of which {ready:.0f} s of preparation; exit codes by kind:")
    for kind in KINDS:
        found = {code: number for (name, code), number in codes.items() if name == kind}
        shown = "  ".join(f"{code}: {found[code]}" for code in sorted(found, key=str))
        print(f"  {kind:12} {sum(found.values()):5}   {shown}")
    print(f"{len(failed)} cases broke a promise")


if __name__ == "__main__":
    sys.exit(main())
