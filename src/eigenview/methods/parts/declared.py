"""The config of a method, read from its file without running the rest of the file.

`eigenview list methods` and `eigenview pretrain --method NAME --help` need a method's options and its card, not its
loss. Importing the file would import torch, which takes seconds. So only the part that needs no torch is executed:
the dataclasses, and the imports and constants that they name. The classes made here are for display; a run
imports the file.
"""

from __future__ import annotations

import ast
import importlib.util
import sys
from collections.abc import Mapping
from functools import cache
from types import ModuleType
from typing import Any

from eigenview.errors import UserError
from eigenview.records import MethodConfig


@cache
def declared(module_name: str) -> type[MethodConfig]:
    """The config class that a module defines; torch is not imported unless the config itself names it."""
    if module_name in sys.modules:
        return defined_config(vars(sys.modules[module_name]), module_name)
    tree, path = source(module_name)
    # help texts are read from the source, which Python finds through sys.modules
    module = ModuleType(f"{module_name}.declared")
    module.__file__ = path
    sys.modules[module.__name__] = module
    exec(compile(ast.Module(declarations(tree), []), path, "exec", dont_inherit=True), module.__dict__)
    return defined_config(module.__dict__, module.__name__)


@cache
def source(module_name: str) -> tuple[ast.Module, str]:
    """Syntax tree and path of a module's file."""
    try:
        spec = importlib.util.find_spec(module_name)
    except ModuleNotFoundError:
        spec = None
    if spec is None or spec.origin is None or not spec.origin.endswith(".py"):
        raise UserError(f"--method {module_name}: no Python file of that module name can be imported from here.")
    with open(spec.origin, encoding="utf-8") as file:
        return ast.parse(file.read(), spec.origin), spec.origin


def defined_classes(module_name: str) -> list[str]:
    """Names of the public classes that a module's file defines."""
    tree, _ = source(module_name)
    return [node.name for node in tree.body if isinstance(node, ast.ClassDef) and not node.name.startswith("_")]


def defined_config(names: Mapping[str, Any], module_name: str) -> type[MethodConfig]:
    """The one config class that is defined in a module (not imported into it)."""
    found = [
        value
        for value in names.values()
        if isinstance(value, type) and issubclass(value, MethodConfig) and value.__module__ == module_name
    ]
    if len(found) != 1:
        raise UserError(
            f"{module_name} defines {len(found)} subclasses of MethodConfig; a method's module defines exactly one."
        )
    return found[0]


def declarations(tree: ast.Module) -> list[ast.stmt]:
    """The dataclasses of a file, and before them the statements that bind names which they use, in order."""
    needed = {name for node in tree.body if _is_dataclass(node) for name in _used(node)}
    kept: list[ast.stmt] = []
    for node in reversed(tree.body):
        is_future = isinstance(node, ast.ImportFrom) and node.module == "__future__"
        if is_future or _is_dataclass(node) or _bound(node) & needed:
            kept.append(node)
            needed |= _used(node)
    return kept[::-1]


def _is_dataclass(node: ast.stmt) -> bool:
    return isinstance(node, ast.ClassDef) and any("dataclass" in ast.unparse(each) for each in node.decorator_list)


def _used(node: ast.stmt) -> set[str]:
    """Names that a statement reads; of a class all but those in `build`, which names the torch module."""
    parts = [part for part in node.body if _name(part) != "build"] if isinstance(node, ast.ClassDef) else [node]
    if isinstance(node, ast.ClassDef):
        parts += [*node.bases, *node.decorator_list]  # type: ignore[list-item]
    return {each.id for part in parts for each in ast.walk(part) if isinstance(each, ast.Name)}


def _bound(node: ast.stmt) -> set[str]:
    """Names that a statement of a module binds."""
    if isinstance(node, ast.Import | ast.ImportFrom):
        return {(alias.asname or alias.name).split(".")[0] for alias in node.names}
    if isinstance(node, ast.Assign):
        return {target.id for target in node.targets if isinstance(target, ast.Name)}
    return {_name(node)}


def _name(node: ast.stmt) -> str:
    return node.name if isinstance(node, ast.FunctionDef | ast.ClassDef) else ""
