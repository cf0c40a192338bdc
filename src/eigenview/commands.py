"""The verbs of the command line. Each parses its options with tyro and calls the library; torch is imported late."""

from __future__ import annotations

import shlex
import sys
import webbrowser
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Generic, Literal, TypeVar

import tyro
from rich.console import Console

from eigenview import runfiles
from eigenview.config import NoOptions, ProbeConfig, RunConfig
from eigenview.errors import Interrupted, UserError, nearest, require
from eigenview.probes.protocols import ProtocolOption
from eigenview.progress import loading

T = TypeVar("T")
Options = TypeVar("Options")
FLAT = tyro.conf.arg(name="")


def parse(kind: Any, args: list[str], verb: str, default: Any = None, description: str | None = None) -> Any:
    """tyro with our conventions: hyphens, no subcommands, one page of help."""
    config = (tyro.conf.FlagCreatePairsOff, tyro.conf.AvoidSubcommands)
    keywords = {} if default is None else {"default": default}
    return tyro.cli(kind, args=args, prog=f"eigenview {verb}", description=description, config=config, **keywords)


@dataclass(frozen=True, kw_only=True)
class Pretrain(Generic[Options]):
    """Pretrain an encoder on images without labels."""

    run: Annotated[RunConfig[Options], FLAT]
    out: Path | None = None
    """Run directory; default runs/<data>-<method>-<n>."""
    resume: bool = False
    """Continue the run in --out from its last checkpoint, with its own configuration."""
    recipe: str | None = None
    """Start from a recipe (eigenview list recipes) or MODULE:FUNCTION instead of the method's default."""


def pretrain(args: list[str]) -> int:
    """Images -> run directory."""
    if {"-h", "--help"} & set(args) and not _value(args, "--method") and not _value(args, "--recipe"):
        note = "Options of a method: eigenview pretrain --method NAME --help"
        parse(Pretrain[NoOptions], args, "pretrain", Pretrain(run=RunConfig()), description=note)
        return 0
    if "--resume" in args:
        return _resume(args)
    recipe = _value(args, "--recipe")
    from eigenview.recipes import default, load_recipe

    base = load_recipe(recipe) if recipe else default(_value(args, "--method") or "vicreg", _data(args))
    kind = Pretrain[type(base.objective)]  # type: ignore[misc]
    given = parse(kind, args, "pretrain", Pretrain(run=base))
    if recipe is None and given.run.method == base.method:
        # DATA stood behind an option: the recipe is that of what it is
        settled = default(base.method, given.run.data)
        if settled != base:
            given = parse(kind, args, "pretrain", Pretrain(run=settled))
    config: RunConfig[Any] = given.run
    if config.method != base.method and recipe is None:
        raise UserError(f"--method was given more than once, as {base.method} and {config.method}; give one.")
    if config.method != base.method:
        raise UserError(f"--recipe {recipe} is for {base.method}; leave --method out.")
    with runfiles.run_dir(given.out, config.data, config.method) as directory:
        return _train(config, directory, resume=False)


def _value(args: list[str], option: str) -> str | None:
    """The value of an option that must be known before the others can be parsed."""
    for k, arg in enumerate(args):
        if arg == option and k + 1 < len(args):
            return args[k + 1]
        if arg.startswith(option + "="):
            return arg.partition("=")[2]
    return None


def _data(args: list[str]) -> str:
    """The positional DATA when it comes first; digits otherwise, until all is parsed."""
    return args[0] if args and not args[0].startswith("-") else "digits"


def _resume(args: list[str]) -> int:
    from eigenview.run import read_config

    if (out := _value(args, "--out")) is None:
        raise UserError("--resume needs the run directory: eigenview pretrain --out RUN --resume")
    config = read_config(Path(out))
    given = parse(Pretrain[type(config.objective)], args, "pretrain", Pretrain(run=config))  # type: ignore[misc]
    if given.run != config or given.recipe is not None:
        raise UserError(f"a resumed run keeps its own configuration ({out}/config.json); leave the other options out.")
    return _train(config, Path(out), resume=True)


def _train(config: RunConfig[Any], directory: Path, *, resume: bool) -> int:
    from eigenview.run import start

    try:
        summary = start(config, directory, resume=resume, console=Console(), command=["eigenview", *sys.argv[1:]])
    except Interrupted as stop:
        where = shlex.quote(str(directory))
        print(f"stopped at step {stop.step}; continue with: eigenview pretrain --out {where} --resume")
        return 130
    if summary.get("finished", True):  # ranks other than the first return nothing
        return 0
    return 3 if "collapse" in summary["verdict"] else 1


@dataclass(frozen=True, kw_only=True)
class Probe:
    """k-NN, linear and few-label accuracy of a finished run's encoder, beside raw pixels."""

    run: tyro.conf.Positional[Path]
    """The run directory (or an encoder.safetensors)."""
    data: str | None = None
    """Labelled images: a folder with train/ and test/, or one set that is split. Default: the run's own."""
    protocol: ProtocolOption = "all"
    """Which accuracies."""
    seed: int = 0
    """Seed of splits and few-label draws."""
    probe: Annotated[ProbeConfig, FLAT] = ProbeConfig()
    out: Path | None = None
    """Also write the table as JSON to this file."""

    def __post_init__(self) -> None:
        require(self.seed >= 0, "--seed", self.seed, "0 or more")


def probe(args: list[str]) -> int:
    """Accuracy of an encoder that exists already."""
    given: Probe = parse(Probe, args, "probe")
    console = Console(stderr=True)
    with loading(console, "PyTorch"):
        from eigenview.encoder_uses import probe_encoder
        from eigenview.probes.table import render_table

    table = probe_encoder(given.run, given.data, given.protocol, given.probe, given.seed, console)
    Console().print(render_table(table))
    if given.out is not None:
        runfiles.write_json(given.out, table)
    return 0


@dataclass(frozen=True, kw_only=True)
class Embed:
    """Representations of images as a Parquet file: columns path (or index), label where there is one, h."""

    run: tyro.conf.Positional[str]
    """Run directory, encoder.safetensors, or timm:NAME."""
    images: tyro.conf.Positional[str]
    """Images, as for pretrain."""
    out: Path = Path("embeddings.parquet")
    """The file to write."""


def embed(args: list[str]) -> int:
    """Images -> embeddings.parquet."""
    given: Embed = parse(Embed, args, "embed")
    console = Console(stderr=True)
    with loading(console, "PyTorch"):
        from eigenview.encoder_uses import embed_images

    rows, width = embed_images(given.run, given.images, given.out, console)
    print(f"{given.out}: {rows:,} rows, {width} wide")
    return 0


def pack(args: list[str]) -> int:
    """Images -> a folder of decoded images."""
    from eigenview.data.sources.packing import PackOptions, write_pack

    given: PackOptions = parse(PackOptions, args, "pack")
    print(write_pack(given, Console(stderr=True)).summary())
    return 0


@dataclass(frozen=True, kw_only=True)
class Diagnose:
    """Collapse verdict for a run, an embeddings file (.npy, .npz, .parquet), or a timm model with images."""

    what: tyro.conf.Positional[str]
    """Run directory, embeddings file, or timm:NAME."""
    data: str | None = None
    """Images for a model; default for timm models: the built-in digits."""
    column: str | None = None
    """Array of a .npz or column of a .parquet; default: the only one that fits."""
    json: bool = False
    """Print JSON instead of a table."""


def diagnose(args: list[str]) -> int:
    """A verdict on anything, ours or not."""
    given: Diagnose = parse(Diagnose, args, "diagnose")
    console = Console(stderr=True)
    with loading(console, "PyTorch"):
        from eigenview.encoder_uses import diagnose_anything, show_diagnosis

    show_diagnosis(diagnose_anything(given.what, given.data, given.column, console), as_json=given.json)
    return 0


@dataclass(frozen=True, kw_only=True)
class Report:
    """One HTML page for one run, or several side by side."""

    runs: tyro.conf.Positional[tuple[Path, ...]]
    """Run directories."""
    out: Path | None = None
    """The page; default RUN/report.html for one run, report.html for several."""
    theory: bool = False
    """Also lay the linear theory's eigenvalues of F and W_p over one run with a predictor, with what they miss."""
    open: bool = False
    """Open it in the browser."""


def report(args: list[str]) -> int:
    """Run directories -> report.html."""
    given: Report = parse(Report, args, "report")
    if not given.runs:
        raise UserError("report needs a run directory: eigenview report RUN [RUN ...]")
    from eigenview.report.page import write_report

    out = given.out or (given.runs[0] / runfiles.REPORT if len(given.runs) == 1 else Path(runfiles.REPORT))
    path = write_report(given.runs, out, theory=given.theory)
    print(path)
    if given.open:
        webbrowser.open(path.resolve().as_uri())
    return 0


@dataclass(frozen=True, kw_only=True)
class Export:
    """The encoder of a run in another library's format."""

    run: tyro.conf.Positional[Path]
    """The run directory."""
    format: Literal["timm", "torchvision", "onnx", "hf"] = "timm"
    """timm, torchvision: weights under the library's own names; onnx: a graph; hf: a hub folder for timm."""
    out: Path | None = None
    """Folder to write; default RUN/export-FORMAT."""


def export(args: list[str]) -> int:
    """Run -> weights for others."""
    given: Export = parse(Export, args, "export")
    from eigenview.models.export import export as write

    print(write(given.run, given.format, given.out or given.run / f"export-{given.format}"))
    return 0


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """Reproduce a published table or figure, or a study of ours; resumable cell by cell."""

    name: tyro.conf.Positional[str]
    """eigenview list experiments"""
    scale: Literal["tiny", "cpu", "gpu"] = "tiny"
    """tiny: about two minutes a run on a core; cpu: four to twenty; gpu: ResNet-18 for 100 epochs, with the published
    settings where they are CIFAR-10's."""
    seeds: int = 1
    """Seeds per cell."""
    data: str | None = None
    """Folder of CIFAR-10 images with train/ and test/; default: the environment variable CIFAR10."""
    cells: str | None = None
    """Only these cells, separated by commas: to share a grid between terminals. Without it all are collected."""
    finished: bool = False
    """Run nothing: write the result of the cells that have ended, and name the others."""
    out: Path | None = None
    """Result folder; default experiments/results/NAME/SCALE."""


def experiment(args: list[str]) -> int:
    """A study -> its result files."""
    given: Experiment = parse(Experiment, args, "experiment")
    from eigenview.experiment import run_experiment

    arguments = (given.name, given.scale, given.seeds, given.data, given.cells, given.out)
    run_experiment(*arguments, Console(), finished=given.finished)
    return 0


@dataclass(frozen=True, kw_only=True)
class Simulate(Generic[Options]):
    """One theory as numbers and curves."""

    options: Annotated[Options, FLAT]
    sweep: str | None = None
    """Several values of one option in one figure: option=a,b,c."""
    out: Path | None = None
    """Folder for figure.html, numbers.csv and curves.csv; default simulations/NAME."""
    png: Path | None = None
    """Also draw the curves to this PNG (needs matplotlib)."""


def simulate(args: list[str]) -> int:
    """Theory -> numbers, curves, figure."""
    from eigenview.simulations import THEORIES, load

    if not args or args[0] in ("-h", "--help"):
        print("usage: eigenview simulate NAME [--options] [--sweep option=a,b,c] [--out DIR]\n")
        print("\n".join(f"  {name:17} {text}" for name, (_, text) in THEORIES.items()))
        print("\neigenview simulate NAME --help shows its options, its assumptions and where they fail.")
        return 0
    name, theory = args[0], load(args[0])
    from eigenview.simulations import command

    note = f"{THEORIES[name][1][0].upper()}{THEORIES[name][1][1:]}. Assumptions: {theory.assumptions}"
    given = parse(Simulate[theory.options], args[1:], f"simulate {name}", description=note)  # type: ignore[name-defined]
    repeat = ["eigenview", "simulate", *args]
    command.simulate(name, theory, given.options, given.sweep, given.out, given.png, repeat, Console())
    return 0


LISTS = ("objectives", "recipes", "encoders", "augmentations", "datasets", "experiments", "theories")


def list_(args: list[str]) -> int:
    """What there is to choose from."""
    if not args or args[0] in ("-h", "--help"):
        print(f"usage: eigenview list {{{','.join(LISTS)}}}")
        return 0
    from eigenview.listing import rows

    if args[0] not in LISTS:
        raise UserError(f"list {args[0]}: no such list. {nearest(args[0], LISTS)} Lists: {', '.join(LISTS)}.")
    for name, text in rows(args[0]):
        print(f"{name:24} {text}")
    return 0


COMMANDS: dict[str, Callable[[list[str]], int]] = {
    "pretrain": pretrain,
    "probe": probe,
    "embed": embed,
    "pack": pack,
    "diagnose": diagnose,
    "report": report,
    "simulate": simulate,
    "experiment": experiment,
    "export": export,
    "list": list_,
}
