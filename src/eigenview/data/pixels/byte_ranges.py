"""An image inside a larger file, written as a string that can be passed wherever a path of an image is expected.

The string joins its fields with NUL, which no path on disk can contain, so no file name is mistaken for a piece.
"""

from __future__ import annotations

from typing import NamedTuple

from eigenview.data.opening import open_regular

_BETWEEN = "\0"


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
    """The piece that `path` stands for, or None for the path of a file."""
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


def shown(path: str) -> str:
    """`path` as messages show it: file/name for a piece."""
    piece = as_piece(path)
    return path if piece is None else f"{piece.file}/{piece.name}"
