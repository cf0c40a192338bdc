"""By what images are known again in another run, wherever their files lie and however their pixels are read."""

from __future__ import annotations

import os
from hashlib import blake2b

from eigenview.data.images import ImageSet, evenly_spaced
from eigenview.data.opening import open_regular
from eigenview.data.pixels.byte_ranges import as_piece, whole

LOOKED_INTO, BEGINNING = 200, 1 << 16
"""Files of which the content counts; bytes of the beginning of each."""


def identities(images: ImageSet) -> list[str]:
    """A text for each image, from which `runfiles.images_hash` is computed; [] for images that come from no files.

    It has the last two parts of the file's path, the size of the file in bytes, and which page and tile of the file the
    image is; for 200 files spread over the set also a hash of their first 64 kB, since files without compression are
    often as large as each other. For a file inside a larger one (shards, packs) name, size and bytes are those inside.
    Times and other folders do not count, so that a copy is the same; nor does how pixels are made, but for tiles. A
    file that cannot be read any more counts as empty.
    """
    wholes = [whole(path) for path in images.paths]
    files = list(dict.fromkeys(wholes))
    contents = {files[row]: _content(files[row]) for row in evenly_spaced(len(files), LOOKED_INTO)}
    known = {file: f"{_name_and_size(file)}\0{contents.get(file, '')}" for file in files}
    return [known[file] + path[len(file) :] for file, path in zip(wholes, images.paths, strict=True)]


def _name_and_size(file: str) -> str:
    piece = as_piece(file)
    path = file if piece is None else f"{piece.file}/{piece.name}"
    return f"{'/'.join(path.rsplit('/', 2)[-2:])}\0{_size(file) if piece is None else piece.bytes}"


def _size(file: str) -> int:
    try:
        return os.stat(file).st_size
    except OSError:
        return 0


def _content(file: str) -> str:
    piece = as_piece(file)
    name, offset, count = (file, 0, BEGINNING) if piece is None else (piece.file, piece.offset, piece.bytes)
    try:
        with open_regular(name) as opened:
            opened.seek(offset)
            return blake2b(opened.read(min(count, BEGINNING)), digest_size=16).hexdigest()
    except OSError:
        return ""
