"""A sheet of originals and their views, a row for each image, as one PNG or one HTML file."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

import eigenview
from eigenview import runfiles
from eigenview.data.pixels.pictures import as_pictures, default_channels
from eigenview.report.templates import page_templates

CELL = 128
"""Side in pixels to which small pictures are enlarged, by a whole factor."""
LARGEST = 256
"""Side in pixels to which large pictures are reduced."""
GAP, TITLE = 8, 22
PAPER, INK = (250, 250, 248), (26, 31, 36)


@dataclass(frozen=True)
class Column:
    """One column of the sheet: its title, what was done to the images, and the pictures, uint8 (n, C, h, w)."""

    title: str
    text: str
    pictures: np.ndarray


def write_sheet(out: Path, columns: Sequence[Column], *, command: str) -> None:
    """Write the sheet atomically, as the suffix of `out` says: .html, or .png.

    `command`: what made it, shown on the page.

    Raises: UserError if the file cannot be written.
    """
    if out.suffix.lower() == ".html":
        runfiles.write_bytes(out, _page(columns, command).encode())
    else:
        runfiles.write_bytes(out, _png(sheet(columns)))


def sheet(columns: Sequence[Column]) -> Image.Image:
    """The columns beside one another below their titles, pictures in the middle of cells of one size."""
    side = _factor_side(columns)
    rows = len(columns[0].pictures)
    made = Image.new("RGB", (GAP + len(columns) * (side + GAP), TITLE + rows * (side + GAP)), PAPER)
    draw, font = ImageDraw.Draw(made), ImageFont.load_default()
    for c, column in enumerate(columns):
        left = GAP + c * (side + GAP)
        draw.text((left, GAP // 2), column.title, fill=INK, font=font)
        for r, each in enumerate(column.pictures):
            picture = _scaled(each, columns)
            margin = ((side - picture.width) // 2, (side - picture.height) // 2)
            made.paste(picture, (left + margin[0], TITLE + r * (side + GAP) + margin[1]))
    return made


def as_rgb(picture: np.ndarray) -> np.ndarray:
    """uint8 (C, h, w) as RGB (h, w, 3), the channels that a report shows too."""
    return np.ascontiguousarray(as_pictures(picture, default_channels(len(picture))).transpose(1, 2, 0))


def _factor_side(columns: Sequence[Column]) -> int:
    """Side of a cell: that of a view, which is the second column, on the sheet."""
    return _scaled(columns[1].pictures[0], columns).width


def _scaled(picture: np.ndarray, columns: Sequence[Column]) -> Image.Image:
    """A picture on the sheet. Views and local crops keep their proportion; the original has a view's side."""
    view, image = columns[1].pictures.shape[-1], Image.fromarray(as_rgb(picture))
    factor = max(1, CELL // view) if view < LARGEST else LARGEST / view
    side = round(factor * min(image.width, view))
    if side % image.width == 0:
        return image.resize((side, side), Image.Resampling.NEAREST)  # pixels stay squares
    return image.resize((side, side), Image.Resampling.LANCZOS)


def _png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return buffer.getvalue()


def _page(columns: Sequence[Column], command: str) -> str:
    environment = page_templates()
    rows = [
        [
            (f"image {r + 1}, {c.title}", f"data:image/png;base64,{base64.b64encode(_png(picture)).decode()}", side)
            for c in columns
            for picture in [_scaled(c.pictures[r], columns)]
            for side in [picture.width]
        ]
        for r in range(len(columns[0].pictures))
    ]
    return environment.get_template("preview.html").render(
        version=eigenview.__version__, columns=columns, rows=rows, command=command
    )
