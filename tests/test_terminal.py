"""What is printed: names as they are, on any terminal, in files and pipes, from one place only."""

from __future__ import annotations

import ast
import io
import os
import subprocess
import sys
import types
from pathlib import Path

import pytest
import rich.console

from eigenview.config import ProbeConfig
from eigenview.probes.table import show_probes
from eigenview.progress import counting
from eigenview.terminal import REPLACE, Bar, Console, Line, complain, console_for, styled, table, write
from tests.test_imports import FILES, SOURCE, imported

MARKUP = "[bold]few[/red] :smile: [link=x]"
HARD = "a · b ± c 图片 → ━━│╭ é [bold]x[/red]"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_only_one_file_prints(path: Path) -> None:
    if path.name == "terminal.py":
        return
    assert not [name for name in imported(path) if name.split(".")[0] == "rich"], "import it from eigenview.terminal"
    calls = [node.func for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
    assert not [c for c in calls if isinstance(c, ast.Name) and c.id == "print"], "use terminal.write or a Console"
    assert not [c for c in calls if isinstance(c, ast.Attribute) and c.attr in ("status", "rule")], "use waiting()"


def stream(encoding: str) -> io.TextIOWrapper:
    return io.TextIOWrapper(io.BytesIO(), encoding=encoding)


def written(out: io.TextIOWrapper) -> str:
    out.flush()
    assert isinstance(out.buffer, io.BytesIO)
    return out.buffer.getvalue().decode(out.encoding)


@pytest.mark.parametrize("terminal", [True, False])
def test_names_are_printed_as_they_are(*, terminal: bool) -> None:
    out = io.StringIO()
    console = Console(file=out, width=200, force_terminal=terminal, color_system=None)
    console.print(MARKUP)
    console.print(styled("of ", (MARKUP, "bold")))
    console.print(table(["name", MARKUP], [[MARKUP, "1"]], title=MARKUP))
    assert out.getvalue().count(MARKUP) == 5


def test_class_names_in_the_table_of_probes_are_no_markup() -> None:
    out = io.StringIO()
    row = {"features": "this encoder", "knn": 50.0, "linear_few": 40.0, "linear_few_std": 1.0}
    found = {
        "columns": ["knn", "linear_few"],
        "rows": [row],
        "protocols": {"knn": "k", "linear_few": "l"},
        "per_class": False,
    }
    show_probes(found | {"note": f"class '{MARKUP}' has 1"}, Console(file=out))
    assert f"class '{MARKUP}' has 1" in out.getvalue()
    assert "40.0 ± 1.0" in out.getvalue()
    assert ProbeConfig().knn_k == 20


@pytest.mark.parametrize(
    ("encoding", "shown"),
    [("ascii", "a - b +- c ?? -> --|+ ? [bold]x[/red]"), ("latin-1", "a · b ± c ?? -> --|+ é [bold]x[/red]")],
)
def test_characters_that_the_encoding_lacks_are_replaced(encoding: str, shown: str) -> None:
    out = stream(encoding)
    Console(file=out).print(HARD)
    assert written(out) == shown + "\n"


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_bars_and_tables_can_be_printed_on_any_terminal(encoding: str) -> None:
    out = stream(encoding)
    console = Console(file=out, force_terminal=True, width=40)
    with console.waiting(f"opening {HARD}"), counting(console, HARD) as update:
        update(1, 3)
    bar = Bar(console, transient=False)
    bar.start()
    bar.update(HARD, 0.5, f"3 min 59 s left\n{HARD}")
    bar.stop()
    console.print(table(["name", "value"], [[HARD * 3, "1 ± 2"]]))
    assert "59 s left" in written(out)


def test_bytes_that_are_no_text_and_control_characters_are_shown_as_codes() -> None:
    out = stream("utf-8")
    Console(file=out).print("a\udcffb \x1b[31mred\r")
    assert written(out) == "a\\xffb \\x1b[31mred\\x0d\n"


def test_outside_a_terminal_nothing_is_cut_and_there_are_no_control_codes() -> None:
    out = io.StringIO()
    console = Console(file=out)
    console.print(styled(("word " * 100, "bold red")))
    console.print(table(["name", *"abcdef"], [["x" * 90, *(("123456789",) * 6)]]))
    with console.waiting("loading"):
        pass
    lines = out.getvalue().splitlines()
    assert len(lines) == 3
    assert "\x1b" not in out.getvalue()
    assert lines[2].startswith("x" * 90 + "  123456789")


def test_errors_are_one_line_and_results_are_unchanged(capsys: pytest.CaptureFixture[str]) -> None:
    write('{"a": "[bold]"}\n  x')
    complain("--method a\nb")
    assert capsys.readouterr() == ('{"a": "[bold]"}\n  x\n', "--method a\\nb\n")


def test_without_an_output_nothing_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    console = Console()
    console.print(HARD)
    write(HARD)


def test_a_console_of_rich_is_accepted() -> None:
    out = stream("ascii")
    theirs = rich.console.Console(file=out, width=77)
    ours = console_for(theirs)
    ours.print(MARKUP + " ·")
    assert (written(out), ours.width) == (MARKUP + " -\n", 77)
    assert console_for(ours) is ours


def test_a_reader_that_leaves_ends_the_printing_and_not_the_work() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as out:
        console = Console(file=out)
        for _ in range(3):
            console.print("x" * 10_000)


def test_a_line_of_a_notebook_is_rewritten_in_place(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[str, str]] = []

    class Handle:
        def update(self, data: dict[str, str], *, raw: bool) -> None:
            seen.append(("update", data["text/plain"]))

    def display(data: dict[str, str], *, raw: bool, display_id: bool) -> Handle:
        seen.append(("display", data["text/plain"]))
        return Handle()

    module = types.ModuleType("IPython.display")
    module.display = display  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "IPython.display", module)
    line = Line(Console(force_jupyter=True))
    for text in ("epoch 1", "epoch \x1b2", "epoch 3"):
        line.show(text)
    assert seen == [("display", "epoch 1"), ("update", "epoch \\x1b2"), ("update", "epoch 3")]
    out = io.StringIO()
    line = Line(Console(file=out))
    for text in ("epoch 1", "epoch 2"):
        line.show(text)
    assert out.getvalue() == "epoch 1\nepoch 2\n"


@pytest.mark.slow
@pytest.mark.parametrize("args", [["list", "methods"], ["pretrain", "--help"], ["pretrian ·图"]])
def test_the_command_under_ascii_and_into_a_closed_pipe(args: list[str]) -> None:
    env = os.environ | {"PYTHONIOENCODING": "ascii"}
    command = [sys.executable, "-m", "eigenview", *args]
    done = subprocess.run(command, env=env, capture_output=True, check=False)
    assert done.returncode == (2 if "·" in args[0] else 0)
    assert b"Traceback" not in done.stderr
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(command, env=env, stdout=writing, stderr=subprocess.PIPE, check=False)
    os.close(writing)
    assert b"BrokenPipe" not in done.stderr
    assert done.returncode == (2 if "·" in args[0] else 0)


def test_the_handler_refuses_what_it_cannot_mend() -> None:
    with pytest.raises(UnicodeDecodeError):
        b"\xff".decode("utf-8", REPLACE)
