"""Encoded images of a stream in a temporary file, side by side, so that the decoder finds them by path."""

from __future__ import annotations

from collections.abc import Iterable

from eigenview import runfiles
from eigenview.data.pixels.byte_ranges import Piece
from eigenview.data.pixels.cache import cache_folder
from eigenview.errors import UserError


class Spool:
    """A temporary file of encoded images side by side, to be decoded as byte ranges of it. Deleted on close.

    It lies in the cache folder, which is chosen for data; $TMPDIR may be small or missing.
    """

    def __init__(self) -> None:
        place = cache_folder() / "stream"
        try:
            runfiles.delete_leftovers(place)
            self._file = runfiles.open_temporary(place)
        except OSError as error:
            raise _not_spooled(error) from error

    def put(self, images: Iterable[bytes | str | None]) -> list[str]:
        """Paths to decode, one for each image: its bytes, the path of a local file that holds it, or None."""
        try:
            paths = [self._put(image) for image in images]
            self._file.flush()
        except OSError as error:
            raise _not_spooled(error) from error
        return paths

    def _put(self, image: bytes | str | None) -> str:
        if isinstance(image, str):
            return image
        content, start = image or b"", self._file.tell()
        self._file.write(content)
        return Piece(self._file.name, "", start, len(content)).path()

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> Spool:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _not_spooled(error: OSError) -> UserError:
    return UserError(
        f"images of a stream cannot be written to the cache {cache_folder()}: {error.strerror}. "
        "Free space, set EIGENVIEW_CACHE to another folder, or take a smaller buffer=."
    )
