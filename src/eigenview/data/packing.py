"""Decode any source once into a pack (packs.py says what that is): the work of `eigenview pack`."""

from __future__ import annotations

import contextlib
import dataclasses
import glob
import io
import json
import math
import os
import shlex
import shutil
import tempfile
import time
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro

from eigenview.config import LoaderConfig
from eigenview.config.reading import Pages, Reading
from eigenview.config.run import LARGEST_SIDE
from eigenview.data.images import ImageSet, Skipped, printable
from eigenview.data.load import find_source
from eigenview.data.opening import at_home
from eigenview.data.pixels.cache import HEADER_BYTES, CacheDir, sample_crc, write_cached, write_rows
from eigenview.data.pixels.image_size import Sizes
from eigenview.data.pixels.parallel import Rows, map_chunks
from eigenview.data.sources.packs import MANIFEST, Card, PartCard, labels_file, numbers_file, pixels_file
from eigenview.data.sources.source import Request
from eigenview.durations import duration
from eigenview.errors import UnusableLabels, UserError, require
from eigenview.runfiles import set_name
from eigenview.terminal import Console

_COPIED = 256
"""Images that are read at a time."""
ADVICE = "Free space, or choose another --out."
ABANDONED_SECONDS = 3600.0
"""A pack being made that has not changed for so long was left by a process that was killed."""


@dataclass(frozen=True, kw_only=True)
class PackOptions:
    """Decode images once into a folder that later runs map into memory; give it wherever images are asked for."""

    data: tyro.conf.Positional[str]
    """Images, as for pretrain."""
    labels: str = "auto"
    """Labels to pack: auto (those of the images), or a CSV file as for pretrain."""
    out: Path | None = None
    """The folder to write; default DATA-pack, here."""
    image_size: int | None = None
    """Side of the views to come, in pixels; default: chosen from the data, as for pretrain."""
    range: str = "auto"
    """The values that become black and white, as for pretrain."""
    channels: int = 3
    """Channels of an image, as for pretrain."""
    pages: Pages = "first"
    """What the pages of a file are, as for pretrain."""
    fit: str = "crop"
    """How an image becomes a square, as for pretrain."""
    strict: bool = False
    """Make the first unreadable image an error instead of skipping and listing it."""


@dataclass(frozen=True)
class Packed:
    """A finished pack, and how long it took."""

    folder: Path
    card: Card
    seconds: float

    def summary(self) -> str:
        """The lines printed after packing: contents, size, time and how to use it."""
        parts, sizes = self.card.parts.values(), self.card.sizes
        images, skipped = sum(part.images for part in parts), sum(len(part.skipped) for part in parts)
        megabytes = images * self.card.reading.channels * sizes.source_size**2 / 1e6
        lost = f", {skipped} unreadable (listed in {MANIFEST})" if skipped else ""
        return (
            f"{self.folder}: {images:,} images of {sizes.source_size} px for views of {sizes.size} px "
            f"({sizes.reason}){lost}, {megabytes:,.1f} MB, {duration(self.seconds)}\n"
            f"use it: eigenview pretrain {shlex.quote(str(self.folder))}"
        )


def write_pack(options: PackOptions, console: Console | None = None) -> Packed:
    """Decode the images that `options.data` names (as for `load_images`) into a new folder.

    The folder appears when it is complete, and not at all after an error, a full disk or Ctrl-C.

    Raises UserError for an occupied folder, a full disk, and as `load_images`.
    """
    start = time.monotonic()
    spec, size = options.data, options.image_size
    require(size is None or 8 <= size <= LARGEST_SIDE, "--image-size", size, f"8 to {LARGEST_SIDE}")
    require(options.labels != "none", "--labels", options.labels, "auto, or a CSV file", "A run can leave labels out.")
    reading = Reading(range=options.range, channels=options.channels, pages=options.pages, fit=options.fit)
    source = find_source(spec, options.labels)
    out = options.out or Path(f"{set_name(spec) or 'images'}-pack")
    _refuse_occupied(out)
    with _appearing(out) as folder:
        # The pack's folder takes the place of the cache, so that decoded images are written only once.
        cache_dir = CacheDir(folder, f"pack {out}", ADVICE)
        loader = LoaderConfig(cache_gb=math.inf, strict=options.strict)
        request = Request(size=size, reading=reading, loader=loader, console=console, cache_dir=cache_dir)
        train = source.load("train", request)
        try:
            sides = {"size": train.size, "source_size": train.source_size}
            pair = source.labelled_pair(dataclasses.replace(request.like(train), **sides))
        except UnusableLabels as error:
            pair = None
            train = dataclasses.replace(train, label_notes=(*train.label_notes, f"no test images are packed: {error}"))
        parts = {"train": train}
        if pair is not None:
            parts |= {"test": pair[1]} if _is_same(train, pair[0]) else {"probes": pair[0], "test": pair[1]}
        root = at_home(spec)
        root = root if root.exists() else Path(str(root).partition("{")[0] + "x").parent  # a pattern of shards
        cards = {name: _keep(images, name, folder, root, request) for name, images in parts.items()}
        sizes = Sizes(size=train.size, source_size=train.source_size, reason=train.size_reason)
        card = Card(sizes=sizes, parts=cards, reading=train.reading)
        with write_cached(folder / MANIFEST, cache_dir) as file:
            file.write((json.dumps(card.as_json(), indent=2) + "\n").encode())
        _leave_only_the_pack(folder, card)
    return Packed(out, card, time.monotonic() - start)


def _is_same(a: ImageSet, b: ImageSet) -> bool:
    """Whether both hold the same images with the same labels; files are compared by path, arrays by pixels."""
    if len(a) != len(b) or a.class_names != b.class_names or not _equal(a.labels, b.labels):
        return False
    if a.paths or b.paths:
        return a.paths == b.paths
    if a.source_size != b.source_size:
        return False
    parts = np.array_split(np.arange(len(a)), range(_COPIED, len(a), _COPIED))
    return all(np.array_equal(a.read(rows), b.read(rows)) for rows in parts)


def _equal(a: np.ndarray | None, b: np.ndarray | None) -> bool:
    return a is b if a is None or b is None else np.array_equal(a, b)


def _keep(images: ImageSet, part: str, folder: Path, root: Path, request: Request) -> PartCard:
    """Write the pixels and labels of a part, and describe them."""
    assert request.cache_dir is not None
    assert images.pixels is not None  # loader.cache_gb is infinite, so every set fits
    pixels, target = images.pixels, pixels_file(folder, part)
    written = _file_of(pixels) if images.rows is None else None
    if written is not None and written.parent == folder:
        os.replace(written, target)
    else:
        pixels, _ = write_rows(target, images.shape, _copied(images, request), len(images), request.cache_dir)
    return PartCard(
        name=images.name,
        images=len(pixels),
        crc=sample_crc(pixels),
        labels_crc=_keep_column(images.labels, labels_file(folder, part), request.cache_dir),
        files_crc=_keep_column(images.of_file, numbers_file(folder, part), request.cache_dir),
        class_names=images.class_names,
        side_range=images.side_range,
        notes=(*images.notes, *images.pixel_notes),
        label_notes=images.label_notes,
        skipped=tuple(Skipped(_below(each.path, root), each.reason) for each in images.skipped),
    )


def _keep_column(values: np.ndarray | None, path: Path, cache_dir: CacheDir) -> int | None:
    """Write one integer for each image and return the checksum of the file; without any there is no file, and None."""
    if values is None:
        return None
    buffer = io.BytesIO()
    np.save(buffer, values.astype(np.int64))
    with write_cached(path, cache_dir) as file:
        file.write(buffer.getvalue())
    return zlib.crc32(buffer.getvalue())


def _file_of(pixels: np.ndarray) -> Path | None:
    """The file that holds exactly these pixels as the cache writes them, or None."""
    if not isinstance(pixels, np.memmap) or pixels.filename is None:
        return None
    path = Path(pixels.filename)
    is_all = pixels.offset == HEADER_BYTES and pixels.flags.c_contiguous
    return path if is_all and path.is_file() and path.stat().st_size == HEADER_BYTES + pixels.nbytes else None


def _copied(images: ImageSet, request: Request) -> Iterator[Rows]:
    def work(index: Sequence[int]) -> Rows:
        return images.read(np.asarray(index)), {}

    return map_chunks(work, range(len(images)), chunk=_COPIED, title="writing images", console=request.console)


def _below(path: str, root: Path) -> str:
    """A file's path below the source, so that a pack holds no paths of the machine it was made on."""
    return path.removeprefix(printable(str(root)) + "/")


def _refuse_occupied(out: Path) -> None:
    if out.exists() and not out.is_dir():
        raise UserError(f"--out {out} is a file; give a folder that does not exist yet.")
    if out.exists() and any(out.iterdir()):
        what = "a pack already" if (out / MANIFEST).exists() else "other files"
        raise UserError(f"--out {out} holds {what}. Choose another --out, or delete it first.")


@contextlib.contextmanager
def _appearing(out: Path) -> Iterator[Path]:
    """A new folder, renamed to `out` if the block succeeds and deleted otherwise."""
    out = out.absolute()
    prefix = f".{out.name}.unfinished-"
    temporary = None
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        _delete_abandoned(out.parent, prefix)
        temporary = Path(tempfile.mkdtemp(dir=out.parent, prefix=prefix)).resolve()
        yield temporary
        for file in temporary.iterdir():
            file.chmod(0o644)  # packs are shared; temporary files are for their owner only
        temporary.chmod(0o755)
        os.replace(temporary, out)
    except OSError as error:
        raise UserError(f"the pack {out} cannot be written: {error.strerror}. {ADVICE}") from error
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)  # gone already when the rename worked


def _delete_abandoned(parent: Path, prefix: str) -> None:
    """Delete what a killed `pack` of the same name left; one that still runs has written in the last hour."""
    for old in parent.glob(glob.escape(prefix) + "*"):
        with contextlib.suppress(OSError):
            if time.time() - max(path.stat().st_mtime for path in (old, *old.iterdir())) > ABANDONED_SECONDS:
                shutil.rmtree(old)


def _leave_only_the_pack(folder: Path, card: Card) -> None:
    """Delete the cache's notes on files and headers, which only meant something while the pack was made."""
    kept = {folder / MANIFEST} | {pixels_file(folder, part) for part in card.parts}
    kept |= {labels_file(folder, part) for part, about in card.parts.items() if about.labels_crc is not None}
    kept |= {numbers_file(folder, part) for part, about in card.parts.items() if about.files_crc is not None}
    for file in set(folder.iterdir()) - kept:
        file.unlink()
