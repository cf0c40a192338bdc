"""Images of gallery.npz as PNG data URIs, each with an alternative text."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from eigenview.data.pixels import pictures
from eigenview.data.pixels.pictures import MOST_KEPT, as_pictures, default_channels
from eigenview.errors import require
from eigenview.report.read import RunRecord

MAX_SIDE = 128
"""Larger images are reduced to this side, twice the size on the page, to keep the file small."""
MAX_ROWS = 12
"""Rows of each gallery on the page."""


@dataclass(frozen=True)
class Picture:
    """One image on the page: `text` is shown below it; `mark` is same, other, or empty if labels are unknown."""

    uri: str
    alt: str
    text: str = ""
    mark: str = ""
    is_small: bool = False


@dataclass(frozen=True)
class ImageRow:
    """An image, and the images it is compared with."""

    first: Picture
    others: list[Picture]


def data_uri(image: np.ndarray) -> str:
    """A uint8 image (3, height, width) as a PNG data URI, reduced to MAX_SIDE if it is larger."""
    picture = Image.fromarray(np.ascontiguousarray(image.transpose(1, 2, 0)))
    if max(picture.size) > MAX_SIDE:
        picture.thumbnail((MAX_SIDE, MAX_SIDE), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def _picture(image: np.ndarray, alt: str, text: str = "", mark: str = "") -> Picture:
    return Picture(data_uri(image), alt, text, mark, is_small=max(image.shape[-2:]) < MAX_SIDE // 2)


def shown_channels(record: RunRecord, asked: Sequence[int] = ()) -> tuple[int, ...]:
    """The channels that pictures of a run show, counted from 0: those asked for, counted from 1, or the default ones.

    Raises: UserError for channels that its pictures do not have, and for other numbers of them than one or three.
    """
    # an unfinished run has no pictures yet; its page may be asked for as that of the finished one
    given = [record.gallery[name].shape[-3] for name in ("originals", "queries") if name in record.gallery]
    kept = given[0] if given else min(_channels(record), MOST_KEPT)
    if not asked:
        return default_channels(kept)
    text, allowed = (
        ",".join(map(str, asked)),
        f"one or three of 1 to {kept}, the channels in the pictures of {record.name}",
    )
    require(len(asked) in (1, 3) and all(1 <= each <= kept for each in asked), "--channels", text, allowed)
    return tuple(each - 1 for each in asked)


def channels_note(record: RunRecord, asked: Sequence[int] = ()) -> str:
    """Which channels the pictures show; empty for red, green and blue."""
    return pictures.channels_note(_channels(record), shown_channels(record, asked))


def _channels(record: RunRecord) -> int:
    return (record.environment.get("pixels") or {}).get("channels", 3)


def view_rows(record: RunRecord, asked: Sequence[int] = ()) -> list[ImageRow]:
    """Each original and the views of it that the network was trained on; empty without a gallery."""
    if "originals" not in record.gallery:
        return []
    shown = shown_channels(record, asked)
    originals, views = (as_pictures(record.gallery[name], shown) for name in ("originals", "views"))
    return [
        ImageRow(
            _picture(image, f"image {i + 1}, original"),
            [_picture(view[i], f"image {i + 1}, view {v + 1}") for v, view in enumerate(views)],
        )
        for i, image in enumerate(originals[:MAX_ROWS])
    ]


def neighbour_rows(record: RunRecord, asked: Sequence[int] = ()) -> list[ImageRow]:
    """Each query and its nearest neighbours by cosine of h, marked if labels are known."""
    if "queries" not in record.gallery:
        return []
    gallery, names = record.gallery, record.probes.get("class_names") or []
    shown = shown_channels(record, asked)
    queries, neighbours = (as_pictures(gallery[name], shown) for name in ("queries", "neighbours"))
    labels, theirs = gallery.get("query_labels"), gallery.get("neighbour_labels")
    rows: list[ImageRow] = []
    for q, query in enumerate(queries[:MAX_ROWS]):
        label = _class_name(labels[q], names) if labels is not None and labels[q] >= 0 else ""
        others: list[Picture] = []
        for r, image in enumerate(neighbours[q]):
            cosine = f"{float(gallery['cosines'][q, r]):.2f}"
            alt, mark = f"neighbour {r + 1} of query {q + 1}, cosine {cosine}", ""
            if label and labels is not None and theirs is not None and theirs[q, r] >= 0:
                mark = "same" if theirs[q, r] == labels[q] else "other"
                alt += f", {mark} class: {_class_name(theirs[q, r], names)}"
            others.append(_picture(image, alt, cosine, mark))
        alt = f"query {q + 1}" + (f", class {label}" if label else "")
        rows.append(ImageRow(_picture(query, alt, label or "query"), others))
    return rows


def _class_name(label: Any, names: list[Any]) -> str:
    """The name of an integer label, or the label itself if it has no name."""
    if isinstance(label, np.integer) and 0 <= label < len(names):
        return str(names[int(label)])
    return str(label)
