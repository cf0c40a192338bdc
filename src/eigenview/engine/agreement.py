"""What all processes of a run must have found alike before they train together."""

from __future__ import annotations

from collections.abc import Mapping

from eigenview.distributed import gather_lists
from eigenview.errors import UserError


def check_agreement(found: Mapping[str, object]) -> None:
    """Raises UserError, on every process, if a process has found something else than the first one.

    `found`: what it is -> value. Every process has to call it.
    """
    everyone = gather_lists([dict(found)])
    first = everyone[0]
    for number, theirs in enumerate(everyone):
        for what, value in theirs.items():
            if value != first[what]:
                raise UserError(
                    f"process {number} of {len(everyone)} finds {what} {value}, process 0 finds {first[what]}. All "
                    "machines must see the same data and the same run directory (--out)."
                )
