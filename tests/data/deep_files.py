"""Files of more than 8 bits that Pillow reads but does not write: 16-bit colour, either order of bytes, compressed."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np

COLOURS = {1: 0, 2: 4, 3: 2, 4: 6}
"""Channels -> colour type of a PNG."""


def write_png(path: Path, pixels: np.ndarray) -> None:
    """uint16 (h, w, c) as a PNG of 16 bits."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    height, width, channels = pixels.shape
    header = struct.pack(">IIBBBBB", width, height, 16, COLOURS[channels], 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    parts = chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))


def write_tiff(path: Path, pixels: np.ndarray, order: str = "<", *, is_compressed: bool = False) -> None:
    """(h, w, c) of any dtype as a TIFF of one strip; order: "<" Intel's, ">" Motorola's."""
    height, width, channels = pixels.shape
    content = pixels.astype(pixels.dtype.newbyteorder(order)).tobytes()
    content = zlib.compress(content) if is_compressed else content
    bits, kind = 8 * pixels.dtype.itemsize, {"u": 1, "i": 2, "f": 3}[pixels.dtype.kind]
    # tag -> values of two bytes, or one of four
    tags: dict[int, list[int] | int] = {256: width, 257: height, 258: [bits] * channels}
    tags |= {259: [8 if is_compressed else 1], 262: [2 if channels > 2 else 1], 273: -1, 277: [channels]}
    tags |= {278: height, 279: len(content)} | ({338: [2]} if channels == 4 else {}) | {339: [kind] * channels}
    place = 8 + 2 + 12 * len(tags) + 4
    longer = b"".join(struct.pack(f"{order}{len(v)}H", *v) for v in tags.values() if isinstance(v, list) and len(v) > 2)
    entries, at = b"", place
    for tag, value in tags.items():
        if isinstance(value, int):
            entries += struct.pack(f"{order}HHII", tag, 4, 1, place + len(longer) if value < 0 else value)
        elif len(value) > 2:
            entries += struct.pack(f"{order}HHII", tag, 3, len(value), at)
            at += 2 * len(value)
        else:
            entries += struct.pack(f"{order}HHI2H", tag, 3, len(value), *value, *[0] * (2 - len(value)))
    head = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HI", 42, 8)
    path.write_bytes(head + struct.pack(f"{order}H", len(tags)) + entries + bytes(4) + longer + content)
