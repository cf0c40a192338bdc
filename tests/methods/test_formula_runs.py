"""The formula that is read is the one that runs: a default run of a method executes every line of its `forward`."""

from __future__ import annotations

import ast
import inspect
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import pytest
import torch

from eigenview.methods import METHODS, module_name
from eigenview.methods.parts.method import Objective
from eigenview.records import Clock
from eigenview.views import FIELDS, Loss, Views
from tests.contract.building import objective_of
from tests.draws import random


def statement_lines(function: Callable[..., Any]) -> set[int]:
    """First lines of all statements in a function's body, nested ones too, docstrings left out, as in its file."""
    lines, first = inspect.getsourcelines(function)
    (tree,) = ast.parse(textwrap.dedent("".join(lines))).body
    assert isinstance(tree, ast.FunctionDef)
    found = {node.lineno for node in ast.walk(tree) if isinstance(node, ast.stmt)} - {tree.lineno}
    if ast.get_docstring(tree) is not None:
        found -= {tree.body[0].lineno}
    return {line + first - 1 for line in found}


def codes(code: CodeType) -> set[CodeType]:
    """A function's code and that of what it defines: comprehensions, lambdas."""
    inner = (c for c in code.co_consts if isinstance(c, CodeType))
    return {code}.union(*(codes(c) for c in inner))


def executed_lines(function: Callable[..., Any], call: Callable[[], Any]) -> set[int]:
    """Lines of `function` that run during `call`."""
    watched, seen = codes(inspect.unwrap(function).__code__), set[int]()  # type: ignore[attr-defined]

    def trace(frame: FrameType, event: str, arg: Any) -> Any:
        if frame.f_code not in watched:
            return None
        if event == "line":
            seen.add(frame.f_lineno)
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        call()
    finally:
        sys.settrace(before)
    return seen


def unused_lines(function: Callable[..., Any], call: Callable[[], Any]) -> list[str]:
    """Statements of `function` that `call` does not reach, as `line: text`."""
    missing = statement_lines(function) - executed_lines(function, call)
    source = Path(inspect.getsourcefile(function) or "").read_text(encoding="utf-8").splitlines()
    return [f"{line}: {source[line - 1].strip()}" for line in sorted(missing)]


def default_objective(method: str, views: int) -> Objective:
    """The method's objective with its default options (DirectCLR: coordinates that fit the width)."""
    torch.manual_seed(0)
    return objective_of(method, 6, views)


@pytest.mark.parametrize("views", [2, 3])
@pytest.mark.parametrize("method", METHODS)
def test_a_default_run_executes_every_line_of_the_loss(method: str, views: int) -> None:
    objective = default_objective(method, views)
    forward = inspect.unwrap(type(objective).forward)
    home = Path(inspect.getsourcefile(forward) or "").stem
    own = {"directcopy": "directset", "directpred": "directset"}.get(method, module_name(method).rpartition(".")[2])
    assert home == own, f"the loss of {method} is not in its file"
    batch = Views(**{name: random(views, 8, 6, seed=k) for k, name in enumerate(FIELDS)})
    assert statement_lines(forward)
    assert unused_lines(forward, lambda: objective(batch)) == []


class Branching:
    """Forwards as they should not be."""

    def a_branch(self, views: Views, clock: Clock) -> Loss:
        """A docstring is no line that runs."""
        z = views.read("z")
        if len(z) > 5:
            z = z[:5]
        return Loss({"mean": z.mean()})

    def an_early_return(self, views: Views, clock: Clock) -> Loss:
        if clock.step == 0:
            return Loss({"mean": views.read("z").mean()})
        return Loss({"mean": views.read("z").square().mean()})

    def straight(self, views: Views, clock: Clock) -> Loss:
        """Loops, comprehensions, statements of several lines."""
        total = torch.zeros(())
        for view in views.read("z"):
            total = total + view.mean()
        return Loss(
            {
                "mean": total,
                "largest": torch.stack([view.max() for view in views.read("z")]).mean(),
            }
        )


@pytest.mark.parametrize(
    ("name", "missing"),
    [("a_branch", ["z = z[:5]"]), ("an_early_return", ["square"]), ("straight", [])],
)
def test_a_branch_that_a_default_run_does_not_take_is_seen(name: str, missing: list[str]) -> None:
    function = getattr(Branching, name)
    found = unused_lines(function, lambda: function(Branching(), Views(z=random(2, 4, 3).float()), Clock()))
    assert len(found) == len(missing)
    assert all(text in line for text, line in zip(missing, found, strict=True))
