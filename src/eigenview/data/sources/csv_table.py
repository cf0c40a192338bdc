"""A CSV file with a row for each image: which column is the path, the label and the split.

The first row names the columns if one of its cells is a name for the path (PATH); otherwise every row is an image, with
the columns path[, label[, split]] in this order. Text is UTF-8, with or without a byte order mark. Columns are
separated by the first of `,` `;` and the tab character that the first line has; fields may be quoted. Empty lines are
ignored.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from eigenview.data.images import printable
from eigenview.data.opening import not_allowed, read_regular, why
from eigenview.errors import UserError

PATH, LABEL, SPLIT = ("path", "filename", "file", "image"), ("label", "class"), ("split",)
"""Names of the columns, in any letter case; of several the first one counts."""


class Row(NamedTuple):
    """An image: the number of its line, and its cells, empty where the row or the table has none."""

    line: int
    path: str
    label: str
    split: str


@dataclass(frozen=True, kw_only=True)
class CsvTable:
    """The rows of a CSV file. Its paths are not empty."""

    path: Path
    content: bytes
    rows: tuple[Row, ...]
    header: tuple[str, ...]
    """The names of its columns; () where the first row is an image."""
    has_label: bool
    has_split: bool


def read_table(path: Path) -> CsvTable:
    """The rows of `path`.

    Raises: UserError for a file that cannot be read or is no CSV text, has no row, has other columns without naming
    one path, or has rows without a path.
    """
    content = _content(path)
    text = _text(path, content)
    first = text.partition("\n")[0]
    separator = next((each for each in ",;\t" if each in first), ",")
    lines = list(_lines(path, text, separator))
    header = tuple(cell.strip() for cell in lines[0][1]) if lines else ()
    names = [name.lower() for name in header]
    if not set(names) & set(PATH):
        header, names = (), _without_header(path, lines[0][1]) if lines else []
    columns = [next((names.index(name) for name in known if name in names), None) for known in (PATH, LABEL, SPLIT)]
    rows = tuple(Row(number, *_cells(cells, columns)) for number, cells in lines[bool(header) :])
    if not rows:
        raise UserError(f"{path} has no row; give a row for each image, with its path.")
    refuse_rows(path, rows, [row for row in rows if not row.path.strip()], "no path")
    is_there = [at is not None for at in columns]
    return CsvTable(path=path, content=content, rows=rows, header=header, has_label=is_there[1], has_split=is_there[2])


def read_lines(path: Path) -> tuple[Row, ...]:
    """The lines of a text file that are not empty, as paths. Raises UserError where there is none, or no text."""
    lines = io.StringIO(_text(path, _content(path)))
    rows = tuple(Row(number, line.strip(), "", "") for number, line in enumerate(lines, start=1) if line.strip())
    if not rows:
        raise UserError(f"{path} is empty; a list has the path of an image or of a folder in each line.")
    return rows


def refuse_rows(path: Path, rows: Sequence[Row], wrong: Sequence[Row], problem: str, advice: str = "") -> None:
    """Raises UserError if any row is wrong, with their number and the line of the first."""
    if wrong:
        raise UserError(
            f"{path}: {len(wrong):,} of {len(rows):,} rows {'has' if len(wrong) == 1 else 'have'} {problem}, the first "
            f"in line {wrong[0].line:,}. Complete or remove {'it' if len(wrong) == 1 else 'them'}{advice}."
        )


def _content(path: Path) -> bytes:
    try:
        return read_regular(path)
    except PermissionError as error:
        raise not_allowed(path) from error
    except OSError as error:
        raise UserError(f"{path} cannot be read: {why(error)}.") from error


def _text(path: Path, content: bytes) -> str:
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        text, place = "", f"byte {error.start:,} is 0x{content[error.start]:02x}"
    else:
        place = "it holds zero bytes" if "\0" in text else ""
    if place:
        raise UserError(f"{path} is no text in UTF-8 ({place}); save it as text or CSV in UTF-8.")
    return text


def _lines(path: Path, text: str, separator: str) -> Iterator[tuple[int, list[str]]]:
    """The line number and the cells of each row that is not empty."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, skipinitialspace=True, strict=True)
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells):
                yield reader.line_num, cells
    except csv.Error as error:
        raise UserError(f"{path}, line {reader.line_num:,}: {error}. Save it again as CSV.") from error


def _without_header(path: Path, first: Sequence[str]) -> list[str]:
    if len(first) > 3:
        raise UserError(
            f"{path}: its first row has {len(first)} columns ({printable(', '.join(first))[:80]}) and names none of "
            "them path; without names the columns are path, label and split. Name the columns in the first row."
        )
    return [PATH[0], LABEL[0], SPLIT[0]][: len(first)]


def _cells(cells: Sequence[str], columns: Sequence[int | None]) -> tuple[str, str, str]:
    path, label, split = ("" if at is None or at >= len(cells) else cells[at] for at in columns)
    return path, label.strip(), split.strip().lower()
