"""A folder, a list or shards as a source whose labels, and perhaps splits, come from a CSV file (label_file.py)."""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from eigenview.data.images import ImageSet, Split, printable
from eigenview.data.pixels.byte_ranges import file_shown
from eigenview.data.sources.csv_table import Row
from eigenview.data.sources.files import Folder
from eigenview.data.sources.label_file import LabelFile
from eigenview.data.sources.lists import Selection
from eigenview.data.sources.shards import Shards
from eigenview.data.sources.source import Request, Source
from eigenview.data.splitting import renumbered, same_classes, with_labels
from eigenview.errors import UnusableLabels, UserError, listed


@dataclass(frozen=True)
class LabelledSource:
    """The images of `source` with the labels of `labels` alone; an image that has no row has the label -1.

    The path of a row is relative to the folder of the images or, where no image lies there, to the folder of the CSV
    file; it may be absolute. With a column split the file decides alone which images are train, test or val, and images
    that are test or val are not trained on; without one the splits are those of the source.
    """

    source: Folder | Shards | Selection
    labels: LabelFile
    beside: Path | None = None
    """Folder of another set whose images rows may name as well. If no row names an image of this one, the source's own
    labels count; without `beside` that is an error."""

    def load(self, split: Split, request: Request) -> ImageSet:
        """Raises UserError for rows that name no file, an image with two labels, and as `source.load`."""
        check = request.check
        if check is not None:
            request = dataclasses.replace(request, check=lambda count, _: check(count, True))
        whole: Split = "all" if isinstance(self.source, Folder) and self.source.has_test else "train"
        images = self.source.load(whole if self.labels.has_split else split, request)
        rows = self._rows_of(images, request)
        if not any(rows):
            return self._without_rows(images, split)
        images = self._labelled(images, rows)
        if not self.labels.has_split or split == "all":
            return images
        wanted = "train" if split == "train" else self.labels.test_split
        is_in = [row.split == wanted if row is not None else split == "train" for row in rows]
        return images.take(np.flatnonzero(is_in))

    def labelled_pair(self, request: Request) -> tuple[ImageSet, ImageSet] | None:
        train = self.load("train", request)
        if self.labels.file not in train.files:  # it names none of these images
            return self.source.labelled_pair(request)
        if len(train.class_names) == 1:
            first = next(row for row in self.labels.rows if row.label == train.class_names[0])
            raise UnusableLabels(
                f"{self.labels.name} gives all labelled images of {train.name} the class {train.class_names[0]} (the "
                f"first in line {first.line:,}: {printable(first.path)}), and probes need two classes."
            )
        if not self.labels.has_split and not (isinstance(self.source, Folder) and self.source.has_test):
            return None
        test = self.load("test", request.like(train))
        return None if test.labels is None else same_classes(_of_its_classes(train), _of_its_classes(test))

    def _without_rows(self, images: ImageSet, split: Split) -> ImageSet:
        """Images none of which the file names: an error, unless it names others, of `beside` or of another split."""
        if self.beside is not None:
            note = f"{self.labels.name} names no image of {images.name}, whose own labels are used"
            return dataclasses.replace(images, label_notes=(*images.label_notes, note))
        if split == "test":
            return images.without_labels(f"{self.labels.name} names none of its images")
        raise UserError(
            f"{self.labels.path} names none of the {len(images):,} images of {images.name}; its first row names "
            f"{printable(self.labels.rows[0].path)}, an image is {printable(file_shown(images.paths[0]))}. "
            f"{self._places()}"
        )

    def _rows_of(self, images: ImageSet, request: Request) -> list[Row | None]:
        """The row of each image. Raises UserError for rows that name no file, and for an image with two labels."""
        number: dict[str, list[int]] = {}
        for i, path in enumerate(images.paths):  # several tiles of an image, or pages of a file, have its label
            number.setdefault(os.path.abspath(file_shown(path)), []).append(i)
        found: list[Row | None] = [None] * len(images)
        missing: list[Row] = []
        twice: list[tuple[Row, Row]] = []
        for row in self.labels.rows:
            named = next((number[path] for path in self._candidates(row.path) if path in number), None)
            if named is None:
                missing.append(row)
                continue
            other = found[named[0]]
            if other is not None and other[2:] != row[2:]:
                twice.append((other, row))
            for i in named:
                found[i] = row
        for first, second in twice:
            raise UserError(
                f"{self.labels.path}: {len(twice):,} image{'s have' if len(twice) > 1 else ' has'} two labels or "
                f"splits, the first {printable(second.path)}: {_meaning(first)} in line {first.line:,}, "
                f"{_meaning(second)} in line {second.line:,}. Leave one row for each image."
            )
        if request.most is None:  # of a subset the other images are not missing
            self._refuse_unknown(missing, {os.path.abspath(each.path) for each in images.skipped})
        return found

    def _candidates(self, path: str, beside: Path | None = None) -> list[str]:
        """What a row's path may mean, as absolute paths; backslashes stand for slashes if nothing else fits."""
        folders = (self.source.folder, self.labels.path.parent, *(() if beside is None else (beside,)))
        roots = [os.path.abspath(folder) for folder in folders]
        spelled = [path, path.replace("\\", "/")] if "\\" in path else [path]
        return [os.path.normpath(os.path.join(root, each)) for each in spelled for root in roots]

    def _refuse_unknown(self, missing: Sequence[Row], skipped: set[str]) -> None:
        """Raises UserError for rows whose path is neither a file, of another split or folder perhaps, nor `skipped`."""
        unknown = [
            row
            for row in missing
            if not any(p in skipped or os.path.exists(p) for p in self._candidates(row.path, self.beside))
        ]
        if not unknown:
            return
        first = unknown[0]
        is_header = first.line == 1 and not self.labels.has_header
        header = "If line 1 names the columns, call them path and label. " if is_header else ""
        raise UserError(
            f"{self.labels.path}: {len(unknown):,} of {len(self.labels.rows):,} rows "
            f"{'names' if len(unknown) == 1 else 'name'} no file, the first in line {first.line:,}: "
            f"{printable(first.path)}. {header}{self._places()}"
        )

    def _places(self) -> str:
        return (
            f"Paths are relative to {printable(str(self.source.folder))} or to the folder of the CSV file; correct or "
            "remove the others."
        )

    def _labelled(self, images: ImageSet, rows: Sequence[Row | None]) -> ImageSet:
        names = {row.label for row in rows if row is not None}
        is_numeric = all(re.fullmatch(r"0|-?[1-9][0-9]{0,17}", name) for name in names)
        classes = sorted(names, key=int) if is_numeric else sorted(names)
        number = {name: i for i, name in enumerate(classes)}
        labels = np.array([-1 if row is None else number[row.label] for row in rows], np.int64)
        shown_names = tuple(printable(name) for name in classes)
        count = int((labels >= 0).sum())
        note = (
            f"{count:,} of {len(images):,} images of {images.name} have a label in {self.labels.name}, of "
            f"{len(classes):,} class{'es' if len(classes) > 1 else ''} ({listed(shown_names)})"
        )
        if count < len(images):
            note += f"; the other {len(images) - count:,} have no row and are not probed"
        return dataclasses.replace(
            images,
            labels=labels,
            class_names=shown_names,
            label_notes=(note,),
            files=(*images.files, self.labels.file),
        )


def _of_its_classes(images: ImageSet) -> ImageSet:
    """The labelled images, numbered by those classes that they show."""
    images = with_labels(images)
    assert images.labels is not None
    seen = set(images.labels.tolist())
    return renumbered(images, tuple(name for i, name in enumerate(images.class_names) if i in seen))


def with_label_file(source: Source, spec: str, labels: LabelFile, beside: Path | None = None) -> LabelledSource:
    """`source`, which `spec` names, with the labels of a CSV file. Raises UserError for images that have no paths."""
    if not isinstance(source, Folder | Shards | Selection):
        raise UserError(
            f"--labels {labels.path} names images by their paths, and the images of {spec} have none. Give the labels "
            "as they are stored with these images (eigenview list datasets), or a folder of image files."
        )
    return LabelledSource(source, labels, beside)


def label_path(labels: str) -> Path:
    """The file that --labels names, with ~ replaced."""
    return Path(os.path.expanduser(labels))


def _meaning(row: Row) -> str:
    return printable(row.label) + (f" ({row.split})" if row.split else "")
