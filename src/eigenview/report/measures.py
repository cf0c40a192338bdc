"""Names and meanings, for the page, of the measures in diagnostics.jsonl and summary.json.

A measure that is not listed here is still shown, under its own key.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple


class Measure(NamedTuple):
    """Name for readers, and its meaning in one phrase."""

    name: str
    meaning: str


MEASURES = {
    "spread": Measure("spread", "1 if features vary like independent ones, 0 if all images are at one point"),
    "std": Measure("std", "standard deviation over images, mean over features"),
    "std_min": Measure("smallest std", "standard deviation of the feature that varies least"),
    "std_l2": Measure("std on the sphere", "std of unit-length features times √width: 1 is isotropic"),
    "rms": Measure("rms", "root mean square entry"),
    "mean_to_spread": Measure(
        "mean to spread", "length of the mean over the distance to it: large if images are close"
    ),
    "rankme": Measure("RankMe", "number of directions in use, from the singular values, not centred"),
    "rankme_centred": Measure("RankMe, centred", "number of directions in use after removing the mean"),
    "effective_rank": Measure("effective rank", "number of directions in use, from the eigenvalues of the covariance"),
    "participation_ratio": Measure(
        "participation ratio", "number of directions in use: (sum)² of eigenvalues / sum of squares"
    ),
    "bias_ratio": Measure("bias ratio", "inflation of the squared covariance by chance: large in small batches"),
    "alpha": Measure("alpha-ReQ", "decay of the spectrum: eigenvalues fall as 1 / rank^alpha, fitted to ranks 4 to 50"),
    "correlation": Measure("correlation", "mean absolute correlation of two features: 0 is decorrelated"),
    "alignment": Measure("alignment", "mean squared distance of two views of an image, 0 to 4: low is invariant"),
    "uniformity": Measure("uniformity", "log of the mean kernel between images, −8 to 0: low is evenly spread"),
    "cosine_views": Measure("cosine of views", "mean cosine of two views of one image: 1 is invariant"),
    "cosine_others": Measure("cosine of others", "mean cosine of two different images: 0 is spread out, 1 is collapse"),
}

SPREAD = ("spread", "std_l2")
RANK = ("effective_rank", "rankme_centred", "rankme")
"""Keys of the effective rank in order of preference; the verdict uses the first."""
HEADLINES = ("rankme", "rankme_centred", "alpha", "alignment", "uniformity", "spread")
"""Measures that the page shows at once; the others are folded."""
COMPARED = ("rankme_centred", "alpha", "alignment", "uniformity")
"""Columns of the table of several runs."""


def first_present(keys: Iterable[str], wanted: tuple[str, ...]) -> str | None:
    """The first of `wanted` among `keys`."""
    known = set(keys)
    return next((name for name in wanted if name in known), None)
