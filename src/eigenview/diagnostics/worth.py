"""Worth using? The second verdict: an encoder against its baselines on the same test images, with its uncertainty.

Everything is computed from which test images each classifier got right (`runfiles.Hits`). Imports no torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Final, Literal

import numpy as np

Word = Literal["better", "no different", "worse", "mixed", "unknown"]
Right = Mapping[str, np.ndarray]
"""Name of a probe -> bool (R, M): which of M test images were classified correctly, in each of R draws of the labels;
R is 1 for a probe without draws. Of files with several test images float (R, number of files): `Hits.answers`."""

DECIDES: Final = "linear"
"""The probe whose interval gives the word."""
RESAMPLES, LEVEL, LEAST_IMAGES = 2000, 0.95, 20
"""Bootstrap samples; share of intervals that hold the true difference; fewest test images that a word is given for."""
NORMAL_QUANTILE = 1.959964  # of (1 + LEVEL) / 2


@dataclass(frozen=True, kw_only=True)
class Interval:
    """The difference of two accuracies on the same test images, in percentage points, and where it may lie."""

    ours: float
    """Accuracy in percent."""
    theirs: float
    difference: float
    """ours - theirs."""
    low: float
    high: float
    images: int
    """Test images."""
    draws: int
    """Draws of the labels, or runs: how many accuracies each mean is taken over."""

    @property
    def word(self) -> Word:
        """better or worse if 0 lies outside the interval."""
        return "better" if self.low > 0 else "worse" if self.high < 0 else "no different"


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """An encoder against one baseline."""

    word: Word
    probes: Mapping[str, Interval]
    """Name of a probe -> its interval."""


@dataclass(frozen=True, kw_only=True)
class Worth:
    """An encoder against all its baselines."""

    word: Word
    """The least favourable word of all comparisons: better means better than every baseline."""
    why: str = ""
    """Of "unknown": the reason, a clause. Of the others: empty."""
    against: Mapping[str, Comparison]
    """Name of a baseline -> the comparison with it."""
    labels_per_class: int | None = None
    """Labels of the few-label probe."""


ORDER: Final[tuple[Word, ...]] = ("unknown", "worse", "mixed", "no different", "better")
"""Words of the comparisons, the least favourable first."""
NO_LINEAR: Final = "the linear probe, which decides, was not run (--protocol all)"
NO_LABELS: Final = "there are no labels"
UNUSED_LABELS: Final = "no labels are used (--labels none)"


def paired_interval(
    ours: Sequence[np.ndarray], theirs: Sequence[np.ndarray], *, same_images: bool = True, seed: int = 0
) -> Interval:
    """The difference of accuracies of two classifiers on the same test images, with its 95 % bootstrap interval.

    Args:
        ours: a row (M,) for each draw of the labels, or for each run: whether (bool), or in which share of draws
            (float), a test image was classified correctly.
        theirs: the same of the other classifier; row r of both was drawn in the same way.
        same_images: the M images are the same in each row. If not, M may differ from row to row.
        seed: of the resampling.

    Definition. Let x_ri = ours_ri - theirs_ri. Each of 2,000 resamples adds two independent parts: the mean of n
    images drawn with replacement from the means over rows of x_ri (if the images differ from row to row: the mean over
    rows of such means), and the mean of R row deviations x_r - x drawn with replacement, times
    sqrt(R / (R - 1)) t / z. The factor makes up for the small R: a bootstrap of R rows has only (R - 1) / R of their
    variance, and t / z is the 97.5 % quantile of Student's t with R - 1 degrees of freedom over the normal one. The
    part of the rows is left out for R = 1. What chance adds to single images is in both parts, so with several rows the
    interval is rather too wide: in simulations 95 to 99 % of them held the true difference. The interval lies between
    the 2.5 % and the 97.5 % quantile.

    Before images are drawn, one image with x = 1 and one with x = -1 are added (Bonett and Price 2012, "Adjusted Wald
    confidence interval for a difference of binomial proportions based on paired data"): otherwise four images that only
    one classifier got right, and none that only the other did, would count as certain. `difference` is without them.

    Normalisation: in percentage points; the interval is widened, if need be, to hold `difference`.
    """
    pairs = [np.asarray(a, np.float64) - np.asarray(b, np.float64) for a, b in zip(ours, theirs, strict=True)]
    rng = np.random.default_rng(seed)
    found = _of_images([np.mean(pairs, axis=0)] if same_images else pairs, rng)
    rows = np.array([pair.mean() for pair in pairs])
    if len(rows) > 1:
        found = found + _of_rows(rows - rows.mean(), rng)
    low, high = np.quantile(found, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    difference = float(rows.mean())
    return Interval(
        ours=100 * float(np.mean([np.mean(row) for row in ours])),
        theirs=100 * float(np.mean([np.mean(row) for row in theirs])),
        difference=100 * difference,
        low=100 * min(float(low), difference),
        high=100 * max(float(high), difference),
        images=min(map(len, pairs)),
        draws=len(pairs),
    )


def _of_images(pairs: Sequence[np.ndarray], rng: np.random.Generator) -> np.ndarray:
    """(RESAMPLES,) means over `pairs` of means of as many images as each has, drawn with replacement.

    Only how often each value is drawn matters, so counts are drawn: the time does not depend on the number of images.
    Means beyond -1 and 1, to which the first order of `Hits.answers` can lead where one file has most of the tiles, are
    brought back to them.
    """
    means = np.zeros(RESAMPLES)
    for pair in pairs:
        values, counts = np.unique(np.concatenate([pair, [1.0, -1.0]]), return_counts=True)
        drawn = rng.multinomial(counts.sum(), counts / counts.sum(), RESAMPLES)
        means += drawn @ values / (counts.sum() * len(pairs))
    return means.clip(-1, 1)


def _of_rows(deviations: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(RESAMPLES,) means of R deviations drawn with replacement, widened for the small R."""
    from scipy.special import stdtrit  # late: no run needs scipy before its last step

    count = len(deviations)
    wider = np.sqrt(count / (count - 1)) * stdtrit(count - 1, (1 + LEVEL) / 2) / NORMAL_QUANTILE
    return wider * (rng.multinomial(count, np.full(count, 1 / count), RESAMPLES) @ deviations) / count


def compare(ours: Sequence[Right], theirs: Sequence[Right], *, same_images: bool = True) -> Comparison:
    """An encoder against a baseline, over the probes that both have in every run.

    `ours` and `theirs` have an entry for each run. With one run the draws of labels are resampled; with several the
    runs are, each with the mean over its draws.

    better, no different or worse is what the interval of the linear probe says; mixed, if that of another probe says
    the opposite. unknown: fewer than 20 test images, or no linear probe.
    """
    names = [name for name in ours[0] if all(name in right for right in (*ours, *theirs))]
    probes = {}
    for name in names:
        rows = [_rows([right[name] for right in side]) for side in (ours, theirs)]
        # with few labels, runs may have left out different classes
        alike = same_images and len({len(row) for row in rows[0]}) == 1
        probes[name] = paired_interval(*rows, same_images=alike or len(ours) == 1)
    return Comparison(word=_word(probes), probes=probes)


def _rows(of_runs: Sequence[np.ndarray]) -> list[np.ndarray]:
    return list(of_runs[0]) if len(of_runs) == 1 else [right.mean(axis=0) for right in of_runs]


def _word(probes: Mapping[str, Interval]) -> Word:
    decisive = probes.get(DECIDES)
    if decisive is None or decisive.images < LEAST_IMAGES:
        return "unknown"
    opposite = {"better": "worse", "worse": "better"}.get(decisive.word)
    others = [each.word for name, each in probes.items() if name != DECIDES and each.images >= LEAST_IMAGES]
    return "mixed" if opposite in others else decisive.word


def judge_worth(
    ours: Sequence[Right],
    baselines: Mapping[str, Sequence[Right]],
    *,
    same_images: bool = True,
    labels_per_class: int | None = None,
) -> Worth:
    """An encoder against each baseline, as `compare`. The word is the least favourable of all of them."""
    against = {name: compare(ours, each, same_images=same_images) for name, each in baselines.items()}
    if not against:
        return Worth(word="unknown", why="there is no baseline to compare with", against={})
    words = [each.word for each in against.values()]
    word: Word = next(each for each in ORDER if each in words)
    why = ""
    if word == "unknown":
        decisive = next((each.probes[DECIDES] for each in against.values() if DECIDES in each.probes), None)
        why = _too_few(ours, decisive.images) if decisive else NO_LINEAR
    return Worth(word=word, why=why, against=against, labels_per_class=labels_per_class)


def _too_few(ours: Sequence[Right], count: int) -> str:
    if ours[0][DECIDES].dtype != bool:
        return f"the test images come from only {count} file{'' if count == 1 else 's'}"
    return "there is only 1 test image" if count == 1 else f"there are only {count} test images"


def unknown(why: str) -> Worth:
    """The worth of an encoder that nothing was measured of, and why."""
    return Worth(word="unknown", why=why, against={})


def to_summary(worth: Worth) -> dict[str, Any]:
    """The field `worth` of summary.json (runfiles)."""
    return {**asdict(worth), "resamples": RESAMPLES, "level": LEVEL}


def from_summary(values: Mapping[str, Any]) -> Worth:
    """`to_summary` read back; its form was checked by `runfiles.read_summary`."""
    names = [field.name for field in fields(Interval)]
    against = {
        name: Comparison(
            word=each["word"],
            probes={probe: Interval(**{key: one[key] for key in names}) for probe, one in each["probes"].items()},
        )
        for name, each in values["against"].items()
    }
    few = values.get("labels_per_class")
    return Worth(word=values["word"], why=values.get("why", ""), against=against, labels_per_class=few)
