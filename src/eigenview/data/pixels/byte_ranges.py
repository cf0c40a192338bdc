"""An image inside a larger file, written as a string that can be passed wherever a path of an image is expected.

The string joins its fields with NUL, which no path on disk can contain, so no file name is mistaken for a piece.
"""

from __future__ import annotations

from typing import NamedTuple

from eigenview.data.opening import open_regular

_BETWEEN = "\0"
_PAGE = "\0#"
"""Before the number of a page. The fields of a piece that follow its name are numbers, without this sign."""


class Piece(NamedTuple):
    """Bytes of `file`: an encoded image, or the pixels uint8 (3, side, side) themselves where `side` is not 0."""

    file: str
    name: str
    """What messages call the image inside the file."""
    offset: int
    bytes: int
    side: int = 0

    def path(self) -> str:
        """The piece as a string, in place of a path."""
        return _BETWEEN.join(map(str, self))


def as_piece(path: str) -> Piece | None:
    """The piece that `path`, or the path of a page, stands for; None for the path of a file."""
    path, _ = split_page(path)
    if _BETWEEN not in path:
        return None
    file, name, *numbers = path.split(_BETWEEN)
    return Piece(file, name, *map(int, numbers))


def read_piece(piece: Piece) -> bytes:
    """The bytes of `piece`. Raises OSError if the file is missing or too short."""
    with open_regular(piece.file) as file:
        file.seek(piece.offset)
        content = file.read(piece.bytes)
    if len(content) < piece.bytes:
        raise OSError(f"{piece.file} ends before it")
    return content


def page_path(path: str, page: int) -> str:
    """The path that stands for a page, counted from 0, of the file or piece `path`."""
    return f"{path}{_PAGE}{page}"


def split_page(path: str) -> tuple[str, int]:
    """The file or piece, and the page of it, that `path` stands for; page 0 if it names none."""
    base, mark, page = path.rpartition(_PAGE)
    return (base, int(page)) if mark and page.isdecimal() else (path, 0)


def shown(path: str) -> str:
    """`path` as messages show it: file/name for a piece, and the number of a page, counted from 1."""
    base, page = split_page(path)
    piece = as_piece(base)
    text = base if piece is None else f"{piece.file}/{piece.name}"
    return text if base == path else f"{text} page {page + 1}"
