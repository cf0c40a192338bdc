"""Command lines of every verb: options as they are declared, with good values and odd ones."""

from __future__ import annotations

import dataclasses
import itertools
import types
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from hypothesis import strategies as st

from eigenview.cli import VERBS
from eigenview.commands.check import Check
from eigenview.commands.diagnose import Diagnose
from eigenview.commands.embed import Embed
from eigenview.commands.experiment import Experiment
from eigenview.commands.export import Export
from eigenview.commands.list import LISTS
from eigenview.commands.probe import Probe
from eigenview.commands.report import Report
from eigenview.config import RunConfig
from eigenview.config.augment import RANGES
from eigenview.data.packing import PackOptions
from eigenview.methods import METHODS, config_class
from eigenview.recipes import RECIPES
from eigenview.simulations import load
from tests.fuzz.damage import copy
from tests.fuzz.sandbox import Command
from tests.fuzz.stock import SMALL, THEORIES
from tests.fuzz.values import TEXTS, WILD_TEXTS, Recipe

DATA = (
    "photos",
    "parts",
    "images.npy",
    "images.npz",
    "halves.npz",
    "shards",
    "shards/x-{0..1}.tar",
    "pack",
    "hf:arrow",
)
PLACES = (*DATA, "vicreg", "byol", "x.npy", "x.parquet", "nowhere", "vicreg/config.json", "photos/dark/00.png")
ENCODERS = (
    "conv-tiny",
    "conv-small",
    "timm:resnet10t",
    "torchvision:squeezenet1_0",
    "timm:vit_tiny_patch16_224",
    "abc",
)
INSIDE = TEXTS.filter(lambda text: ".." not in text and text[:1] not in ("/", "~"))
"""Names that cannot lie outside the sandbox, which a command may write to."""
COUNTS = ("0", "1", "2", "3", "4", "8", "12", "16", "32", "64")
SHARES = ("0", "0.1", "0.5", "0.9", "1", "1.5", "10", "1e-6", "1e3")
SLOW = ("--compile-augmentation", "--devices")  # a compiler; several processes, which import torch again
LARGE = ("1000000", "1e9", "1e10", "4294967296")
"""Values that some options allow, and with which a run would take days: only ever planned (--dry-run)."""
NAMES: dict[str, tuple[str, ...]] = {
    "--encoder": ENCODERS,
    "--second-encoder": ENCODERS,
    "--method": (*METHODS, "vicrge"),
    "--recipe": (*sorted(RECIPES)[:8], "tests.fuzz.options:nothing"),
    "--augmentation": ("auto", "microscopy", "medical", "simclr", "byol", "digits", "none"),
    **{f"--augment.{name}": ("0.5", "0,1", "1:2", "0.2:1", "0.1:0.2,0.3:1", "None", "x") for name in RANGES},
    "--augment.flip": ("0.5", "0,1", "0,1,0", "2", "nan", ","),
    "--augment.mean": ("0.5", "0.5,0.5,0.5", "0,0"),
    "--augment.own": ("tests.fuzz.options:nothing", "x:y", "x"),
    "--views": ("2", "3", "4", "1"),
    "--local-views": ("0", "1", "2", "6", "-1"),
    "--probe-data": PLACES,
    "--data": PLACES,
    "--column": ("h", "index", "x", "other", "columns"),
}

Kind = Any
"""The annotation of a field."""


def flags_of(declared: type, prefix: str = "", *, is_flat: bool = False) -> dict[str, Kind]:
    """{option: annotation} of a dataclass; the fields of a dataclass in it are below its name, or beside the others."""
    found: dict[str, Kind] = {}
    hints = get_type_hints(declared)
    for name, kind in ((field.name, hints[field.name]) for field in dataclasses.fields(declared)):
        flag = f"--{prefix}{name.replace('_', '-')}"
        if dataclasses.is_dataclass(kind):
            assert isinstance(kind, type)
            found |= flags_of(kind, prefix if is_flat else f"{prefix}{name}.")
        else:
            found[flag] = kind
    return found


def values_of(flag: str, kind: Kind) -> st.SearchStrategy[list[str]]:
    """What may follow an option."""
    if flag in NAMES:
        return mostly(st.sampled_from(NAMES[flag]), TEXTS).map(lambda one: [one])
    return mostly(_good(kind), st.one_of(TEXTS.map(lambda text: [text]), st.lists(TEXTS, max_size=3)))


def mostly(good: st.SearchStrategy[Any], wild: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """`good` in five cases of six, so that a command line with several values often gets beyond the first."""
    return st.integers(0, 5).flatmap(lambda k: wild if k == 5 else good)


def _good(kind: Kind) -> st.SearchStrategy[list[str]]:
    origin, inner = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return st.one_of([_good(each) for each in inner if each is not types.NoneType])
    if origin is Literal:
        return st.sampled_from([[str(each)] for each in inner])
    if origin is tuple:
        return st.tuples(*(_good(each) for each in inner if each is not ...)).map(
            lambda parts: [*itertools.chain(*parts)]
        )
    if kind is bool:
        return st.just([])
    if kind is int:
        return st.sampled_from([[each] for each in COUNTS])
    if kind is float:
        return st.sampled_from([[each] for each in SHARES])
    return st.one_of(st.sampled_from(PLACES), TEXTS).map(lambda one: [one])


def _options(declared: dict[str, Kind], most: int = 3) -> st.SearchStrategy[list[str]]:
    """Some of these options with values, joined by = or not."""
    if not declared:
        return st.just([])
    one = st.sampled_from(sorted(declared)).flatmap(
        lambda flag: st.tuples(st.just(flag), values_of(flag, declared[flag]), st.booleans())
    )

    def written(chosen: list[tuple[str, list[str], bool]]) -> list[str]:
        return [*itertools.chain(*([f"{f}={v[0]}"] if joined and len(v) == 1 else [f, *v] for f, v, joined in chosen))]

    return st.lists(one, max_size=most).map(written)


RUN = {flag: kind for flag, kind in flags_of(RunConfig).items() if flag not in ("--data", "--method", *SLOW)}
RUN |= {"--method": str, "--recipe": str, "--stratified": bool, "--resume": bool, "--allow-changed-data": bool}


def _pretrain() -> st.SearchStrategy[list[str]]:
    def of(method: str) -> st.SearchStrategy[list[str]]:
        own = flags_of(config_class(method), "method.")
        data = mostly(st.sampled_from(DATA), st.one_of(st.sampled_from(PLACES), TEXTS))
        given = st.tuples(data, _options(RUN), _options(own, 2), st.sampled_from([[], ["--dry-run"], ["--dry-run"]]))
        return given.map(lambda g: ["pretrain", g[0], *SMALL, "--method", method, *g[1], *g[2], *g[3]])

    return st.sampled_from(METHODS).flatmap(of)


def _others() -> st.SearchStrategy[list[str]]:
    place, data = st.one_of(st.sampled_from(PLACES), TEXTS), mostly(st.sampled_from(DATA), TEXTS)
    run = mostly(st.sampled_from(["vicreg", "byol", "vicreg/encoder.safetensors"]), place)
    what = st.one_of(run, run, st.sampled_from(["x.npy", "x.npz", "x.parquet", "timm:nothing"]))
    outs = st.sampled_from(["out/x", "out.parquet", "new.parquet", "vicreg", "photos", "x.npy", "nowhere/a/b"])
    out = mostly(outs, INSIDE)
    declared = {
        "probe": (Probe, [run]),
        "embed": (Embed, [run, data]),
        "diagnose": (Diagnose, [what]),
        "export": (Export, [run]),
        "pack": (PackOptions, [data]),
        "check": (Check, [run]),
        "report": (Report, [run, run]),
        "experiment": (Experiment, [TEXTS]),
    }

    def of(verb: str) -> st.SearchStrategy[list[str]]:
        kind, first = declared[verb]
        own = flags_of(kind, is_flat=True)
        for name in ("--run", "--runs", "--images", "--what", "--name", "--open", "--out"):
            own.pop(name, None)
        if verb == "pack":
            del own["--data"]
        placed = (
            st.just([]) if verb in ("check", "diagnose") else st.one_of(st.just([]), out.map(lambda o: ["--out", o]))
        )
        given = st.tuples(*first, _options(own), placed)
        return given.map(lambda g: [verb, *g[:-2], *g[-2], *g[-1]])

    def theory(name: str) -> st.SearchStrategy[list[str]]:
        own = flags_of(load(name).options)
        named = st.tuples(st.sampled_from(sorted(own)), st.lists(st.sampled_from((*COUNTS, *SHARES)), max_size=3))
        text = mostly(named.map(lambda each: f"{each[0].removeprefix('--')}={','.join(each[1])}"), TEXTS)
        sweep = st.one_of(st.just([]), text.map(lambda text: ["--sweep", text]))
        return st.tuples(_options(own), sweep).map(lambda g: ["simulate", name, *g[0], *g[1]])

    words = st.sampled_from(sorted({*VERBS, *LISTS, *WILD_TEXTS, "--help", "--version", "list", "clear"}))
    anything = st.lists(st.one_of(words, words, TEXTS), max_size=4).filter(lambda args: args[:1] != ["pretrain"])
    return st.one_of(
        *[st.sampled_from(sorted(declared)).flatmap(of)] * 4,
        st.sampled_from(THEORIES).flatmap(theory),
        anything,
    )


VARIABLES = st.one_of(
    TEXTS.filter(lambda text: text.isprintable() and "\udcff" not in text).map(
        lambda text: {"EIGENVIEW_CACHE_GB": text}
    ),
    st.sampled_from(["other-cache/a", "/dev/null"]).map(lambda place: {"EIGENVIEW_CACHE": place}),
    st.sampled_from(["nowhere", "/dev/null"]).map(lambda place: {"TMPDIR": place}),
    st.sampled_from(
        [{"COLUMNS": "1"}, {"COLUMNS": "abc"}, {"HOME": ""}, {"CUDA_VISIBLE_DEVICES": "7"}, {"TERM": "dumb"}]
    ),
    st.sampled_from(
        [
            {"RANK": "abc", "WORLD_SIZE": "2"},
            {"RANK": "0", "WORLD_SIZE": "0"},
            {"RANK": "5", "WORLD_SIZE": "2"},
            {"RANK": "0", "WORLD_SIZE": "1", "MASTER_PORT": "x"},
            {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": ""},
            {"SLURM_STEP_NUM_TASKS": "x"},
            {"SLURM_STEP_NUM_TASKS": "2", "SLURM_PROCID": "-1"},
            {"SLURM_STEP_NUM_TASKS": "2", "SLURM_PROCID": "0", "SLURM_JOB_ID": "x"},
        ]
    ),
)
RECIPES_OF_OPTIONS = st.fixed_dictionaries(
    {
        "args": st.one_of(_pretrain(), _pretrain(), _others()),
        "variables": st.one_of(st.just({}), st.just({}), VARIABLES),
        "encoding": st.sampled_from(["utf-8", "utf-8", "ascii", "latin-1"]),
    }
)
COPIED = ("photos", "parts", "images.npy", "images.npz", "halves.npz", "shards", "pack", "arrow", "vicreg", "byol")
COPIED += ("x.npy", "x.npz", "x.parquet")


def build(recipe: Recipe, sandbox: Path, stock: Path) -> Command:
    """The inputs that options may name, and the command line."""
    args = [arg.replace("\0", "") for arg in recipe["args"]]
    for name in COPIED:
        if any(name in arg for arg in args) or (args[:1] != ["pretrain"] and name == "vicreg"):
            copy(stock / name, sandbox / name)
    if (sandbox / "vicreg").exists() and not (sandbox / "photos").exists():
        copy(stock / "photos", sandbox / "photos")
    large = args[:1] == ["pretrain"] and any(value in arg for arg in args for value in LARGE)
    if large and "--dry-run" not in args:
        args.append("--dry-run")
    is_resumed = "--resume" in args
    return Command(
        args=args,
        may_write=_places(args),
        replaces=is_resumed,
        encoding=recipe["encoding"],
        variables=recipe["variables"],
    )


def _places(args: list[str]) -> tuple[str, ...]:
    """Where this command line writes: what --out names, and the default of its verb."""
    places = ["out"]
    for k, arg in enumerate(args):
        for option in ("--out", "--png"):
            given = args[k + 1] if arg == option and k + 1 < len(args) else arg.partition("=")[2]
            if arg == option or arg.startswith(option + "="):
                places += [Path(given).parts[0]] if given and Path(given).parts else []
    verb = args[0] if args else ""
    if verb == "report":
        places += ["report.html", *(f"{arg}/report.html" for arg in args[1:])]
    if verb == "pack":
        places += [f"{Path(arg.removeprefix('hf:')).name}-pack" for arg in args[1:]]
    if verb == "export":
        places += [f"{arg}/export-{each}" for arg in args[1:] for each in ("timm", "torchvision", "onnx", "hf")]
    defaults = {"pretrain": "runs", "embed": "embeddings.parquet", "simulate": "simulations"}
    if verb in defaults:
        places.append(defaults[verb])
    return tuple(place for place in places if place)


def nothing(argument: int) -> None:
    """What --recipe refuses: a function with an argument."""
