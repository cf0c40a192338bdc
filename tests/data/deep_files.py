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


def write_tiff(
    path: Path,
    pixels: np.ndarray,
    order: str = "<",
    *,
    is_compressed: bool = False,
    in_planes: bool = False,
    is_negative: bool = False,
    at: int = 8,
) -> None:
    """(h, w, c) of any dtype as a TIFF; order: "<" Intel's, ">" Motorola's.

    in_planes: each channel is a strip, otherwise there is one. is_negative: low values are bright (WhiteIsZero). at:
    where the table of tags begins.
    """
    height, width, channels = pixels.shape
    planes = list(np.moveaxis(pixels, -1, 0)) if in_planes else [pixels]
    strips = [plane.astype(pixels.dtype.newbyteorder(order)).tobytes() for plane in planes]
    strips = [zlib.compress(strip) if is_compressed else strip for strip in strips]
    bits, kind = 8 * pixels.dtype.itemsize, {"u": 1, "i": 2, "f": 3}[pixels.dtype.kind]
    # tag -> values of two bytes, or one of four
    tags: dict[int, list[int] | int] = {256: width, 257: height, 258: [bits] * channels}
    tags |= {259: [8 if is_compressed else 1], 262: [0 if is_negative else 2 if channels > 2 else 1]}
    tags |= {273: [0] * len(strips), 277: [channels], 278: height, 279: [len(strip) for strip in strips]}
    tags |= {284: [1 + in_planes]} | ({338: [2]} if channels == 4 else {}) | {339: [kind] * channels}
    place = at + 2 + 12 * len(tags) + 4
    start = place + sum(2 * len(v) for v in tags.values() if isinstance(v, list) and len(v) > 2)
    tags[273] = [start + sum(map(len, strips[:k])) for k in range(len(strips))]
    longer = b"".join(struct.pack(f"{order}{len(v)}H", *v) for v in tags.values() if isinstance(v, list) and len(v) > 2)
    entries, end = b"", place
    for tag, value in tags.items():
        if isinstance(value, int):
            entries += struct.pack(f"{order}HHII", tag, 4, 1, value)
        elif len(value) > 2:
            entries += struct.pack(f"{order}HHII", tag, 3, len(value), end)
            end += 2 * len(value)
        else:
            entries += struct.pack(f"{order}HHI2H", tag, 3, len(value), *value, *[0] * (2 - len(value)))
    head = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HI", 42, at) + bytes(at - 8)
    path.write_bytes(head + struct.pack(f"{order}H", len(tags)) + entries + bytes(4) + longer + b"".join(strips))
