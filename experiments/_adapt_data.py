"""The three data sets of the experiment `adapt`, as folders of links to images that lie on this machine.

Of the folder given, `cifar10` is CIFAR-10 (JPEG) with train/ and test/, `emoji` and `stamps` are the archives of those
names, unpacked, each with its captions.jsonl.
"""

from __future__ import annotations

import json
import random
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from eigenview.errors import UserError

PER_CLASS = 500
"""Training images of each class of CIFAR-10."""
TEST_SHARE, LEAST = 0.25, 20
"""Of the drawings and photographs; images that a class of the stamps needs."""
Row = tuple[str, str, Path]
"""Split, class, image."""


def make(name: str, source: Path, place: Path) -> None:
    """The folder `place` with train/ and test/ and a folder of links for each class of a data set, if it is not there.

    Raises: UserError if the images are not in `source`.
    """
    read = {"cifar10": _cifar10, "emoji": _emoji, "stamps": _stamps}[name]
    if not source.is_dir():
        raise UserError(f"{source} does not exist; the experiment adapt needs cifar10, emoji and stamps in --data.")
    if not place.exists():
        _link(read(source), place)


def _link(rows: Iterable[Row], place: Path) -> None:
    for split, kind, image in rows:
        folder = place / split / kind
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{image.parent.name}-{image.name}").symlink_to(image.resolve())


def _cifar10(folder: Path) -> Iterator[Row]:
    """The first images of each class to train on; all test images."""
    for split in ("train", "test"):
        for kind in sorted((folder / split).iterdir()):
            images = sorted(kind.iterdir())
            for image in images[:PER_CLASS] if split == "train" else images:
                yield split, kind.name, image


def _captions(folder: Path) -> tuple[Path, list[dict[str, Any]]]:
    path = next(folder.rglob("captions.jsonl"))
    return path.parent, [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def _emoji(folder: Path) -> Iterator[Row]:
    """Labels are the groups; the drawings of one concept are all in one split."""
    root, rows = _captions(folder)
    tested = _drawn(sorted(row["hexcode"] for row in rows))
    for row in rows:
        for style in row["styles"]:
            image = next((root / style).glob(f"{row['hexcode']}.*"))
            yield "test" if row["hexcode"] in tested else "train", row["group"], image


def _stamps(folder: Path) -> Iterator[Row]:
    """Photographs alone; labels are the first folder of their path; classes with few images are left out."""
    root, rows = _captions(folder)
    by_class: dict[str, list[Path]] = defaultdict(list)
    for row in rows:
        if row["photograph"]:
            by_class[row["category"][0]].append(root / row["image"])
    for kind, images in by_class.items():
        tested = _drawn([str(image) for image in images])
        if len(images) >= LEAST:
            for image in images:
                yield "test" if str(image) in tested else "train", kind, image


def _drawn(names: list[str]) -> set[str]:
    """A fixed share of the names, for the test."""
    return set(random.Random(0).sample(names, round(TEST_SHARE * len(names))))
