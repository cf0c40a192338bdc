"""The pages of the methods, made from their cards, options, objectives and tests. Free of mkdocs.

A new method gets its page without a change here: everything is read from its class, its card and the tests.
"""

from __future__ import annotations

import ast
import dataclasses
import importlib
import inspect
import itertools
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import torch

from eigenview.diagnostics.remedies import applicable
from eigenview.methods import METHODS, card, config_class, module_name
from eigenview.methods.parts.method import Objective
from eigenview.records import MethodConfig
from eigenview.views import Views

ROOT = Path(__file__).resolve().parents[2]
OPTION = re.compile(r"(?<![\w`])--[a-z][\w.-]*\w(?: (?:[\d.]*\d|[a-z]+-[a-z-]+|[a-z]+(?= --| or --|[),;]|$)))?")
"""An option of the command line in a text, with its value if one follows."""
ARXIV = re.compile(r"arXiv (\d{4}\.\d{4,5})")
FIELDS = {
    "h": ("h", "representations of two views"),
    "z": ("z", "embeddings of two views"),
    "p": ("p", "predictions of two views"),
    "z_target": ("t", "the target network's embeddings of two views"),
}
"""Field of Views -> letter and description of its tensors in the example."""
SHAPE = (64, 128)
"""Samples and width of the example."""
DOCSTRING_ONLY = """
    options:
      show_root_heading: false
      show_root_toc_entry: false
      show_bases: false
      members: false
"""


def methods_page() -> str:
    """The table of all methods."""
    cards = [card(name) for name in METHODS]
    rows = [
        f"| [{each.title}]({each.name}.md) | `{each.name}` | {each.summary} | {paper(each.paper)} |" for each in cards
    ]
    head = (
        "# Methods\n\nOne file each in `src/eigenview/methods/`. What the methods have in common and how they differ: "
        "[concepts](../concepts.md). A method of your own: [adding a method](../add-a-method.md).\n\n"
        "| method | `--method` | what it does | paper |\n|---|---|---|---|\n"
    )
    return head + "\n".join(rows) + "\n"


def method_page(name: str) -> str:
    """Card, use, loss, options and checks of one method."""
    config, kind = config_class(name), objective(name)
    about = config.card
    parts = [
        f"# {about.title}\n\n{_cell(about.summary[0].upper() + about.summary[1:])}.",
        f"* **Paper**: {paper(about.paper)}.\n* **File**: {_link(_path(config))}.\n"
        f"* **Augmentation** with `--augmentation auto`: `{about.augmentation}`.{_recipe(config)}",
        f"## Use\n\n```sh\neigenview pretrain photos/ --method {name}\n```",
    ]
    if kind is not None:
        parts += [
            f"Its loss in a training loop of your own:\n\n```python\n{snippet(name)}\n```",
            f"## Loss\n\n::: {module_name(name)}.{kind.__name__}{DOCSTRING_ONLY}",
        ]
    parts += [
        f"## Options\n\n{options_table(config)}",
        f"## If it collapses\n\n{_remedies(config)}",
        f"## What checks it\n\n{checks(name)}",
    ]
    return "\n\n".join(parts) + "\n"


def objective(name: str) -> type[Objective] | None:
    """The class of a method's loss, VICReg beside VICRegConfig; None for a method that is no joint embedding."""
    module = importlib.import_module(module_name(name))
    kind = getattr(module, config_class(name).__name__.removesuffix("Config"), None)
    return kind if isinstance(kind, type) and issubclass(kind, Objective) else None


def paper(text: str) -> str:
    """A card's paper, its arXiv number as a link."""
    return ARXIV.sub(r"[arXiv \1](https://arxiv.org/abs/\1)", text)


def options_table(config: type[MethodConfig]) -> str:
    """Flag, values, default and help text of every option."""
    docs, hints = field_docs(config), get_type_hints(config)
    rows = []
    for field in dataclasses.fields(config):  # type: ignore[arg-type]
        is_on = field.default is True  # as on the command line: a flag that switches it off
        flag = f"--method.{'no-' if is_on else ''}{field.name.replace('_', '-')}"
        default = ("on" if is_on else "off") if isinstance(field.default, bool) else f"`{field.default}`"
        rows.append(f"| `{flag}` | {_values(hints[field.name])} | {default} | {_cell(docs[field.name])} |")
    if not rows:
        return "It has no options."
    return "\n".join(["| option | values | default | meaning |", "|---|---|---|---|", *rows])


def snippet(name: str) -> str:
    """Lines of Python that compute the loss of random tensors; they run as they stand."""
    kind = objective(name)
    assert kind is not None, f"{name} has no objective"
    reads = [field for field in FIELDS if field in config_class(name)().needs.reads]
    lines = ["import torch, eigenview as ev", ""]
    for field in reads:
        letter, text = FIELDS[field]
        grad = "" if field == "z_target" else ", requires_grad=True"
        lines.append(f"{letter}1, {letter}2 = torch.randn(2, {SHAPE[0]}, {SHAPE[1]}{grad})  # {text}")
    pairs = {field: f"{FIELDS[field][0]}1, {FIELDS[field][0]}2" for field in reads}
    given = [pairs.pop("z")] if "z" in pairs else []  # by position, the others by name
    given += [f"{field}=[{pair}]" for field, pair in pairs.items()]
    built, width = _built(kind)
    if not built(Views(**{field: torch.randn(2, *SHAPE) for field in reads})).carry:
        return "\n".join([*lines, f"loss = ev.{kind.__name__}({width})({', '.join(given)})"])
    steps = [
        f"objective = ev.{kind.__name__}({width})  # once: it keeps a state from step to step",
        f"out = objective(ev.Views.of({', '.join(given)}))",
        "out.total.backward()  # then optimizer.step()",
        "objective.update(out.carry, ev.Clock())",
    ]
    return "\n".join([*lines, *steps])


def _built(kind: Any) -> tuple[Objective, str]:
    """An objective with its default options, and the argument that it needs beside them, if any."""
    try:
        return kind(), ""
    except (TypeError, ValueError):  # its predictor is a matrix of the embedding's width
        return kind(width=SHAPE[1]), f"width={SHAPE[1]}"


def checks(name: str) -> str:
    """Golden families, contract tests and test files of a method."""
    families, files = golden_families(name), _test_files(name)
    lines = [
        f"* Numbers from official programs: {', '.join(f'`{family}`' for family in families)} "
        f"({_link('tests/golden/README.md', 'sources and commits')})."
        if families
        else "* No official program gave numbers for it; the definition is checked against a slow loop in float64.",
        f"* The {_link('tests/contract/test_objectives.py', 'contract tests')}, which run over every method: 1, 2 and "
        "4 processes agree in loss, gradient and state in float64, the loss equals a slow loop, `gradcheck`, the order "
        "of samples does not matter, collapsed input stays finite.",
    ]
    if files:
        lines.append(f"* Its own tests: {', '.join(_link(file) for file in files)}.")
    return "\n".join(lines)


def golden_families(name: str) -> list[str]:
    """Families of tests/golden whose check uses the method's class, or whose name begins with the method's."""
    stems = sorted(path.stem for path in (ROOT / "tests/golden").glob("*.npz"))
    kind, found = config_class(name).__name__.removesuffix("Config"), []
    for file in sorted((ROOT / "tests").glob("golden_*.py")):
        functions = {node.name: node for node in ast.parse(file.read_text()).body if isinstance(node, ast.FunctionDef)}
        for family, node in functions.items():
            used = {each.id for each in ast.walk(node) if isinstance(each, ast.Name)}
            is_family = any(f"{stem}_".startswith(f"{family}_") for stem in stems)
            if is_family and (kind in used or family.startswith(f"{name.replace('-', '_')}_")):
                found.append(family)
    return found


def field_docs(config: type[MethodConfig]) -> dict[str, str]:
    """Field -> help text; that of a field which a subclass declares again is the subclass's."""
    return {field: text for kind in reversed(config.__mro__) for field, text in _own_docs(kind).items()}


def _own_docs(kind: type) -> dict[str, str]:
    """The sentence below each field that a class itself declares, which is its help text."""
    if not dataclasses.is_dataclass(kind):
        return {}
    tree = ast.parse(textwrap.dedent(inspect.getsource(kind))).body[0]
    assert isinstance(tree, ast.ClassDef)
    return {
        ast.unparse(node.target): " ".join(ast.literal_eval(text.value).split())
        for node, text in itertools.pairwise(tree.body)
        if isinstance(node, ast.AnnAssign) and isinstance(text, ast.Expr)
    }


def _recipe(config: type[MethodConfig]) -> str:
    flat = [f"`--{key.replace('_', '-')} {value}`" for key, value in _flat(config.card.recipe)]
    return f"\n* **Its recipe** differs from the common one in {', '.join(flat)}." if flat else ""


def _flat(values: object, before: str = "") -> Iterator[tuple[str, object]]:
    if not isinstance(values, dict):
        yield before, values
        return
    for key, value in values.items():
        yield from _flat(value, f"{before}.{key}" if before else key)


def _remedies(config: type[MethodConfig]) -> str:
    listed = {label: applicable(each, None) for label, each in config.card.remedies.items()}
    if config.card.plug_in_remedies:
        listed["small batches"] = applicable(config.card.plug_in_remedies[:1], None)
    lines = [f"* **{label}**: {'; '.join(map(_cell, texts))}." for label, texts in listed.items()]
    return "What the [verdict](../verdict.md) advises, the likeliest first.\n\n" + "\n".join(lines)


def _test_files(name: str) -> list[str]:
    """The method's own test file, or the files that name its class."""
    folder, stem = ROOT / "tests/methods", f"test_{name.replace('-', '_')}.py"
    if (folder / stem).exists():
        return [f"tests/methods/{stem}"]
    word = re.compile(rf"\b{config_class(name).__name__.removesuffix('Config')}\b")
    return [f"tests/methods/{file.name}" for file in sorted(folder.glob("test_*.py")) if word.search(file.read_text())]


def _path(config: type[MethodConfig]) -> str:
    return Path(inspect.getfile(config)).relative_to(ROOT).as_posix()


def _link(path: str, text: str = "") -> str:
    """A link to a file of the repository, as a page two folders below the root writes it."""
    return f"[{text or f'`{path}`'}](../../{path})"


def _values(hint: Any) -> str:
    """What an option may be: the choices, the kind of number, or nothing if it is a flag."""
    if get_origin(hint) is Literal:
        return ", ".join(f"`{choice}`" for choice in get_args(hint))
    if get_origin(hint) in (Union, UnionType):
        return " or ".join(_values(each) for each in get_args(hint))
    return {float: "number", int: "whole number", bool: "flag", type(None): "none"}.get(hint, "")


def _cell(text: str) -> str:
    """Plain text as Markdown in a table: options in code, no character that starts markup."""
    text = OPTION.sub(r"`\g<0>`", text)
    pieces = re.split(r"(`[^`]*`)", text)
    pieces = [p if p.startswith("`") else re.sub(r"([*_\[])", r"\\\1", p).replace("<", "&lt;") for p in pieces]
    return "".join(pieces).replace("|", "\\|")
