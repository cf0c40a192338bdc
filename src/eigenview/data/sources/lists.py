"""Chosen files and folders: a text file or a CSV of paths, or a pattern such as 'photos/**/*.jpg'.

Which files: those that are named, and all image files below the folders that are named; each once, sorted by path.
Names are relative to the folder that all of them share, so that data that were moved together are still recognised.
Classes: of a folder that is named, its subfolders, as if it was given alone; where no image lies in a subfolder, the
named folders themselves, by their last name. Of files that are named, the first folder below the one that they share.
train/ and test/ mean nothing here: all that is named may be trained on, unless a CSV has a column split.
"""

from __future__ import annotations

import functools
import glob
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from eigenview.data.images import File, ImageSet, Split, printable
from eigenview.data.opening import at_home, kind_of
from eigenview.data.pixels.image_files import READABLE, SUFFIXES
from eigenview.data.sources.csv_table import Row, read_lines, read_table
from eigenview.data.sources.files import read_part
from eigenview.data.sources.folder import Listing, Part, scan
from eigenview.data.sources.source import Loaded, Request
from eigenview.errors import UserError

TABLES = (".csv", ".tsv")
LISTS = (".txt", *TABLES)
"""Suffixes of files that name images."""
_WILD = "*?["


class _Named(NamedTuple):
    """An image file of a selection; its class follows from one of two names, each a path with folders."""

    file: File
    label_name: str
    by_entry: str
    """The same with the named folder that it lies in as the first folder."""


@dataclass(frozen=True)
class Selection:
    """Files and folders as a source of images."""

    spec: str
    entries: tuple[Path, ...]
    folder: Path
    """The folder that all entries lie in; names of images are relative to it."""
    has_labels: bool = False
    """Whether it is a CSV file with a column of labels."""
    loaded: Loaded = field(default_factory=Loaded, init=False, repr=False, compare=False)

    def load(self, split: Split, request: Request) -> ImageSet:
        """Unreadable files are skipped and listed. Raises UserError for "test", for no image, and as a folder does."""
        if split == "test":
            raise UserError(f"{self.spec} has no test images; give some with --probe-data.")
        return self.loaded.get(split, request) or self.loaded.keep(split, request, self._load(request))

    def labelled_pair(self, request: Request) -> tuple[ImageSet, ImageSet] | None:
        return None

    def _load(self, request: Request) -> ImageSet:
        found, label_names = self._found
        path = at_home(self.spec)
        # a separate entry in the cache: that of the folder is of all its files
        what = f"list {os.path.abspath(path)}"
        part = Part(self.folder, tuple(found.files), label_names, notes=found.notes(), what=what)
        name = path.stem if path.suffix.lower() in LISTS else self.folder.resolve().name
        return read_part(part, Path(self.spec), name, tuple(found.closed), request)

    @functools.cached_property
    def _found(self) -> tuple[Listing, tuple[str, ...]]:
        """The image files, and of each the name whose first folder is its class."""
        found = Listing(self.folder)
        named: dict[str, _Named] = {}
        for each in self._walk(found):
            named.setdefault(each.file.name, each)
        if not named:
            raise UserError(f"{self.spec} names no images: {_others(found)}. Image files are {READABLE}.")
        images = [named[name] for name in sorted(named)]
        found.files = [image.file for image in images]
        are_folders = len(self.entries) > 1 and all(kind_of(entry) == "folder" for entry in self.entries)
        if are_folders and not any("/" in image.label_name for image in images):
            return found, tuple(image.by_entry for image in images)
        return found, tuple(image.label_name for image in images)

    def _walk(self, found: Listing) -> Iterator[_Named]:
        """The image files of all entries, some perhaps twice; what is left alone is counted in `found`."""
        files = [entry for entry in self.entries if kind_of(entry) != "folder"]
        shared = _shared_folder(files)
        for entry in self.entries:
            name = os.path.relpath(entry, self.folder)
            if kind_of(entry) == "folder":
                below = scan(entry)
                for file in below.files:
                    full = file.name if name == os.curdir else f"{name}/{file.name}"
                    yield _Named(file._replace(name=full), file.name, f"{entry.resolve().name}/{file.name}")
                found.others.update(below.others)
                found.closed += below.closed
                found.links += below.links
            elif entry.suffix.lower() in SUFFIXES:
                yield _Named(_file(entry, name), os.path.relpath(entry, shared), name)
            else:
                found.others[entry.suffix.lower() or "no suffix"] += 1


def is_pattern(spec: str) -> bool:
    """Whether `spec` has a character with which a pattern names several files."""
    return any(character in spec for character in _WILD)


def find_selection(spec: str) -> Selection | None:
    """The selection that `spec` names: a list (LISTS), or a pattern with * ? or [ that is no path; else None.

    Raises: UserError for a list that is no text, is empty or names paths that do not exist, and for a pattern that
    matches nothing.
    """
    path = at_home(spec)
    kind = kind_of(path)
    if kind == "file" and path.suffix.lower() in TABLES:
        table = read_table(path)
        entries = _present(path, table.rows)
        return Selection(spec, entries, _shared_folder(entries), table.has_label)
    if kind == "file" and path.suffix.lower() in LISTS:
        entries = _present(path, read_lines(path))
        return Selection(spec, entries, _shared_folder(entries))
    if kind != "nothing" or not is_pattern(spec):
        return None
    entries = tuple(Path(each) for each in sorted(glob.glob(str(path), recursive=True)))
    if not entries:
        raise UserError(
            f"{spec} matches no file and no folder. * stands for any part of a name, ** for any folders: "
            "'photos/**/*.jpg'."
        )
    fixed = [part for part in path.parts if part]
    wild = next(i for i, part in enumerate(fixed) if is_pattern(part))
    return Selection(spec, entries, Path(*fixed[:wild]))


def _present(path: Path, rows: Sequence[Row]) -> tuple[Path, ...]:
    """The paths of a list, relative to its folder. Raises UserError if some do not exist."""
    folder = Path(os.path.abspath(path)).parent
    entries = [Path(os.path.normpath(folder / row.path)) for row in rows]
    missing = [row for row, entry in zip(rows, entries, strict=True) if not os.path.lexists(entry)]
    if missing:
        raise UserError(
            f"{path}: {len(missing):,} of {len(rows):,} paths do not exist, the first in line {missing[0].line:,}: "
            f"{printable(missing[0].path)}. Paths are relative to the folder of the list; correct or remove these."
        )
    return tuple(dict.fromkeys(entries))


def _shared_folder(entries: Sequence[Path]) -> Path:
    """The folder that all entries are or lie in; that of a single folder is itself."""
    folders = [str(entry if kind_of(entry) == "folder" else entry.parent) for entry in entries]
    return Path(os.path.commonpath(folders)) if folders else Path()


def _file(path: Path, name: str) -> File:
    """The file with its size and time; a link that leads nowhere has none and is reported as unreadable."""
    if kind_of(path) != "file":
        return File(name, 0, 0)
    status = path.stat()
    return File(name, status.st_size, status.st_mtime_ns)


def _others(found: Listing) -> str:
    if found.closed:
        return f"{found.closed[0].path} {found.closed[0].reason}"
    kinds = ", ".join(f"{count:,} {suffix}" for suffix, count in found.others.most_common(4))
    return f"it names {kinds}" if kinds else "its folders are empty"
