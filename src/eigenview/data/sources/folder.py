"""Which image files a folder holds: flat, or one subfolder per class, nested to any depth, with or without splits.

Which files: every file with an image suffix, in any letter case, below the folder; symbolic links are followed; hidden
files and folders, and other files, are ignored. Order: by path. Labels: where every image lies in a subfolder, the
first level of subfolders names the class. Splits: a first level of train/ with test/ or val/ (or any spelling in
SPLITS, also with a year: train2017/) comes before the classes; test and validation images are never trained on.
"""

from __future__ import annotations

import dataclasses
import heapq
import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from eigenview.data.images import File, Skipped, Split, printable
from eigenview.data.pixels.byte_ranges import page_path
from eigenview.data.pixels.image_files import READABLE, SUFFIXES
from eigenview.errors import UserError, listed

SPLITS = {"train": "train", "training": "train", "test": "test", "testing": "test"}
SPLITS |= {"val": "val", "valid": "val", "validation": "val"}
_YEAR = re.compile(r"[-_]?(19|20)\d\d$")


_NAMED_SUFFIXES = 4

Label = int | str | None
"""A label as a shard gives it; None where a sample has none."""


Labelled = tuple[np.ndarray | None, tuple[str, ...], str | None]
"""Labels int64 (N,), class names, and a note: what was taken for classes, or why there are no labels."""


@dataclass
class Listing:
    """What a walk through a folder found."""

    root: Path
    files: list[File] = field(default_factory=list)
    others: Counter[str] = field(default_factory=Counter)
    """Number of files that are no images, by suffix."""
    closed: list[Skipped] = field(default_factory=list)
    """Folders that cannot be listed."""
    links: int = 0
    """Links to folders that are part of the listing already."""

    def notes(self) -> tuple[str, ...]:
        """What was left alone, a sentence each."""
        notes: tuple[str, ...] = ()
        if self.others:
            named = self.others.most_common(_NAMED_SUFFIXES)
            kinds = ", ".join(f"{count:,} {suffix}" for suffix, count in named)
            more = ", ..." if len(self.others) > _NAMED_SUFFIXES else ""
            notes += (f"{self.others.total():,} files are not used: {printable(kinds)}{more}. Images are {READABLE}",)
        if self.links:
            notes += (f"{self.links:,} links lead to folders that are read already; each folder is read once",)
        return notes


def scan(root: Path) -> Listing:
    """All image files below `root`, sorted by path.

    Every real folder is listed once, under its own path if that is below `root`, else under the first link to it.
    """
    found = Listing(root)
    seen: set[tuple[int, int]] = set()
    folders, linked = [""], list[str]()  # linked: a heap of links to folders, followed when no folder is left
    while folders or linked:
        is_link = not folders
        below = heapq.heappop(linked) if is_link else folders.pop()
        try:
            status = os.stat(root / below)
            if (status.st_dev, status.st_ino) in seen:
                found.links += is_link
                continue
            seen.add((status.st_dev, status.st_ino))
            with os.scandir(root / below) as entries:
                for entry in entries:
                    if entry.name.startswith("."):
                        continue
                    try:
                        if not entry.is_dir():
                            _note(entry, below, found)
                        elif entry.is_symlink():
                            heapq.heappush(linked, f"{below}{entry.name}/")
                        else:
                            folders.append(f"{below}{entry.name}/")
                    except OSError as error:  # a circular link or a missing permission: only this entry is lost
                        _note_lost(entry, below, found, error)
        except OSError as error:
            found.closed.append(Skipped(printable(str(root / below)), f"cannot be listed: {error.strerror}"))
    found.files.sort()
    return found


def _note(entry: os.DirEntry[str], below: str, found: Listing) -> None:
    suffix = os.path.splitext(entry.name)[1].lower()
    if suffix not in SUFFIXES:
        found.others[suffix or "no suffix"] += 1
    elif entry.is_file():
        status = entry.stat()
        found.files.append(File(below + entry.name, status.st_size, status.st_mtime_ns))
    elif entry.is_symlink() and not os.path.exists(entry.path):  # listed, so that it is reported as unreadable
        found.files.append(File(below + entry.name, 0, 0))
    else:
        found.others[f"{suffix} that is a pipe, a socket or a device"] += 1


def _note_lost(entry: os.DirEntry[str], below: str, found: Listing, error: OSError) -> None:
    if os.path.splitext(entry.name)[1].lower() in SUFFIXES:
        found.files.append(File(below + entry.name, 0, 0))  # reported as unreadable
    else:
        path = printable(os.path.join(found.root, below, entry.name))
        found.closed.append(Skipped(path, f"cannot be accessed: {error.strerror}"))


@dataclass(frozen=True)
class Part:
    """The files of one split, relative to `root`; `label_names` are the same without the split's folder.

    Images inside shards: `pieces` are the images and `labels` their labels; `files` identifies them in the cache, and
    `what` identifies which shards of the folder were chosen. Tiles of images are `pieces` too.
    """

    root: Path
    files: tuple[File, ...]
    label_names: tuple[str, ...]
    notes: tuple[str, ...] = ()
    pieces: tuple[str, ...] = ()
    labels: tuple[Label, ...] = ()
    what: str = ""
    pages: tuple[int, ...] = ()
    """Where pages are images: the page of its file that each one is, counted from 0; -1: the file has one page."""

    def take(self, index: np.ndarray) -> Part:
        """Some of the files, with their labels."""
        return dataclasses.replace(
            self,
            files=tuple(self.files[i] for i in index),
            label_names=tuple(self.label_names[i] for i in index) if self.label_names else (),
            pieces=tuple(self.pieces[i] for i in index) if self.pieces else (),
            labels=tuple(self.labels[i] for i in index) if self.labels else (),
        )

    def by_pages(self, counts: np.ndarray) -> Part:
        """Each page of each file as an image, with the file's label; `counts`: int64, the images of each file.

        In the cache pages have another place than the files, whose headers stay there.
        """
        pages = np.concatenate([np.arange(n) if n > 1 else [-1] for n in counts.tolist()]).astype(np.int64)
        part = self.take(np.repeat(np.arange(len(self.files)), counts))
        files = tuple(f._replace(name=f"{f.name}#{k}") for f, k in zip(part.files, pages.tolist(), strict=True))
        return dataclasses.replace(part, files=files, pages=tuple(pages.tolist()), what=f"{part.what} pages")

    def paths(self) -> list[str]:
        """What to decode, image by image."""
        if not self.pages:
            return list(self.pieces) or [os.path.join(self.root, file.name) for file in self.files]
        names = self.pieces or [os.path.join(self.root, file.name.rpartition("#")[0]) for file in self.files]
        return [name if k < 0 else page_path(name, k) for name, k in zip(names, self.pages, strict=True)]

    def classes(self, kept: Sequence[int]) -> Labelled:
        """Labels of the images `kept`, class names, and a note, as in `Labelled`."""
        if self.labels:
            return numbered_labels([self.labels[i] for i in kept])
        return class_labels([self.label_names[i] for i in kept])


def splits_of(names: Iterable[str]) -> dict[str, str]:
    """{"train": name, "test": ..., "val": ...} of the names that are called so, in any spelling of SPLITS.

    A year after the name is ignored (train2017), unless there are several years: then they are no splits.
    """
    exact = {SPLITS[name.lower()]: name for name in sorted(names, reverse=True) if name.lower() in SPLITS}
    dated: dict[str, list[str]] = {}
    for name in names:
        kind = SPLITS.get(_YEAR.sub("", name.lower()))
        if kind is not None and kind not in exact:
            dated.setdefault(kind, []).append(name)
    return exact | {kind: found[0] for kind, found in dated.items() if len(found) == 1}


def split_folders(found: Listing) -> dict[str, str]:
    """{"train": folder name, "test": ..., "val": ...} where the first level consists of splits, else {}.

    That is: train/ beside test/ or val/; or no image outside folders named like splits (test/ alone, say).
    """
    tops = Counter(file.name.partition("/")[0] if "/" in file.name else "" for file in found.files)
    named = splits_of(tops)
    has_both = "train" in named and len(named) > 1
    return named if has_both or len(named) == len(tops) else {}


def choose_part(found: Listing, split: Split) -> Part:
    """The files of `split`: "train" is everything that may be trained on, "all" is every image."""
    folders = split_folders(found)
    names = tuple(file.name for file in found.files)
    if not folders or split == "all":
        inside = tuple(folder + "/" for folder in folders.values())
        label_names = tuple(name.partition("/")[2] if name.startswith(inside) else name for name in names)
        return Part(found.root, tuple(found.files), label_names if folders else names)
    if split == "train":
        kind = "train" if "train" in folders else "val" if "val" in folders else "test"
    elif kinds := [kind for kind in ("test", "val") if kind in folders]:
        # in competitions test/ is often unlabelled: the probes are then measured on val/
        inside = {kind: folders[kind] + "/" for kind in kinds}
        labelled = [
            k for k in kinds if class_labels([n.removeprefix(inside[k]) for n in names if n.startswith(inside[k])])[1]
        ]
        kind = (labelled or kinds)[0]
    else:
        raise UserError(f"{found.root} has no test/ or val/ folder; add one, or give a folder without splits.")
    prefix = folders[kind] + "/"
    files = tuple(f._replace(name=f.name.removeprefix(prefix)) for f in found.files if f.name.startswith(prefix))
    notes: tuple[str, ...] = ()
    if split == "train" and len(files) < len(names):
        others = "".join(f", {folder}/ for {name}" for name, folder in folders.items() if name != kind)
        notes = (
            f"{prefix} is taken for {kind}{others}: {len(files):,} images of {prefix} are used, "
            f"{len(names) - len(files):,} outside it are left alone",
        )
    return Part(found.root / folders[kind], files, tuple(file.name for file in files), notes)


def numbered_labels(labels: Sequence[Label]) -> Labelled:
    """Labels int64 (N,) from labels of any value; classes in the order of the numbers, or of the texts."""
    known = [label for label in labels if label is not None]
    if not known:
        return None, (), None
    if len(known) < len(labels):
        return None, (), f"no labels: {len(labels) - len(known)} of {len(labels)} samples have none"
    is_numeric = all(isinstance(label, int) for label in known)
    classes = sorted(set(known), key=int) if is_numeric else sorted({str(label) for label in known})
    if len(classes) < 2:
        return None, (), f"no labels: all samples are of one class, {printable(str(classes[0]))}"
    number = {name: i for i, name in enumerate(classes)}
    rows = [number[label if is_numeric else str(label)] for label in known]
    return np.array(rows, np.int64), tuple(printable(str(name)) for name in classes), None


def class_labels(names: Sequence[str]) -> Labelled:
    """Labels int64 (N,) from the first folder of each name, the class names, and a note, as in `Labelled`."""
    tops = [name.partition("/")[0] if "/" in name else None for name in names]
    classes = sorted({top for top in tops if top is not None})
    outside = tops.count(None)
    if outside == len(tops):
        return None, (), None
    if outside:
        return None, (), f"no labels: {outside} of {len(tops)} images lie outside the class folders"
    if len(classes) < 2:
        return None, (), f"no labels: all images lie in one folder, {printable(classes[0])}/"
    number = {name: i for i, name in enumerate(classes)}
    shown = tuple(printable(name) for name in classes)
    note = f"{len(shown):,} subfolders are taken for classes: {listed(shown)} (--labels none: they are no classes)"
    return np.array([number[str(top)] for top in tops], np.int64), shown, note


def nothing_found(found: Listing) -> str:
    """The message for a folder that holds no image file."""
    looked = found.others.total()
    if not looked:
        detail = f"{found.closed[0].path} {found.closed[0].reason}" if found.closed else "it is empty"
    else:
        kinds = ", ".join(f"{number} {suffix}" for suffix, number in found.others.most_common(4))
        detail = f"it holds {looked} other files ({kinds})"
    return f"{found.root} holds no images: {detail}. Image files are {READABLE}."
