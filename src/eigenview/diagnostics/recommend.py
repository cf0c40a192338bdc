"""Which of several encoders to take, in one sentence, or why none can be recommended. From numbers alone."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from eigenview.diagnostics.worth import DECIDES, Interval, Right, Word, compare
from eigenview.diagnostics.worth_sentence import BROKEN, numbers

UNDECIDED: Mapping[Word, tuple[str, str]] = {
    "no different": ("there is no clear difference between", "Take the smaller or faster one."),
    "mixed": ("the probes disagree about", "Decide by the probe that is closest to your use."),
    "unknown": ("there are too few test images to compare", "Label more images."),
    "worse": ("none is ahead of every other one among", "Run all of them with the same seeds (--seed)."),
}
"""Why none is recommended, and what to do, by the word of the best one against another. Worse: with different seeds
each one can be behind another one."""


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A run, or runs that differ in their seed only, or an encoder."""

    name: str
    """How sentences call it."""
    places: tuple[str, ...]
    """What to type to name its runs on the command line."""
    label: str | None
    """The first verdict (verdict.py), or None if only accuracies are known."""
    worth: Word
    """The second verdict."""
    right: Mapping[int, Right]
    """Seed -> which test images each probe got right; empty if that was not kept."""
    images: Mapping[int, str]
    """Seed -> the hash of the test images."""


def recommend(candidates: Sequence[Candidate]) -> str:
    """The sentence; empty for fewer than two candidates."""
    if len(candidates) < 2:
        return ""
    sound = [each for each in candidates if each.label in ("healthy", None)]
    if not sound:
        labels = _joined([f"{each.name} ({each.label})" for each in candidates])
        return f"None of these can be recommended: {labels}."
    dropped = [each for each in candidates if each not in sound]
    rest = f" Not considered: {_joined([f'{each.name} ({each.label})' for each in dropped])}." if dropped else ""
    if len(sound) == 1:
        why = "collapsed or diverged" if all(each.label in BROKEN for each in dropped) else "cannot be judged"
        return f"Take {sound[0].name}: every other one {why}.{_reservation(sound[0])}{rest}"
    hindrance = _hindrance(sound)
    if hindrance:
        command = " ".join(shlex.quote(place) for each in sound for place in each.places)
        return (
            f"None of these can be recommended: {hindrance}. Compare them with: eigenview probe {command} "
            f"--data LABELLED.{rest}"
        )
    return _of_comparable(sound) + rest


def _hindrance(candidates: Sequence[Candidate]) -> str:
    """Why they cannot be compared; empty if they can."""
    unkept = [each.name for each in candidates if not each.right]
    if unkept:
        return f"which test images were right is not known of {_joined(unkept)}"
    if any(DECIDES not in right for each in candidates for right in each.right.values()):
        return "the linear probe was not run on all of them"
    best = _best(candidates)
    for other in candidates:
        if not _pairs(best, other):
            return f"{best.name} and {other.name} were not tested on the same images"
    return ""


def _best(candidates: Sequence[Candidate]) -> Candidate:
    """The one whose smallest lead is the largest. Accuracies of different seeds are of different test images, so each
    lead is taken on what the two have in common."""

    def lead(one: Candidate, other: Candidate) -> float:
        gains = [one.right[a][DECIDES].mean() - other.right[b][DECIDES].mean() for a, b in _pairs(one, other)]
        return float(np.mean(gains)) if gains else math.inf  # unknown: `_hindrance` says so of the best one

    return max(candidates, key=lambda one: min(lead(one, other) for other in candidates if other is not one))


def _pairs(one: Candidate, other: Candidate) -> list[tuple[int, int]]:
    """Seeds of both, side by side: the seeds that both have, else in order; only those with the same test images."""
    common = sorted(set(one.right) & set(other.right))
    both = [(seed, seed) for seed in common] or list(zip(sorted(one.right), sorted(other.right), strict=False))
    return [(a, b) for a, b in both if one.images[a] == other.images[b] and _same_rows(one.right[a], other.right[b])]


def _same_rows(one: Right, other: Right) -> bool:
    return DECIDES in other and one[DECIDES].shape == other[DECIDES].shape


def difference(one: Candidate, other: Candidate) -> tuple[Word, Interval]:
    """`compare` of two candidates that have test images in common: the word, and the interval of the linear probe."""
    pairs = _pairs(one, other)
    sides = [one.right[a] for a, _ in pairs], [other.right[b] for _, b in pairs]
    shapes = [[{p: r for p, r in right.items() if _fits(p, r, sides)} for right in side] for side in sides]
    found = compare(*shapes, same_images=len({one.images[a] for a, _ in pairs}) == 1)
    return found.word, found.probes[DECIDES]


def _fits(probe: str, right: object, sides: tuple[list[Right], list[Right]]) -> bool:
    """Whether a probe was measured in the same way on both sides: as many test images and draws in each pair."""
    return all(probe in a and probe in b and a[probe].shape == b[probe].shape for a, b in zip(*sides, strict=True))


def _of_comparable(candidates: Sequence[Candidate]) -> str:
    best = _best(candidates)
    found = {each.name: difference(best, each) for each in candidates if each is not best}
    equal = {name: each for name, each in found.items() if each[0] != "better"}
    if not equal:
        closest = min(found, key=lambda name: found[name][1].difference)
        others = f"better than {_joined(list(found))}"
        more = f"the closest is {closest}, " if len(found) > 1 else ""
        return f"Take {best.name}: {others}: {more}{numbers(DECIDES, found[closest][1])}.{_reservation(best)}"
    name, (word, interval) = min(equal.items(), key=lambda item: item[1][1].difference)
    what, advice = UNDECIDED[word]
    more = f" Both are better than {_joined(better)}." if (better := [n for n in found if n not in equal]) else ""
    if len(equal) > 1:
        more = more.replace("Both", "These")
    of = _joined([best.name, *equal]) if len(equal) > 1 else f"{best.name} and {name}"
    return (
        f"None of these can be recommended over the others: {what} {of} ({numbers(DECIDES, interval)}). "
        f"{advice}{more}{_reservation(best)}"
    )


def _reservation(candidate: Candidate) -> str:
    """What must be known besides, if it is not better than its own baselines."""
    but = {
        "no different": "no better than its baselines",
        "worse": "worse than one of its baselines",
        "mixed": "not better than its baselines by every probe",
    }.get(candidate.worth)
    return f" But it is {but}." if but else ""


def _joined(names: Sequence[str]) -> str:
    return " and ".join(names) if len(names) < 3 else f"{', '.join(names[:-1])} and {names[-1]}"
