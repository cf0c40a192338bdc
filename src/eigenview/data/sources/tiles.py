"""--fit for a set: what it does to its images, in a sentence, and images that are cut into several tiles."""

from __future__ import annotations

import dataclasses

import numpy as np

from eigenview.config.fit import Fit, parse_fit
from eigenview.data.pixels.byte_ranges import tile_path
from eigenview.data.pixels.headers import LONG, SHORT
from eigenview.data.pixels.parallel import Rows
from eigenview.data.sources.folder import Part
from eigenview.errors import UserError


def cut(part: Part, headers: Rows, fit: Fit) -> tuple[Part, Rows, tuple[str, ...]]:
    """The tiles of all images of `part`, with the headers of each tile's image, and a note.

    Labels are those of the image. A tile has the name of its image, so that the cache tells tiles and images apart.
    """
    rows, broken = headers
    counts = np.array([fit.squares_of(short, long) for short, long in rows[:, [SHORT, LONG]]], np.int64)
    index = np.repeat(np.arange(len(rows)), counts)
    starts = np.cumsum(counts) - counts
    numbers = np.arange(len(index)) - np.repeat(starts, counts)
    paths = part.paths()
    pieces = tuple(
        tile_path(paths[i], int(tile), int(counts[i])) for i, tile in zip(index.tolist(), numbers, strict=True)
    )
    tiles = part.take(index)
    files = tuple(file._replace(name=f"{file.name}\0{k}") for file, k in zip(tiles.files, numbers, strict=True))
    tiles = dataclasses.replace(tiles, files=files, pieces=pieces, pages=(), what=f"{part.what} {fit.kind}:{fit.tiles}")
    readable = len(rows) - len(broken)
    are_cut = f"{readable:,} image{'s are' if readable > 1 else ' is'} cut"
    note = f"{are_cut} into {len(index) - len(broken):,} tiles, up to {fit.tiles} of one image"
    notes = (note,) if len(index) > len(rows) else ()
    return tiles, (rows[index], {int(starts[i]): reason for i, reason in broken.items()}), notes


def fit_notes(rows: np.ndarray, fit: str) -> tuple[str, ...]:
    """What --fit does to images with these headers (`headers`), a sentence; nothing where all are square, or tiles."""
    sides = rows[rows[:, SHORT] > 0][:, [SHORT, LONG]]
    other = int((sides[:, 0] < sides[:, 1]).sum())
    kind = parse_fit(fit).kind
    if not other or kind == "tiles":
        return ()
    some = f"{other:,} of {len(sides):,} images are not square"
    if kind == "pad":
        return (f"{some} and are padded with the median colour of their border",)
    if kind == "squash":
        return (f"{some} and are squashed to squares",)
    halved = (2 * sides[:, 0] < sides[:, 1]).mean()
    lose = f"{100 * halved:.2g} % lose more than half of their area" if halved else "none loses more than half"
    return (f"{some}, of which the centred square is used: {lose} (--fit pad, squash or tiles:N use the rest)",)


def refuse_tiles(fit: str, what: str) -> None:
    """Raises UserError for --fit tiles:N with images that cannot be cut."""
    if parse_fit(fit).kind == "tiles":
        raise UserError(
            f"--fit {fit} cuts image files, and {what} (an encoder has the --fit of its training). Give a folder of "
            "image files, or a pack of one; pretrain and pack also take these images with --fit pad or squash."
        )
