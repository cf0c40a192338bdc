"""How files are read: checked as a whole before anything in them is used. Every failure is one line naming the file."""

from __future__ import annotations

import csv
import io
import json
import re
import tokenize
import zipfile
import zlib
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from eigenview.errors import UserError
from eigenview.runfiles.opening import open_regular, read_regular
from eigenview.runfiles.schema import Kind, misfit
from eigenview.runfiles.writing import CHECKSUM, checksum

MOST_DEPTH = 32  # objects and lists in each other
MOST_DIGITS = 20  # of a whole number; the largest seed has 19
ARRAY_ERRORS = (ValueError, EOFError, KeyError, TypeError, AttributeError, zipfile.BadZipFile, zlib.error)
ARRAY_ERRORS += (tokenize.TokenError, SyntaxError, MemoryError, OverflowError, NotImplementedError, RuntimeError)
"""What NumPy and zipfile raise for damaged archives, besides OSError."""
_SEALED = re.compile(rb'"([^"]{8})": "([0-9a-f]{8})"\}$')


def damaged(path: Path, reason: object, advice: str = "") -> UserError:
    """The error of a file whose content is not what it should be: one line, however long the reason."""
    lines = str(reason).strip().splitlines() or [type(reason).__name__]
    return UserError(f"{path} is damaged: {lines[0][:200].rstrip('.')}." + (f" {advice}" if advice else ""))


def file_bytes(path: Path) -> bytes:
    """The content of a file. Raises UserError naming it if it is missing or cannot be read."""
    try:
        return read_regular(path)
    except FileNotFoundError:
        raise UserError(f"{path} is missing: {path.parent} is not a finished eigenview run.") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}.") from error


def parse_json(content: bytes) -> Any:
    """A JSON value of limited depth, with numbers that Python and NumPy can hold.

    Raises: ValueError with a reason in one line, for anything else.
    """
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"byte {error.start + 1} is not UTF-8 text") from None
    try:
        value = json.loads(text, parse_int=_integer, parse_float=_number, parse_constant=_no_number)
    except RecursionError:
        raise ValueError(f"its values are nested deeper than {MOST_DEPTH}") from None
    if _depth(value) > MOST_DEPTH:
        raise ValueError(f"its values are nested deeper than {MOST_DEPTH}")
    return value


def _integer(text: str) -> int:
    if len(text) > MOST_DIGITS:
        raise ValueError(f"it has a whole number of {len(text)} digits; the longest allowed has {MOST_DIGITS}")
    return int(text)


def _number(text: str) -> float:
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise ValueError(f"the number {text[:40]} is too large")
    return value


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is no number in JSON; a missing one is null")


def _depth(value: Any) -> int:
    depth, level = 0, [value]
    while level := [each for each in level if isinstance(each, dict | list)]:
        depth += 1
        level = [each for outer in level for each in (outer.values() if isinstance(outer, dict) else outer)]
    return depth


def read_json(path: Path) -> Any:
    """A JSON file; a missing or damaged one, or one whose checksum differs, is an error naming it.

    The checksum of a file that has one is compared and left out. Files of earlier versions have none.
    """
    try:
        value = parse_json(file_bytes(path))
    except UserError:
        raise
    except ValueError as error:
        raise damaged(path, error) from None
    if not isinstance(value, dict) or not value:
        return value
    name = CHECKSUM if CHECKSUM in value else next(reversed(value))
    rest = {each: inner for each, inner in value.items() if each != name}
    fits = value[name] == checksum(rest)
    if name == CHECKSUM and fits:
        return rest
    if name == CHECKSUM or fits:  # it fits under another name: that is what is damaged
        advice = f'If it was changed on purpose, delete "{CHECKSUM}" from it.'
        raise damaged(path, "its content does not fit the checksum in it", advice)
    return value


def read_object(path: Path, kind: Kind) -> dict[str, Any]:
    """A JSON file with an object of this kind. Raises UserError naming the file and the first field that differs."""
    value = read_json(path)
    found = misfit(value, kind)
    if found is not None or not isinstance(value, dict):
        raise damaged(path, found)
    return value


def read_rows(path: Path, kind: Kind | None = None) -> list[dict[str, Any]]:
    """All rows of a .jsonl file, each of this kind; a missing file has none.

    A last line that a kill cut off is left out. Raises UserError naming the first other line that is damaged.
    """
    if not path.exists():
        return []
    *lines, rest = file_bytes(path).split(b"\n")
    if rest and not _is_cut(rest):
        lines.append(rest)
    rows: list[dict[str, Any]] = []
    for place, line in enumerate(lines, start=1):
        try:
            rows.append(_row(line, kind))
        except ValueError as error:
            advice = f"Delete that line to go on without it, or restore the file, {path.name}, from a copy."
            raise damaged(path, f"line {place}: {error}", advice) from None
    return rows


def _is_cut(line: bytes) -> bool:
    """Whether an unfinished last line is the beginning of a row, and not a whole row or no row at all."""
    line = line.rstrip(b"\0")  # where the file system had no time to write
    if not line.isascii() or line[:1] not in (b"", b"{"):
        return False
    try:
        json.JSONDecoder(parse_int=len).raw_decode(line.decode())
    except RecursionError:
        return False
    except ValueError:
        return True
    return False


def _row(line: bytes, kind: Kind | None) -> dict[str, Any]:
    row = parse_json(line)
    if not isinstance(row, dict):
        raise ValueError(f"it is a {type(row).__name__}, not an object with named fields")
    sealed = _SEALED.search(line)
    if sealed is not None:
        has_name, fits = sealed[1] == CHECKSUM.encode(), zlib.crc32(line[: sealed.start()]) == int(sealed[2], 16)
        if has_name != fits:  # one of content, checksum and its name is damaged
            raise ValueError("its content does not fit the checksum in it")
        if has_name:
            del row[CHECKSUM]
    found = None if kind is None else misfit(row, kind)
    if found is not None:
        raise ValueError(found)
    return row


def read_arrays(path: Path, *, most_bytes: float = 4e9) -> dict[str, np.ndarray]:
    """The arrays of a .npz, never unpickling; empty for a missing file.

    Raises: UserError naming the file if it is damaged, or would take more than `most_bytes` of memory.
    """
    if not path.exists():
        return {}
    try:
        # opened here, since NumPy leaves the file open when the archive in it is damaged
        with open_regular(path) as file, zipfile.ZipFile(file) as archive:
            total = sum(member.file_size for member in archive.infolist())
            if total > most_bytes:
                raise ValueError(f"its arrays take {total / 1e9:.1f} GB; at most {most_bytes / 1e9:g} GB are read")
            file.seek(0)
            with np.load(file, allow_pickle=False) as arrays:
                found = {name: arrays[name] for name in arrays.files}
    except OSError as error:
        if error.strerror is None:
            raise damaged(path, error) from None
        raise UserError(f"{path} cannot be read: {error.strerror}.") from error
    except ARRAY_ERRORS as error:
        raise damaged(path, error) from None
    if not all(isinstance(each, np.ndarray) for each in found.values()):
        raise damaged(path, "it holds something other than arrays")
    return found


def read_table(path: Path) -> dict[str, str]:
    """A CSV file of two columns as {first: second}, without its header; other rows and what is no UTF-8 text are left
    out. Raises UserError naming the file if it is no CSV file."""
    text = file_bytes(path).decode(errors="replace").replace("\0", "\N{REPLACEMENT CHARACTER}")
    try:
        return {row[0]: row[1] for row in list(csv.reader(io.StringIO(text, newline="")))[1:] if len(row) == 2}
    except csv.Error as error:
        raise damaged(path, error, "Delete it: it only lists images that could not be read.") from None
