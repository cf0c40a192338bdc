"""The files of a run: JSON, rows, arrays, checkpoints and the encoder, damaged in every way, and read by every verb."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from hypothesis import strategies as st

from eigenview import runfiles
from tests.fuzz.damage import ARRAY_EDITS, BYTES, FILES, FLIPS, JSON_EDITS, REPLACED, copy, damage, edited
from tests.fuzz.sandbox import Command
from tests.fuzz.values import JSON_VALUES, PLACES, WILD_TEXTS, Recipe

OBJECTS = ("config.json", "environment.json", "summary.json", "probes.json", "encoder.json")
ROWS = ("metrics.jsonl", "diagnostics.jsonl")
ARRAYS = ("spectra.npz", "gallery.npz", "data_files.npz", "probe_hits.npz")
OTHERS = ("skipped.csv", "report.html", "spectra.jsonl", ".writer", "checkpoints", "encoder.safetensors")
RESUME = ("pretrain", "--out", "run", "--resume")
RESUMING = ("resume", "continue")
READ_BY: dict[str, tuple[str, ...]] = {
    "config.json": ("resume", "continue", "report", "probe", "check", "compare"),
    "environment.json": ("resume", "continue", "report", "compare"),
    "summary.json": ("report", "compare", "diagnose", "resume"),
    "probes.json": ("report", "compare"),
    "encoder.json": ("encode", "embed", "probe", "export", "check"),
    "encoder.safetensors": ("encode", "embed", "probe", "export", "check"),
    "metrics.jsonl": ("report", "theory", "continue", "compare"),
    "diagnostics.jsonl": ("report", "theory", "diagnose", "continue", "resume"),
    "spectra.npz": ("report", "theory", "continue", "resume"),
    "spectra.jsonl": ("report", "theory", "continue"),
    "gallery.npz": ("report", "check"),
    "data_files.npz": RESUMING,
    "probe_hits.npz": ("compare", "report", "check"),
    "skipped.csv": ("report", "continue", "check"),
}
"""The commands that read a file; another is drawn in one case of six, and for the other files."""
VERBS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "check": (("check", "run"), ()),
    "report": (("report", "run"), ("run/report.html",)),
    "compare": (("report", "run", "other", "--out", "page.html"), ("page.html",)),
    "theory": (("report", "run", "--theory", "--out", "page.html"), ("page.html",)),
    "diagnose": (("diagnose", "run", "--json"), ()),
    "encode": (("diagnose", "run", "--data", "photos"), ()),
    "embed": (("embed", "run", "photos", "--out", "e.parquet"), ("e.parquet",)),
    "probe": (("probe", "run", "--few-label-draws", "1", "--out", "p.json"), ("p.json",)),
    "export": (("export", "run", "--format", "hf"), ("run/export-hf",)),
    "resume": (RESUME, ("run",)),
    "continue": ((*RESUME, "--epochs", "3"), ("run",)),
}
"""Command line, and where it writes."""


def _of(names: tuple[str, ...], damages: st.SearchStrategy[Recipe]) -> st.SearchStrategy[Recipe]:
    return st.fixed_dictionaries({"file": st.sampled_from(names), "damage": damages})


DAMAGES = st.one_of(
    _of(OBJECTS, JSON_EDITS),
    _of(OBJECTS, JSON_EDITS),
    _of(ROWS, JSON_EDITS),
    _of(ARRAYS, ARRAY_EDITS),
    _of((*OBJECTS, *ROWS, *ARRAYS, *OTHERS), FILES),
    _of((*OBJECTS, *ROWS, *ARRAYS), FLIPS),
)
RECIPES = st.fixed_dictionaries(
    {
        "run": st.sampled_from(["vicreg", "byol"]),
        "damages": st.lists(DAMAGES, min_size=1, max_size=2),
        "verb": st.sampled_from(sorted(VERBS)),
        "reader": st.integers(0, 59),
    }
)


def _command(verb: str) -> Command:
    args, places = VERBS[verb]
    makes = ("run/summary.json", "run/encoder.json") if verb in RESUMING else places
    return Command(args=list(args), may_write=places, makes=makes, replaces=verb in RESUMING)


def build(recipe: Recipe, sandbox: Path, stock: Path) -> Command:
    """A run with one or two damaged files, its images, and a whole run beside it."""
    run = copy(stock / recipe["run"], sandbox / "run")
    (run / runfiles.SKIPPED).write_text("path,reason\nphotos/x.png,cut off\n")
    copy(stock / "photos", sandbox / "photos")
    readers = READ_BY.get(recipe["damages"][0]["file"], ())
    k = recipe["reader"]
    verb = readers[k % len(readers)] if readers and k < 50 else recipe["verb"]
    if verb == "compare":
        copy(stock / "vicreg", sandbox / "other")
    _move(run, stock, sandbox)
    for each in recipe["damages"]:
        damage(run / each["file"], each["damage"])
    return _command(verb)


def _move(run: Path, stock: Path, sandbox: Path) -> None:
    """Let the run's configuration name the images in the sandbox."""
    for path in (run / runfiles.CONFIG, run / runfiles.ENVIRONMENT):
        content = runfiles.read_json(path)
        if "data" in content:
            content["data"] = content["data"].replace(str(stock), str(sandbox))
        runfiles.write_object(path, content)
    for path in (stock / "photos").rglob("*.*"):  # data_files.npz knows their times
        status = path.stat()
        os.utime(sandbox / path.relative_to(stock), ns=(status.st_atime_ns, status.st_mtime_ns))


CHECKPOINTS = ("checkpoints/last.ckpt", "checkpoints/previous.ckpt")
FIELDS = st.fixed_dictionaries(
    {
        "how": st.just("field"),
        "path": st.lists(PLACES, min_size=1, max_size=5),
        "do": st.sampled_from(["set", "alike", "alike", "delete", "add", "rename", "tensor"]),
        "line": PLACES,
        "number": st.sampled_from([0, 1, -1, 2, 3, 4, 10**6, 2**40, 0.1, 1e300]),
        "text": st.sampled_from(WILD_TEXTS),
        "value": JSON_VALUES,
        "dtype": st.sampled_from(["float16", "float64", "int64", "bool", "complex64", "float32"]),
        "shape": st.lists(st.integers(0, 3), max_size=3),
        "fill": st.sampled_from([0.0, 1.0, float("nan"), float("inf"), 1e30]),
        "is_sealed": st.booleans(),
    }
)
"""An edited field of a checkpoint, which is written with a new checksum or without one."""
RECIPES_OF_CHECKPOINTS = st.fixed_dictionaries(
    {
        "run": st.sampled_from(["vicreg", "byol"]),
        "damages": st.lists(
            st.fixed_dictionaries(
                {
                    "file": st.sampled_from([CHECKPOINTS[0], CHECKPOINTS[0], CHECKPOINTS[1]]),
                    "damage": st.one_of(FLIPS, BYTES, REPLACED, FIELDS, FIELDS, FIELDS),
                }
            ),
            min_size=1,
            max_size=2,
        ),
        "verb": st.sampled_from(["resume", "continue", "continue", "check"]),
    }
)


def build_checkpoints(recipe: Recipe, sandbox: Path, stock: Path) -> Command:
    """A run with damaged checkpoints, to be resumed."""
    run = copy(stock / recipe["run"], sandbox / "run")
    copy(stock / "photos", sandbox / "photos")
    (run / runfiles.SKIPPED).write_text("path,reason\nphotos/x.png,cut off\n")
    _move(run, stock, sandbox)
    for each in recipe["damages"]:
        path = run / each["file"]
        if each["damage"]["how"] == "field" and path.is_file():
            _edit_checkpoint(path, each["damage"])
        elif each["damage"]["how"] != "field":
            damage(path, each["damage"])
    return _command(recipe["verb"])


def _edit_checkpoint(path: Path, recipe: Recipe) -> None:
    try:
        content = torch.load(path, weights_only=True)
    except Exception:  # an earlier damage: whatever torch makes of it, there is no field to edit
        return
    changed: Any = dict(recipe)
    if recipe["do"] == "tensor":
        made = torch.full(recipe["shape"], recipe["fill"]).to(getattr(torch, recipe["dtype"]))
        changed |= {"do": "set", "value": made}
    content = edited(content, changed)
    with path.open("wb") as file:
        if recipe["is_sealed"]:
            with runfiles.sealed(file) as archive:
                torch.save(content, archive)
        else:
            torch.save(content, file)
