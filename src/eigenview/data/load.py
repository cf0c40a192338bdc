"""Start here: what the user typed -> images. The two entry points of this package."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable

import numpy as np

from eigenview.config import LoaderConfig
from eigenview.config.reading import Reading
from eigenview.data.images import ImageSet, Split
from eigenview.data.opening import at_home, kind_of
from eigenview.data.pixels.contrast import LOOKED_AT, contrast_note
from eigenview.data.pixels.image_files import READABLE, SUFFIXES
from eigenview.data.sources.arrays import ArrayFile
from eigenview.data.sources.builtin import Digits, find_on_disk
from eigenview.data.sources.files import Folder
from eigenview.data.sources.hugging_face import PREFIX, find_hugging_face
from eigenview.data.sources.label_file import WORDS, read_label_file
from eigenview.data.sources.labelled import label_path, with_label_file
from eigenview.data.sources.lists import Selection, find_selection, is_pattern
from eigenview.data.sources.packs import Pack, find_pack
from eigenview.data.sources.shards import find_shards
from eigenview.data.sources.source import Request, Source
from eigenview.data.splitting import split_set
from eigenview.errors import UserError, nearest
from eigenview.terminal import Console

BUILT_IN = ("digits",)


def load_images(
    spec: str,
    *,
    size: int | None = None,
    source_size: int | None = None,
    multiple: int = 1,
    most_size: int | None = None,
    reading: Reading = Reading(),
    loader: LoaderConfig = LoaderConfig(),
    split: Split = "train",
    console: Console | None = None,
    check: Callable[[int, bool], None] | None = None,
    source: Source | None = None,
    most: int | None = None,
    is_decided: bool = False,
) -> ImageSet:
    """The images that `spec` names: digits, a folder, an image, a list of paths, a pattern, a .npy/.npz, .tar shards,
    a pack, a torchvision set, or (hf:) a Hugging Face data set.

    size: side of the views in pixels; default: chosen from the data, a multiple of `multiple`, `most_size` at most.
    source_size: side of the stored squares they are cut from; default: `size`, or 8/7 of it where the originals are
    larger. reading: how pixels are made from files; the set has the one that was used, with the range that was decided.
    split: "train"
    is everything that may be trained on, never the test images of data that have a split; "all" is every image.
    console: where a progress bar appears once two seconds have passed (default: standard error). check: called before
    any image is decoded, with the number of readable images and whether they have labels; what it raises is passed on.
    source: what `find_source` found for `spec`; a folder is then listed once for this and for `load_probe_sets`.
    most: of more images a fixed random subset of this size is read. is_decided: `reading` is that of an encoder, whose
    range is used even if it leaves one grey level of these images.

    Raises UserError for whatever the user can repair: nothing there, nothing readable, more than half unreadable, an
    array of another type or shape, a damaged file, a full disk.
    """
    request = Request(
        size=size,
        source_size=source_size,
        multiple=multiple,
        most_size=most_size,
        reading=reading,
        loader=loader,
        console=console,
        check=check,
        most=most,
        is_decided=is_decided,
    )
    source = source or find_source(spec)
    images = source.load(split, request)
    note = _contrast(images, is_packed=isinstance(source, Pack))
    return images if note is None else dataclasses.replace(images, pixel_notes=(*images.pixel_notes, note))


def _contrast(images: ImageSet, *, is_packed: bool) -> str | None:
    """A warning if the images are nearly constant. Of a stream the first ones are looked at, of others some of all."""
    pixels, broken = images.read_marked(images.spread(LOOKED_AT))
    return contrast_note(np.delete(pixels, list(broken), axis=0), images.reading, is_packed=is_packed)


def load_probe_sets(
    spec: str,
    *,
    size: int,
    source_size: int | None = None,
    reading: Reading = Reading(),
    loader: LoaderConfig = LoaderConfig(),
    seed: int = 0,
    console: Console | None = None,
    source: Source | None = None,
) -> tuple[ImageSet, ImageSet] | None:
    """Labelled training and test images for the probes, with the same classes in the same order; None without labels.

    A source that has labelled training and test images gives those. Any other labelled source is split 80/20 within
    each class, by `seed`; both sets say so in their notes. Sides, `reading` and `source` as in `load_images`.

    Classes that cannot be probed are left out, and both sets' `label_notes` name them.

    Raises UserError as `load_images`; UnusableLabels where no probe is possible, with the reason.
    """
    request = Request(size=size, source_size=source_size, reading=reading, loader=loader, console=console)
    source = source or find_source(spec)
    pair = source.labelled_pair(request)
    return split_set(source.load("train", request), seed) if pair is None else pair


def absolute(spec: str) -> str:
    """`spec` so that it names the same images from any folder: paths are made absolute, links are kept."""
    if spec.startswith(PREFIX):
        place, mark, query = spec.removeprefix(PREFIX).partition("?")
        return PREFIX + (_absolute(place) if kind_of(at_home(place)) == "folder" else place) + mark + query
    is_there = spec.strip() != "" and kind_of(at_home(spec)) != "nothing"
    return _absolute(spec) if is_there or spec.lower().endswith(".tar") or is_pattern(spec) else spec


def _absolute(path: str) -> str:
    return os.path.abspath(os.path.expanduser(path))


def find_source(spec: str, labels: str = "auto", *, beside: str | None = None) -> Source:
    """What `spec` names, with its own labels or those of a CSV file, which `labels` names.

    Those of a CSV file that lists the images are its own.

    labels: "auto", "none" (what that means is for the caller to do) or a file. beside: another set of images that the
    file may label as well, or alone.

    Raises: UserError if there are no such images, and as `read_label_file` and `with_label_file`.
    """
    source = _found(spec)
    if isinstance(source, Selection) and source.has_labels and labels == "auto":
        rows = read_label_file(at_home(spec), are_all_labelled=False)
        return with_label_file(source, spec, rows) if rows.rows else source
    if labels in WORDS:
        return source
    other = None if beside is None else at_home(beside)
    return with_label_file(source, spec, read_label_file(label_path(labels)), other)


def absolute_labels(labels: str) -> str:
    """The value of --labels so that it names the same file from any folder."""
    return labels if labels in WORDS else _absolute(labels)


def _found(spec: str) -> Source:
    """What `spec` names. A path that exists comes before a built-in name. Raises UserError for neither."""
    if not spec.strip():  # Path("") is the current folder, but the user most likely has an unset shell variable
        raise UserError("the images are named by an empty text. Give a folder, or . for the current one.")
    path = at_home(spec)
    kind = kind_of(path)
    if kind == "folder":
        return find_pack(path) or find_on_disk(path) or find_shards(spec) or Folder(path)
    hugging_face = find_hugging_face(spec) if kind == "nothing" else None
    if hugging_face is not None:
        return hugging_face
    shards = find_shards(spec)
    if shards is not None:
        return shards
    if kind == "other":
        raise UserError(f"{spec} is a pipe, a socket or a device. Give a folder of images, or a file that holds them.")
    if kind == "file":
        if path.suffix.lower() in (".npy", ".npz"):
            return ArrayFile(path)
        if path.suffix.lower() in SUFFIXES:
            return Folder(path)
    selection = find_selection(spec)
    if selection is not None:
        return selection
    if kind == "file":
        raise UserError(
            f"{spec} is a file eigenview cannot take images from. Give a folder (unpack an archive first), "
            f"a .npy or .npz array, .tar shards, a list of paths (.txt, .csv), or an image ({READABLE})."
        )
    if spec in BUILT_IN:
        return Digits()
    looks_like_path = os.sep in spec or "/" in spec or bool(path.suffix)
    hint = "" if looks_like_path else nearest(spec, BUILT_IN)
    raise UserError(
        f"{spec!r} is neither a path that exists nor a built-in set ({', '.join(BUILT_IN)}). "
        + (hint or "Check the path: a folder of images, a .npy or .npz array, or a torchvision set on disk.")
    )
