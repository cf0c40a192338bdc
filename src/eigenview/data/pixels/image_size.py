"""The side of the views and the reason for it: chosen from the data unless the user gives one."""

from __future__ import annotations

from dataclasses import dataclass

SIDES = (16, 24, 28, 32, 48, 64, 96, 128, 160, 192, 224)
"""Sides chosen from the data. 28 is there for the many 28 x 28 sets: shrinking them to 24 would only lose pixels."""


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """Side of the views, side of the stored squares they are cut from (both in pixels), and the reason."""

    size: int
    source_size: int
    reason: str


def choose_sizes(
    median: int,
    size: int | None = None,
    source_size: int | None = None,
    multiple: int = 1,
    most_size: int | None = None,
) -> Sizes:
    """Sides for images whose median short side is `median`.

    The largest of SIDES that is not above the median, at least 16, brought to the nearest multiple of `multiple` (the
    encoder's patch), unless `size` is given. With weights to start from, `most_size` is the side they were trained at,
    which is taken where the originals are at least as large. Images are stored at the same side, or at 8/7 of it (256
    for 224, the usual margin) where the originals are at least a quarter larger.
    """
    if size is not None:
        chosen, reason = size, "as asked for"
    else:
        sides = SIDES if most_size is None else (*(side for side in SIDES if side < most_size), most_size)
        chosen = max((side for side in sides if side <= median), default=sides[0])
        reason = f"because the median side is {median}"
        reason += " and the weights were trained at that side" if chosen == most_size else ""
        reason += f" and views have at least {SIDES[0]} px" if median < SIDES[0] else ""
        if chosen % multiple:
            chosen = max(1, (chosen + multiple // 2) // multiple) * multiple
            reason += f" and the encoder takes patches of {multiple} px"
    margin = chosen if median < 1.25 * chosen else round(chosen * 8 / 7)
    return Sizes(size=chosen, source_size=source_size or margin, reason=reason)
