"""What files and streams share once their headers are read: sides, decoding, unreadable images, the ImageSet."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from eigenview.config.reading import Reading
from eigenview.data.images import File, ImageSet, Skipped, printable
from eigenview.data.pixels.byte_ranges import files_of_paths
from eigenview.data.pixels.cache import Entry
from eigenview.data.pixels.decode import Sample, sample
from eigenview.data.pixels.headers import BITS, CHANNELS, PAGES, SHORT
from eigenview.data.pixels.image_files import Unreadable
from eigenview.data.pixels.image_size import choose_sizes
from eigenview.data.pixels.parallel import Rows, joined, map_chunks
from eigenview.data.pixels.ranges import MEASURED, Measured, decided, kept_range, measure, range_note, sampled_rows
from eigenview.data.sources.folder import Labelled
from eigenview.data.sources.source import Request
from eigenview.data.sources.tiles import fit_notes
from eigenview.errors import UserError
from eigenview.runfiles.schema import misfit


def encoded_set(
    headers: Rows,
    paths: Sequence[str],
    decode: Callable[[int, int, Reading, str], Rows],
    classes: Callable[[Sequence[int]], Labelled],
    measured: Callable[[np.ndarray, int, Reading], Measured],
    request: Request,
    *,
    name: str,
    not_listed: tuple[Skipped, ...] = (),
    notes: tuple[str, ...] = (),
    pixel_notes: tuple[str, ...] = (),
    files: tuple[File, ...] = (),
) -> ImageSet:
    """The readable images of `paths`, with the unreadable ones listed as skipped.

    headers: of `decode.headers`, zeros if a header is unreadable, and the reasons there. decode(side, n,
    reading, key) gives the pixels of all readable images, of which there are at most n, made by `reading`, which `key`
    stands for in the cache; it is called if they fit into loader.cache_gb, otherwise images are decoded when they are
    read. classes(rows): labels of the rows that are kept. measured(rows, bits, reading):
    what the values of some of the images `rows`, of up to so many bits, say of the range.
    """
    rows, broken = headers
    sides = rows[:, SHORT].astype(np.int64)
    count = int(np.count_nonzero(sides))
    sizes = choose_sizes(
        int(np.median(sides[sides > 0])), request.size, request.source_size, request.multiple, request.most_size
    )
    pixels = None
    if request.check is not None:
        request.check(count, classes([i for i in range(len(paths)) if i not in broken])[0] is not None)
    check_channels(rows, request.reading, printable(name))
    reading, about = choose_range(rows, measured, request, printable(name))
    if count * reading.channels * sizes.source_size**2 <= request.loader.cache_gb * 1e9:
        key = reading.key(has_deep=bool((rows[:, BITS] > 8).any()))
        pixels, broken = decode(sizes.source_size, count, reading, key)
    kept = [i for i in range(len(paths)) if i not in broken]
    labels, class_names, note = classes(kept)
    return ImageSet(
        name=printable(name),
        pixels=pixels,
        paths=tuple(paths[i] for i in kept),
        labels=labels,
        class_names=class_names,
        source_size=sizes.source_size,
        size=sizes.size,
        size_reason=sizes.reason,
        side_range=(int(sides[kept].min()), int(sides[kept].max())),
        skipped=not_listed + tuple(Skipped(printable(paths[i]), reason) for i, reason in sorted(broken.items())),
        notes=notes,
        pixel_notes=pixel_notes + fit_notes(rows, reading.fit) + about,
        label_notes=(note,) if note else (),
        files=files,
        of_file=files_of_paths([paths[i] for i in kept]),
        reading=reading,
    )


def check_channels(rows: np.ndarray, reading: Reading, name: str) -> None:
    """Raises UserError if none of the images whose headers are `rows` has the channels that are asked for."""
    sound, asked = rows[rows[:, SHORT] > 0], reading.channels
    several = sound[sound[:, PAGES] > 1]
    if reading.pages == "channels" and len(several):
        pages = Counter(several[:, PAGES].astype(int).tolist()).most_common(1)[0][0]
        if not (several[:, PAGES] == asked).any():
            raise UserError(
                f"{name}: files have {pages} pages, each of which is a channel (--pages channels), and --channels is "
                f"{asked}. Give --channels {pages}."
            )
    elif asked not in (1, 3) and not (sound[:, CHANNELS] == asked).any():
        found = Counter(sound[:, CHANNELS].astype(int).tolist()).most_common(1)[0][0]
        advice = " With --pages channels each page of a file is one." if (several[:, PAGES] == asked).any() else ""
        raise UserError(
            f"{name}: files have {found} channel{'s' if found > 1 else ''}, and --channels is {asked}. "
            f"Leave it out.{advice}"
        )


def choose_range(
    rows: np.ndarray, measured: Callable[[np.ndarray, int, Reading], Measured], request: Request, name: str
) -> tuple[Reading, tuple[str, ...]]:
    """The reading of `request` with the range of the images whose headers are `rows`, and a sentence about it.

    A range that was decided for other images, those of the encoder, stays. Otherwise it raises UserError if one grey
    level is left.
    """
    reading = request.reading
    count = int(np.count_nonzero(rows[:, SHORT]))
    used = np.flatnonzero((rows[:, SHORT] > 0) & ((rows[:, BITS] > 8) | reading.applies_to(8)))
    if not len(used):
        return reading, ()
    if not reading.is_open and (reading.is_measured or request.is_decided):
        kept = kept_range(reading) if reading.low else "the full range of their type"
        return reading, (f"{kept}, as the encoder was trained with",)
    found = measured(used, int(rows[used, BITS].max()), reading)
    reading = decided(reading, found, name)
    return reading, (range_note(reading, found, len(used), count),)


def measured_range(
    entry: Entry | None,
    rows: np.ndarray,
    bits: int,
    reading: Reading,
    name: str,
    read: Callable[[np.ndarray], Sequence[Sample]],
) -> Measured:
    """What the values of some of the images `rows`, which `read` reads, say of the range; kept in `entry`, if given."""
    asked = reading.asked
    kind = f"range-{asked.kind}-{asked.low!r}-{asked.high!r}-{reading.channels}-{reading.pages}"
    known = None if entry is None else entry.known(kind)
    if known is not None and misfit(known, MEASURED) is None:
        values: dict[str, Any] = {name: tuple(each) if isinstance(each, list) else each for name, each in known.items()}
        return Measured(**values)
    samples = read(sampled_rows(rows))
    paged = [each for each in samples if each.is_paged]
    used = paged or samples
    has_own = bool(paged) or reading.channels not in (1, 3)
    found = measure([each.values for each in used], bits, reading, used[0].ends, name, has_own=has_own)
    if entry is not None:
        entry.keep(kind, dataclasses.asdict(found))
    return found


def read_samples(paths: Sequence[str], reading: Reading, source: str) -> list[Sample]:
    """The samples of these images, on all cores, without those that cannot be decoded.

    Raises UserError where none can.
    """

    def work(some: Sequence[str]) -> Rows:
        rows, broken = np.empty(len(some), object), dict[int, str]()
        for i, path in enumerate(some):
            try:
                rows[i] = sample(path, reading)
            except Unreadable as error:
                broken[i] = str(error)
        return rows, broken

    rows, broken = joined(list(map_chunks(work, paths, chunk=4)))
    if len(broken) == len(rows):
        raise UserError(
            f"{source}: none of {len(rows)} images that were looked at for the range of their values can be read "
            f"({printable(paths[0])}: {broken[0]}). Repair or remove them."
        )
    return [each for each in rows if each is not None]


def refuse_unreadable(
    broken: Mapping[int, str],
    count: int,
    *,
    strict: bool,
    source: str,
    name: Callable[[int], str],
    is_complete: bool = True,
) -> None:
    """Raises UserError at the first unreadable image if `strict`, and once all are seen if more than half are.

    `name(i)` is how a message names image i of the `count` images of `source`.
    """
    if not broken:
        return
    first = [f"{name(i)}: {reason}" for i, reason in sorted(broken.items())[:3]]
    if strict:
        raise UserError(
            f"{first[0]}. Repair or remove the file, or leave out --loader.strict (pack: --strict) to skip it."
        )
    if is_complete and 2 * len(broken) > count:
        raise UserError(
            f"{source}: {len(broken)} of {count} image files are unreadable ({'; '.join(first)}). "
            "At most half may be; repair or remove them."
        )
