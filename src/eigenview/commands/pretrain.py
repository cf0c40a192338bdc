"""`eigenview pretrain`: images -> run directory. Torch is imported once the options are known to be valid."""

from __future__ import annotations

import dataclasses
import shlex
import sys
from pathlib import Path
from typing import Any

from eigenview import runfiles
from eigenview.commands.grouped import COMMAND, Command, command_type, run_config
from eigenview.commands.options import parse
from eigenview.config import RunConfig, method_name
from eigenview.config.names import refuse_old_flags
from eigenview.errors import Interrupted, UserError
from eigenview.terminal import Console, write


def main(args: list[str]) -> int:
    """Start a run, or continue the one in --out."""
    refuse_old_flags(args)
    if {"-h", "--help"} & set(args):
        return show_help(args)
    out = _value(args, "--out")
    if "--resume" in args:
        if out is None:
            raise UserError("--resume needs the run directory: eigenview pretrain --out RUN --resume")
        if (Path(out) / runfiles.CONFIG).exists():
            return _resume(args, Path(out))
    config, options = parsed(args)
    if options.dry_run:
        return _dry_run(config)
    with runfiles.run_dir(options.out, config.data, method_name(config.method)) as directory:
        return _train(config, directory)


def parsed(args: list[str], verb: str = "pretrain", command: Command = COMMAND) -> tuple[RunConfig[Any], Any]:
    """The configuration that the arguments ask for, on top of the recipe that they name, and all options.

    `verb` and its `command`, the options that are no fields of RunConfig: of a verb that takes those of `pretrain`.
    """
    from eigenview.recipes import default, load_recipe

    recipe, name = _value(args, "--recipe"), _value(args, "--method")
    given: dict[str, Any] = {"from_weights": _value(args, "--weights") is not None, "train": _value(args, "--train")}
    base = load_recipe(recipe) if recipe else default(name or "vicreg", _data(args), **given)
    config, options = _parse(args, base, verb, command)
    if recipe is None and config.data != base.data:
        # DATA came after an option, so the recipe was chosen for digits: choose it again, for DATA
        config, options = _parse(args, default(name or "vicreg", config.data, **given), verb, command)
    named, ours = options.method_name, method_name(base.method)
    if named != ours and recipe is None:
        raise UserError(f"--method was given more than once, as {ours} and {named}; give one.")
    if named != ours:
        raise UserError(f"--recipe {recipe} is for {ours}; leave --method out.")
    return config, options


def _parse(
    args: list[str], base: RunConfig[Any], verb: str = "pretrain", command: Command = COMMAND
) -> tuple[RunConfig[Any], Any]:
    _refuse_unknown_method_options(args, base)
    kind, default = command_type(base, method_name(base.method), command)
    options = parse(kind, args, verb, default)
    return run_config(options), options


def _refuse_unknown_method_options(args: list[str], base: RunConfig[Any]) -> None:
    """Raises UserError for an option that the method does not have, such as another method's."""
    known = [field.name.replace("_", "-") for field in dataclasses.fields(base.method)]
    for arg in args:
        flag = arg.partition("=")[0]
        name = flag.removeprefix("--method.").replace("_", "-")
        if flag.startswith("--method.") and name not in known and name.removeprefix("no-") not in known:
            listed = ", ".join(f"--method.{each}" for each in known)
            raise UserError(f"{flag}: {base.method.card.title} has no such option. It has {listed}.")


def show_help(args: list[str], verb: str = "pretrain", command: Command = COMMAND) -> int:
    """The options with the values of the recipe that would run; torch is not imported."""
    from eigenview.methods import declared_config
    from eigenview.recipes import load_recipe
    from eigenview.recipes.small import for_digits, small

    recipe, name = _value(args, "--recipe"), _value(args, "--method")
    if recipe is not None:
        base = load_recipe(recipe)
    else:
        method = name or "vicreg"
        base = small(method, method_config=declared_config(method)())
        base = for_digits(base) if _data(args) == "digits" else base
    kind, default = command_type(base, method_name(base.method), command)
    title = base.method.card.title
    note = f"Values shown are those of {recipe or f'the default recipe of {title}'}. --method NAME --help: of another."
    parse(kind, ["--help"], verb, default, description=note)
    return 0


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


def _resume(args: list[str], out: Path) -> int:
    from eigenview.run import read_config, require_trusted_transforms, resumed_config

    stored = read_config(out, trusted_method=_value(args, "--method"))
    is_named = any(_value(args, option) is not None for option in ("--augment.own", "--recipe"))
    require_trusted_transforms(stored, out, is_named=is_named)
    config, options = parsed(args) if _value(args, "--recipe") else _parse(args, stored)
    config = resumed_config(config, stored, out)
    return _train(config, out, stored=stored, allow_changed_data=options.allow_changed_data)


def _dry_run(config: RunConfig[Any]) -> int:
    from eigenview.run import start

    start(config, None, console=Console(), command=[])
    return 0


def _train(
    config: RunConfig[Any],
    directory: Path,
    *,
    stored: RunConfig[Any] | None = None,
    allow_changed_data: bool = False,
) -> int:
    from eigenview.run import start

    try:
        summary = start(
            config,
            directory,
            stored=stored,
            allow_changed_data=allow_changed_data,
            console=Console(),
            command=["eigenview", *sys.argv[1:]],
        )
    except Interrupted as stop:
        write(f"{stop}; continue with: eigenview pretrain --out {shlex.quote(str(directory))} --resume")
        return 130
    if summary.get("finished", True):  # ranks other than the first return nothing
        return 0
    return 3 if "collapse" in summary["verdict"] else 1
