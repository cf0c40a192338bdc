"""`eigenview pretrain`: images -> run directory. Torch is imported once the options are known to be valid."""

from __future__ import annotations

import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Generic, TypeVar

from rich.console import Console

from eigenview import runfiles
from eigenview.commands.options import FLAT, parse
from eigenview.config import NoOptions, RunConfig
from eigenview.errors import Interrupted, UserError

Options = TypeVar("Options")


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


def main(args: list[str]) -> int:
    """Start a run, or continue the one in --out."""
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
    options = parse(kind, args, "pretrain", Pretrain(run=base))
    if recipe is None and options.run.method == base.method:
        # DATA came after an option, so the recipe was chosen for digits: choose it again, for DATA
        suited = default(base.method, options.run.data)
        if suited != base:
            options = parse(kind, args, "pretrain", Pretrain(run=suited))
    config: RunConfig[Any] = options.run
    if config.method != base.method and recipe is None:
        raise UserError(f"--method was given more than once, as {base.method} and {config.method}; give one.")
    if config.method != base.method:
        raise UserError(f"--recipe {recipe} is for {base.method}; leave --method out.")
    with runfiles.run_dir(options.out, config.data, config.method) as directory:
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
    options = parse(Pretrain[type(config.objective)], args, "pretrain", Pretrain(run=config))  # type: ignore[misc]
    if options.run != config or options.recipe is not None:
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
