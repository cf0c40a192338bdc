"""The options of a run as the command line shows them: everyday options first, the others under headings.

RunConfig is flat, because that is how it is written in Python and JSON. Here its fields are dealt out to groups of
options without prefixes, with RunConfig's own help texts, types and checks.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, TypeAlias, get_type_hints

import tyro

from eigenview.config import RunConfig
from eigenview.errors import UserError

GROUPS: Mapping[str, tuple[str, ...]] = {
    "crops": ("augmentation", "compile_augmentation", "local_views", "local_size", "local_scale"),
    "pixels": ("range", "channels", "pages", "fit"),
    "subset": ("data_fraction", "stratified"),
    "memory": ("grad_cache_chunk", "grad_accum_steps", "grad_accum_coupled"),
    "machine": ("device", "devices", "precision"),
}
"""Heading -> fields of RunConfig below it."""
TITLES = {
    "crops": "Augmentation and local crops.",
    "pixels": "How pixels are made from files; kept with the encoder, and used wherever it is used.",
    "subset": "Training on a part of the images.",
    "memory": "Larger batches than fit in memory.",
    "machine": "Where and how it is computed.",
}
NESTED = ("method", "augment", "network", "optim", "loader", "monitor", "probe")
Command: TypeAlias = Mapping[str, tuple[Any, Any, str]]
"""Options of a command that are no fields of RunConfig: type, default, help."""
COMMAND: Command = {
    "method_name": (str, "vicreg", "The method: eigenview list methods. Its options: --method NAME --help."),
    "out": (Path | None, None, "Run directory. Default: runs/<data>-<method>-<n>."),
    "resume": (
        bool,
        False,
        "Continue the run in --out from its last checkpoint; start it if there is none yet. DATA and --probe-data may "
        "say where the images are now; with more --epochs the schedule is that of all epochs from here on.",
    ),
    "allow_changed_data": (
        bool,
        False,
        "Resume also if files of the data changed since the run began.",
    ),
    "recipe": (
        str | None,
        None,
        "Start from a recipe (eigenview list recipes) or MODULE:FUNCTION instead of the method's default.",
    ),
    "dry_run": (
        bool,
        False,
        "Print what would run (data, size, steps, memory, minutes) and stop.",
    ),
}
"""Those of `pretrain`."""


def command_type(base: RunConfig[Any], name: str, command: Command = COMMAND) -> tuple[type, Any]:
    """A dataclass of all options, and the instance of it that holds the values of `base`, the recipe of `name`.

    `command`: the options that are no fields of RunConfig.
    """
    hints, docs = get_type_hints(RunConfig, include_extras=True), field_docs(RunConfig)
    hints["method"] = type(base.method)

    def entry(field: str) -> tuple[str, Any]:
        kind = hints[field]
        return field, kind if field in NESTED else Annotated[kind, tyro.conf.arg(help=docs[field])]

    grouped = {field for fields in GROUPS.values() for field in fields}
    everyday = [f.name for f in dataclasses.fields(RunConfig) if f.name not in grouped and f.name not in NESTED]
    fields: list[tuple[str, Any]] = [entry(field) for field in everyday]
    values: dict[str, Any] = {field: getattr(base, field) for field in everyday}
    for field, (kind, default, text) in command.items():
        shown = "method" if field == "method_name" else field
        fields.append((field, Annotated[kind, tyro.conf.arg(name=shown, help=text)]))
        values[field] = name if field == "method_name" else default
    fields.append(entry("method"))
    values["method"] = base.method
    for group, names in GROUPS.items():
        kind = dataclasses.make_dataclass(group.title(), [entry(each) for each in names], frozen=True, kw_only=True)
        kind.__doc__ = TITLES[group]
        fields.append((group, Annotated[kind, tyro.conf.OmitArgPrefixes]))
        values[group] = kind(**{each: getattr(base, each) for each in names})
    for field in NESTED[1:]:
        fields.append(entry(field))
        values[field] = getattr(base, field)
    made = dataclasses.make_dataclass("Pretrain", fields, frozen=True, kw_only=True)
    made.__doc__ = "Pretrain an encoder on images without labels."
    return made, made(**values)


def run_config(options: Any) -> RunConfig[Any]:
    """The RunConfig of parsed options."""
    values = {f.name: getattr(options, f.name) for f in dataclasses.fields(options)}
    for group in GROUPS:
        part = values.pop(group)
        values |= {f.name: getattr(part, f.name) for f in dataclasses.fields(part)}
    return RunConfig(**{field.name: values[field.name] for field in dataclasses.fields(RunConfig)})


def field_docs(kind: type) -> dict[str, str]:
    """The sentence below each field of a dataclass, which is its help text."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(kind))).body[0]
    assert isinstance(tree, ast.ClassDef)
    docs: dict[str, str] = {}
    for node, text in zip(tree.body, tree.body[1:], strict=False):
        if isinstance(node, ast.AnnAssign) and isinstance(text, ast.Expr):
            docs[ast.unparse(node.target)] = " ".join(str(ast.literal_eval(text.value)).split())
    missing = {f.name for f in dataclasses.fields(kind)} - set(docs) - set(NESTED)
    if missing:
        raise UserError(f"{kind.__name__}: fields without a help text: {', '.join(sorted(missing))}.")
    return docs
