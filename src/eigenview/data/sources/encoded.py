"""What files and streams share once their headers are read: sides, decoding, unreadable images, the ImageSet."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from eigenview.config.reading import Reading
from eigenview.data.images import File, ImageSet, Skipped, printable
from eigenview.data.pixels.decode import header_notes
from eigenview.data.pixels.image_size import choose_sizes
from eigenview.data.pixels.parallel import Rows
from eigenview.data.sources.folder import Labelled
from eigenview.data.sources.source import Request
from eigenview.errors import UserError


def encoded_set(
    headers: Rows,
    paths: Sequence[str],
    decode: Callable[[int, int, Reading, str], Rows],
    classes: Callable[[Sequence[int]], Labelled],
    request: Request,
    *,
    name: str,
    not_listed: tuple[Skipped, ...] = (),
    notes: tuple[str, ...] = (),
    files: tuple[File, ...] = (),
) -> ImageSet:
    """The readable images of `paths`, with the unreadable ones listed as skipped.

    headers: of `decode.headers`, zeros if a header is unreadable, and the reasons there. decode(side, n,
    reading, key) gives the pixels of all readable images, of which there are at most n, made by `reading`, which `key`
    stands for in the cache; it is called if they fit into loader.cache_gb, otherwise images are decoded when they are
    read. classes(rows): labels of the rows that are kept.
    """
    rows, broken = headers
    sides = rows[:, 0].astype(np.int64)
    count = int(np.count_nonzero(sides))
    sizes = choose_sizes(int(np.median(sides[sides > 0])), request.size, request.source_size, request.multiple)
    pixels, reading = None, request.reading
    if request.check is not None:
        request.check(count, classes([i for i in range(len(paths)) if i not in broken])[0] is not None)
    if count * reading.channels * sizes.source_size**2 <= request.loader.cache_gb * 1e9:
        key = reading.key(has_deep=bool((rows[:, 1] > 8).any()))
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
        notes=notes + header_notes(rows),
        label_notes=(note,) if note else (),
        files=files,
        reading=reading,
    )


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
