"""Configs and cards read from a file's declarations alone are those of the imported module, and need no torch."""

from __future__ import annotations

import ast
import contextlib
import dataclasses
import inspect
import io
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest
import tyro

from eigenview.commands.grouped import field_docs
from eigenview.errors import UserError
from eigenview.methods import METHODS, config_class, module_name
from eigenview.methods.parts import declared
from eigenview.records import MethodConfig

IN_A_CHILD = """
import sys
from eigenview.methods import METHODS, card, declared_config

for name in METHODS:
    assert card(name).name == name, name
    assert declared_config(name)().card is card(name), name
print(sorted(m for m in sys.modules if m.partition(".")[0] in ("torch", "jaxtyping")))
"""
CONFIG = '''
@dataclass(frozen=True, kw_only=True)
class {name}(MethodConfig):
    """Options."""

    card: ClassVar[Card] = Card(name="{name}", title="{name}", paper="none", summary=SUMMARY)
    weight: float = WEIGHT
    """Of the only term."""
'''
HEAD = '''"""A method."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import nowhere_to_be_found
from eigenview.records import Card, MethodConfig

SUMMARY = "of the one term"
WEIGHT = len(SUMMARY) / 3
UNUSED = nowhere_to_be_found.value
'''
Write = Callable[[str, str], str]


def from_source(name: str) -> type[MethodConfig]:
    """The config class of a method from its file's declarations, though its module has been imported."""
    full, kept = module_name(name), sys.modules
    config_class(name)
    module = kept.pop(full)
    try:
        declared.declared.cache_clear()
        return declared.declared(full)
    finally:
        kept[full] = module
        declared.declared.cache_clear()


def field_texts(kind: type[MethodConfig]) -> dict[str, str]:
    """The sentence below each field, inherited ones too, as `field_docs` finds those of one class."""
    texts: dict[str, str] = {}
    for each in reversed(kind.mro()):
        if dataclasses.is_dataclass(each):
            body = ast.parse(textwrap.dedent(inspect.getsource(each))).body[0]
            assert isinstance(body, ast.ClassDef)
            for node, text in zip(body.body, body.body[1:], strict=False):
                if isinstance(node, ast.AnnAssign) and isinstance(text, ast.Expr):
                    texts[ast.unparse(node.target)] = ast.literal_eval(text.value)
    return texts


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Writes a module that can be imported from here; returns its name."""
    monkeypatch.syspath_prepend(tmp_path)

    def file(name: str, text: str) -> str:
        (tmp_path / f"{name}.py").write_text(text, encoding="utf-8")
        return name

    return file


def help_text(config: type) -> str:
    """What tyro prints for --help of this dataclass."""
    with contextlib.redirect_stdout(io.StringIO()) as printed, pytest.raises(SystemExit):
        tyro.cli(config, args=["--help"])
    return printed.getvalue()


@pytest.mark.parametrize("name", METHODS)
def test_declared_and_imported_configs_are_alike(name: str) -> None:
    ours, real = from_source(name), config_class(name)
    assert ours is not real
    assert ours.__name__ == real.__name__
    assert ours.__doc__ == real.__doc__
    for mine, theirs in zip(dataclasses.fields(ours), dataclasses.fields(real), strict=True):
        assert (mine.name, mine.type) == (theirs.name, theirs.type)
        assert mine.default == theirs.default
        assert (mine.default_factory is dataclasses.MISSING) == (theirs.default_factory is dataclasses.MISSING)
    assert field_texts(ours) == field_texts(real)
    assert set(field_texts(ours)) == {f.name for f in dataclasses.fields(real)}
    # what `pretrain --method NAME --help` prints
    assert help_text(ours) == help_text(real)
    assert all(f"--{f.name.replace('_', '-')}" in help_text(real) for f in dataclasses.fields(real))
    assert ours.card == real.card
    assert real.card.name == name
    assert dataclasses.asdict(ours()) == dataclasses.asdict(real())  # its checks run too


def test_all_cards_and_configs_are_read_without_torch() -> None:
    done = subprocess.run([sys.executable, "-c", IN_A_CHILD], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"


def test_only_what_the_config_names_is_executed(write: Write) -> None:
    """Neither an import nor a constant that it does not use: the module itself could not be imported."""
    found = declared.declared(write("scratch_method", HEAD + CONFIG.format(name="Scratch")))
    assert found.card.summary == "of the one term"
    assert found().weight == 5.0  # type: ignore[attr-defined]
    assert field_docs(found) == {"weight": "Of the only term."}
    assert "scratch_method" not in sys.modules


def test_a_module_with_two_config_classes_is_refused(write: Write) -> None:
    text = HEAD + CONFIG.format(name="First") + CONFIG.format(name="Second")
    with pytest.raises(UserError, match=r"two_configs.*2 subclasses of MethodConfig.*one"):
        declared.declared(write("two_configs", text))


def test_a_module_without_config_class_is_refused(write: Write) -> None:
    with pytest.raises(UserError, match=r"no_config.*0 subclasses of MethodConfig.*one"):
        declared.declared(write("no_config", HEAD))


def test_a_config_that_is_only_imported_does_not_count(write: Write) -> None:
    """One class defined here, beside another method's."""
    text = HEAD.replace("import nowhere", "from eigenview.methods.parts.options import DirectConfig\nimport nowhere")
    text += CONFIG.format(name="Own").replace("(MethodConfig)", "(DirectConfig)")
    assert declared.declared(write("own_config", text)).__name__ == "Own"


def test_a_module_that_is_not_there_is_named() -> None:
    for name in ("eigenview.methods.no_such_method", "no_such_package.method"):
        with pytest.raises(UserError, match=f"--method {name}.*can be imported"):
            declared.declared(name)
