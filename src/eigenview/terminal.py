"""The one place that prints: names as they are, on any terminal, in files, pipes and notebooks.

Nothing else in the package imports rich or calls print (tests/test_terminal.py). What this file takes care of:

* text is never parsed as markup: a folder `[bold]few` is shown under its name; styles are given by `styled`;
* characters that the output's encoding lacks are replaced, as are control characters in names;
* outside a terminal nothing is wrapped or cut at 80 columns, and there are no control codes;
* a reader that has gone (`| head`), or a terminal that was closed, ends the printing, not the work.
"""

from __future__ import annotations

import codecs
import errno
import importlib
import io
import os
import sys
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TextIO, TypeAlias, cast

import rich.console
from rich.file_proxy import FileProxy
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text

REPLACE = "eigenview-replace"
"""Name of the error handler for characters that an encoding lacks."""
SUBSTITUTES = {"·": "-", "±": "+-", "→": "->", "×": "x", "…": "...", "–": "-", "—": "-", "✓": "+", "✔": "+", "✗": "x"}
SUBSTITUTES |= {"’": "'", "‘": "'", "“": '"', "”": '"', "−": "-", "≤": "<=", "≥": ">=", "•": "*", "\u00a0": " "}
UNLIMITED = 100_000
"""Width in columns where there is no terminal: tables have their natural width."""


def _replacement(error: UnicodeError) -> tuple[str | bytes, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(map(_substitute, error.object[error.start : error.end])), error.end


def _substitute(character: str) -> str:
    """ASCII in place of a character: lines, blocks, bytes of a file name that are no text (\\xNN), and ? for others."""
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - 0xDC00:02x}"
    if character in "─━═╌╍┄┅╴╶╸╺╼╾":
        return "-"
    if character in "│┃║╎╏┆┇":
        return "|"
    if 0x2500 <= code <= 0x259F:  # other box drawing, then block elements
        return "#" if code >= 0x2580 else "+"
    return SUBSTITUTES.get(character, "?")


codecs.register_error(REPLACE, _replacement)


def shown(text: str) -> str:
    """`text` without control characters: a file name must not move the cursor or change colours."""
    return "".join(f"\\x{ord(c):02x}" if unicodedata.category(c) == "Cc" and c not in "\n\t" else c for c in text)


class Output(io.TextIOBase):
    """Standard output or standard error as they are at each write, or a given stream; nothing printed can fail."""

    def __init__(self, stream: TextIO | None = None, *, is_error: bool = False) -> None:
        self._given, self._is_error = stream, is_error

    def _stream(self) -> TextIO | None:
        stream = self._given or (sys.stderr if self._is_error else sys.stdout)
        # while a live bar is shown, sys.stdout is a proxy that prints through our console: it would come back here
        return cast(TextIO, stream.rich_proxied_file) if isinstance(stream, FileProxy) else stream

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """That of the stream; UTF-8 if it has none."""
        stream = self._stream()
        return (None if stream is None else stream.encoding) or "utf-8"

    def write(self, text: str) -> int:
        """Write what the stream can encode; nothing once its reader has gone."""
        stream = self._stream()
        if stream is not None:
            with _reader_may_leave(stream):
                stream.write(text.encode(self.encoding, REPLACE).decode(self.encoding))
        return len(text)

    def flush(self) -> None:
        """Flush the stream."""
        stream = self._stream()
        if stream is not None:
            with _reader_may_leave(stream):
                stream.flush()

    def close(self) -> None:
        """The stream is not ours to close."""

    def isatty(self) -> bool:
        """Whether it is a terminal."""
        stream = self._stream()
        return stream is not None and not stream.closed and stream.isatty()

    def fileno(self) -> int:
        """Number of the stream's file."""
        stream = self._stream()
        if stream is None:
            raise io.UnsupportedOperation("fileno")
        return stream.fileno()


@contextmanager
def _reader_may_leave(stream: TextIO) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.EPIPE, errno.EIO):  # EIO: the terminal was closed
            raise
        silence(stream)


def silence(stream: TextIO) -> None:
    """Sends what is still to come to nowhere: nobody is at the other end any more."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, stream.fileno())
    finally:
        os.close(nowhere)


def prepare_streams() -> None:
    """For a process of our own command: what other libraries print is replaced in the same way where it must be."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=REPLACE)


def write(text: str) -> None:
    """One text on standard output, without colours: results that other programs may read."""
    output = Output()
    output.write(shown(text) + "\n")
    output.flush()


def complain(text: str) -> None:
    """One line on standard error; a line break in it is shown as \\n."""
    output = Output(is_error=True)
    output.write(shown(text.replace("\n", "\\n")) + "\n")
    output.flush()


def styled(*parts: str | tuple[str, str]) -> Text:
    """Text of parts: a string as it is, or (string, style) such as ("healthy", "bold green")."""
    return Text.assemble(*(shown(each) if isinstance(each, str) else (shown(each[0]), each[1]) for each in parts))


def table(headings: Sequence[str], rows: Sequence[Sequence[str | Text]], *, title: str | None = None) -> Table:
    """A table without lines: the first column to the left, the others to the right."""
    made = Table(box=None, pad_edge=False, title=None if title is None else styled(title), title_justify="left")
    for place, heading in enumerate(headings):
        made.add_column(styled(heading), justify="right" if place else "left", overflow="fold")
    for row in rows:
        made.add_row(*(styled(each) if isinstance(each, str) else each for each in row))
    return made


RichConsole: TypeAlias = rich.console.Console
"""What a user may give: a console of rich."""


class Console(rich.console.Console):
    """Where text for a person goes: standard output, standard error, or a file."""

    def __init__(
        self,
        *,
        stderr: bool = False,
        file: TextIO | None = None,
        width: int | None = None,
        force_terminal: bool | None = None,
        **options: Any,
    ) -> None:
        output = Output(file, is_error=stderr)
        plain = {"markup": False, "emoji": False, "highlight": False}
        super().__init__(file=cast(TextIO, output), width=width, force_terminal=force_terminal, **plain, **options)
        if width is None and not self.is_terminal and not self.is_jupyter:
            self.width = UNLIMITED

    def print(self, *objects: Any, soft_wrap: bool | None = None, **options: Any) -> None:
        """Print a text on one line, however long, and tables at the width of the terminal; a notebook wraps both."""
        are_text = not self.is_jupyter and all(isinstance(each, str | Text) for each in objects)
        cleaned = [styled(each) if isinstance(each, str) else each for each in objects]
        super().print(*cleaned, soft_wrap=are_text if soft_wrap is None else soft_wrap, **options)

    @contextmanager
    def waiting(self, text: str) -> Iterator[Callable[[str], None]]:
        """Shows in a terminal what is being waited for; gives a function that changes the text."""
        if not self.is_terminal:
            yield lambda text: None
            return
        spinner = "dots" if self.encoding.startswith("utf") else "line"
        with self.status(styled(text), spinner=spinner) as status:
            yield lambda text: status.update(styled(text))


def console_for(console: RichConsole | None) -> Console:
    """Our console for the one that a user gave: it writes to the same file, as wide. None: standard output."""
    if isinstance(console, Console):
        return console
    if console is None:
        return Console()
    return Console(file=console.file, width=console.width, force_terminal=console.is_terminal, quiet=console.quiet)  # type: ignore[arg-type]


class Line:
    """Texts one after another: in a notebook each takes the place of the one before, elsewhere each is a line."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._display: Any = None

    def show(self, text: str) -> None:
        """Print the text, or put it in the place of the last one."""
        if not self._console.is_jupyter:
            self._console.print(text)
        elif self._display is None:
            display = importlib.import_module("IPython.display").display  # there is one wherever a notebook runs
            self._display = display({"text/plain": shown(text)}, raw=True, display_id=True)
        else:
            self._display.update({"text/plain": shown(text)}, raw=True)


class Bar:
    """One live line in a terminal: a text, a bar, a text; and a line of text below it."""

    def __init__(self, console: Console, *, transient: bool) -> None:
        columns = (TextColumn("{task.description}", markup=False), BarColumn())
        self._bar = Progress(
            *columns,
            TextColumn("{task.fields[after]}", markup=False),
            console=console,
            refresh_per_second=4,
            transient=transient,
        )
        self._task = self._bar.add_task("", total=1, after="")

    @property
    def is_started(self) -> bool:
        """Whether it is on the screen."""
        return self._bar.live.is_started

    def start(self) -> None:
        """Show it."""
        self._bar.start()

    def update(self, before: str, share: float, after: str) -> None:
        """Change its texts and the share that is done, between 0 and 1."""
        self._bar.update(self._task, description=shown(before), completed=share, after=shown(after))

    def stop(self) -> None:
        """Take it away; a bar that never appeared would print an empty line into a redirected output."""
        if self.is_started:
            self._bar.stop()
