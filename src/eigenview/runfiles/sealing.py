"""A checksum inside a zip archive, such as a checkpoint of torch: SHA-256 of all other bytes, as the archive's comment.

Zip readers skip the comment, so a sealed archive is read by anything that reads the archive without it.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

_MARK = b"eigenview sha256 "
_COMMENT = len(_MARK) + 64
_BLOCK = 1 << 20


class _Sealer(io.RawIOBase):
    """Passes bytes on, all but the last two, which hold the length of an archive's comment."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file, self.digest, self.kept = file, hashlib.sha256(), b""

    def writable(self) -> bool:
        return True

    def write(self, content: bytes | bytearray | memoryview, /) -> int:  # type: ignore[override]
        block = memoryview(content).cast("B")
        if len(block) >= 2:
            for part in (self.kept, block[:-2]):
                self._pass_on(part)
            self.kept = bytes(block[-2:])
        else:
            joined = self.kept + bytes(block)
            self._pass_on(joined[:-2])
            self.kept = joined[-2:]
        return len(block)

    def _pass_on(self, part: bytes | memoryview) -> None:
        self.digest.update(part)
        self.file.write(part)

    def seal(self) -> None:
        if self.kept != b"\0\0":
            raise ValueError("only a zip archive without a comment can be sealed")
        self._pass_on(_COMMENT.to_bytes(2, "little") + _MARK)
        self.file.write(self.digest.hexdigest().encode())


@contextmanager
def sealed(file: IO[bytes]) -> Iterator[IO[bytes]]:
    """A file to write a zip archive into, from its first byte to its last; its checksum is added after the block."""
    sealer = _Sealer(file)
    yield sealer  # type: ignore[misc]
    sealer.seal()


def is_intact(file: IO[bytes]) -> bool | None:
    """Whether the checksum in a sealed archive fits its bytes; None if there is none. Reads the whole file."""
    size = file.seek(0, io.SEEK_END)
    if size < _COMMENT:
        return None
    file.seek(size - _COMMENT)
    comment = file.read(_COMMENT)
    if not comment.startswith(_MARK):
        return None
    file.seek(0)
    digest, left = hashlib.sha256(), size - 64
    while left > 0:
        block = file.read(min(_BLOCK, left))
        if not block:
            return False
        digest.update(block)
        left -= len(block)
    return digest.hexdigest().encode() == comment[len(_MARK) :]
