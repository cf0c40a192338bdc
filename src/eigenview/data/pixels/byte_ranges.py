"""An image inside a larger file, written as a string that can be passed wherever a path of an image is expected.

The string joins its fields with NUL, which no path on disk can contain, so no file name is mistaken for a piece.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from eigenview.data.opening import open_regular

_BETWEEN = "\0"
_PAGE = "\0#"
"""Before the number of a page. The fields of a piece that follow its name are numbers, without this sign."""
_TILE = "\0/"
"""Before the numbers of a tile, which is the last part of a path."""


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
    path, _ = split_page(original(path))
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


def tile_path(path: str, tile: int, of: int) -> str:
    """The path that stands for a tile, counted from 0, of the `of` tiles of an image; the image's if it has one."""
    return path if of == 1 else f"{path}{_TILE}{tile}/{of}"


def split_tile(path: str) -> tuple[str, int, int]:
    """The image, the number of its tile and how many it has, that `path` stands for; tile 0 of 1 if it names none."""
    base, mark, numbers = path.rpartition(_TILE)
    tile, _, of = numbers.partition("/")
    is_tile = mark != "" and tile.isdecimal() and of.isdecimal()
    return (base, int(tile), int(of)) if is_tile else (path, 0, 1)


def original(path: str) -> str:
    """The path of the image that `path`, perhaps one of its tiles, stands for."""
    return split_tile(path)[0]


def whole(path: str) -> str:
    """The path of the file or piece that `path`, perhaps a page of it or a tile, stands for."""
    return split_page(original(path))[0]


def files_of_paths(paths: Sequence[str]) -> np.ndarray | None:
    """int64 (N,): the number, from 0, of the file or piece that each path stands for; None where none is a part."""
    if not any(_PAGE in path or _TILE in path for path in paths):
        return None
    number: dict[str, int] = {}
    return np.array([number.setdefault(whole(path), len(number)) for path in paths], np.int64)


def file_shown(path: str) -> str:
    """The file, or file/name for a piece, that `path`, perhaps a page or a tile of it, stands for."""
    piece = as_piece(path)
    return split_page(original(path))[0] if piece is None else f"{piece.file}/{piece.name}"


def shown(path: str) -> str:
    """`path` as messages show it: file/name for a piece, and the numbers of page and tile, counted from 1."""
    image, tile, of = split_tile(path)
    base, page = split_page(image)
    numbers = ("" if base == image else f" page {page + 1}") + ("" if of == 1 else f" tile {tile + 1} of {of}")
    return file_shown(path) + numbers
