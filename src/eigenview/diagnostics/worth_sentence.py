"""Both verdicts in one sentence, for a reader who has never heard of rank: did it collapse, and is it worth using?"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from eigenview.diagnostics.baselines import IMPORTANCE, PHRASES, RECALIBRATED, STARTED_FROM
from eigenview.diagnostics.worth import DECIDES, NO_LABELS, UNUSED_LABELS, Interval, Word, Worth

Tone = Literal["good", "warn", "bad", "open"]
"""good: usable and better than every baseline; warn: usable, but not better; bad: collapsed or diverged; open: not
known."""
COLOURS: dict[Tone, str] = {"good": "green", "warn": "yellow", "bad": "red", "open": "yellow"}
"""Of the sentence in a terminal."""
OPENINGS = {
    "healthy": "Not collapsed",
    "complete collapse": "Collapsed: all images map to nearly one point",
    "dimensional collapse": "Collapsed: images differ in a few directions only",
    "diverged": "Diverged: training broke down",
    "too early to judge": "Too early to tell whether it collapses",
}
"""How the sentence begins, by the label of the first verdict."""
BROKEN = ("complete collapse", "dimensional collapse", "diverged")
FEW = "linear_few"
CLAUSES = {
    "better": "better than {}",
    "no different": "no better than {}",
    "worse": "worse than {}",
    "mixed": "the probes disagree whether it is better than {}",
}
UNCERTAIN = "not certain to be better than {}"
"""Of an encoder that is ahead by less than chance can be."""
LONGER = "Train longer (--epochs)."
START = "Train longer (--epochs), or start from pretrained weights (--weights)."
TOO_EASY = "No encoder can be better than 100 %: compare on labels that are harder to tell apart."
ROUNDING = 1e-9
"""Percentage points that are rounding errors."""
REFUSE = "Do not use this encoder."
KEEP = "Keep that one, or see docs/adapt.md."


class Sentence(NamedTuple):
    """Both verdicts. A page shows the beginning larger than the rest."""

    head: str
    """What became of the encoder, without numbers."""
    rest: str
    """Numbers and advice, from the colon or full stop behind the beginning."""
    tone: Tone

    @property
    def text(self) -> str:
        """The whole."""
        return self.head + self.rest


def first_sentence(label: str | None, worth: Worth, *, run: str = "RUN") -> Sentence:
    """Both verdicts.

    Args:
        label: the first verdict (verdict.py), or None for an encoder of which only accuracies are known.
        worth: the second verdict.
        run: the encoder in the command that the sentence advises, which quotes it for the shell.
    """
    opening, tone = "" if label is None else OPENINGS.get(label, label.capitalize()), tone_of(label, worth.word)
    if worth.word == "unknown" and label not in ("healthy", None):
        return Sentence(opening, f". {REFUSE if label in BROKEN else LONGER}", tone)
    if worth.word == "unknown":
        head, rest = _unknown(worth, run)
        return Sentence(f"{opening}. {head}" if opening else head, rest, tone)
    is_better = worth.word == "better"
    clause, measured = clause_and_numbers(worth)
    if label in BROKEN:
        joint, end = ", although " if is_better else ", and ", REFUSE
    elif label == "healthy":
        joint, end = ", and " if is_better else ", but ", _advice(worth, START)
    elif label is None:
        joint, end = "", _advice(worth, LONGER)
        clause = clause[:1].upper() + clause[1:]
    else:
        joint, end = "; so far ", LONGER
    return Sentence(f"{opening}{joint}{clause}", f": {measured}. {end}".rstrip(), tone)


def tone_of(label: str | None, word: Word | None) -> Tone:
    """Of both verdicts; None for one that is not known."""
    if label in BROKEN:
        return "bad"
    if label not in ("healthy", None) or word in ("unknown", None):
        return "open"
    return "good" if word == "better" else "warn"


def _unknown(worth: Worth, run: str) -> tuple[str, str]:
    """What is not known, and what to do about it."""
    run = shlex.quote(run)
    if worth.why == NO_LABELS:
        advice = f"label 10 images a class, then eigenview probe {run} --data LABELLED."
        return "Whether it is worth using cannot be known without labels", f": {advice}"
    if worth.why == UNUSED_LABELS:
        return (
            "Whether it is worth using is not known",
            f": {worth.why}. To measure it: eigenview probe {run} --data LABELLED.",
        )
    name = _named(worth)
    measured = worth.against[name].probes.get(DECIDES) if name else None
    if name is None or measured is None:
        return "Whether it is worth using is not known", f": {worth.why}."
    of = f"{worth.why} ({numbers(DECIDES, measured)}). Label more images."
    return f"Whether it is better than {PHRASES.get(name, name)} is uncertain", f": {of}"


def clause_and_numbers(worth: Worth) -> tuple[str, str]:
    """The word and the baseline it is about; and the numbers. Not of "unknown"."""
    name = _named(worth)
    assert name is not None  # only an unknown worth has no baseline
    probes = worth.against[name].probes
    whom, parts = PHRASES.get(name, name), [numbers(DECIDES, probes[DECIDES])]
    if worth.word == "better" and STARTED_FROM not in worth.against and len(worth.against) > 1:
        parts[0] = f"the closest is {whom}, {parts[0]}"
        *others, last = [PHRASES.get(each, each) for each in worth.against]
        whom = f"{', '.join(others)} and {last}"
    for probe, each in probes.items():
        title = _title(probe, worth.labels_per_class)
        if probe == DECIDES:
            continue
        if worth.word == "better" and probe == FEW:
            parts.append(f"{title} {each.ours:.1f} % against {each.theirs:.1f} %")
        elif each.word not in (probes[DECIDES].word, "no different"):
            parts.append(f"{title} it is {each.word}, {numbers('', each)}")
    clause = UNCERTAIN if worth.word == "no different" and probes[DECIDES].difference > 0 else CLAUSES[worth.word]
    return clause.format(whom), "; ".join(parts)


def _named(worth: Worth) -> str | None:
    """The baseline that the sentence is about: of those with the word of the whole the most important one, or, if it is
    better than all, the backbone it started from or else the closest."""
    deserving = [name for name, each in worth.against.items() if each.word == worth.word]
    if not deserving:
        return None
    if worth.word == "better" and STARTED_FROM not in deserving:
        return min(deserving, key=lambda name: worth.against[name].probes[DECIDES].difference)
    return min(deserving, key=lambda name: IMPORTANCE.index(name) if name in IMPORTANCE else len(IMPORTANCE))


def _advice(worth: Worth, train: str) -> str:
    """What to do: `train`, or what is better than that."""
    if worth.word == "better":
        return ""
    if worth.word == "mixed":
        return "Decide by the probe that is closest to your use."
    name = _named(worth)
    assert name is not None
    is_adapted, decisive = name in (STARTED_FROM, RECALIBRATED), worth.against[name].probes[DECIDES]
    if worth.word == "worse" or decisive.difference <= 0:
        if is_adapted:
            return KEEP
        if decisive.theirs > 100 - ROUNDING:
            return TOO_EASY
        return LONGER if STARTED_FROM in worth.against else train
    few = "seeds and test images" if decisive.draws > 1 else "test images"
    other = "keep that one." if is_adapted else "train longer (--epochs)."
    return f"There are too few {few} to be certain: add more, or {other}"


def numbers(title: str, each: Interval) -> str:
    """`linear 79.8 % against 77.5 % (+2.3, 95 % interval +1.1 to +3.4)`."""
    text = f"{title} {each.ours:.1f} % against {each.theirs:.1f} % "
    return (text + f"({signed(each.difference)}, 95 % interval {signed(each.low)} to {signed(each.high)})").lstrip()


def signed(points: float) -> str:
    """One decimal with its sign, and two where one would round to 0: whether an interval holds 0 must show. 0 has no
    sign."""
    text = f"{points:+.1f}"
    if float(text) or abs(points) < ROUNDING:
        return text if float(text) else "0.0"
    closer = f"{points:+.2f}"
    return closer if float(closer) else text


def _title(probe: str, labels_per_class: int | None) -> str:
    if probe == FEW:
        return "with few labels" if labels_per_class is None else f"with {labels_per_class} labels per class"
    return "by k-NN" if probe == "knn" else f"by {probe}"


def signs_without_labels(first: Mapping[str, Any] | None, last: Mapping[str, Any]) -> str:
    """What can be parts of features without labels, from two rows of measures (measures.py): those of the untrained
    network and the last ones. Empty if nothing was measured."""
    rank = last.get("effective_rank")
    if rank is None:
        return ""
    before = None if first is None else first.get("effective_rank")
    text = f"Signs without labels: the features vary in about {rank:.0f} independent directions"
    text += "" if before is None else f" ({before:.0f} before training)"
    agree, others = last.get("cosine_views"), last.get("cosine_others")
    if agree is not None and others is not None:
        text += f"; cosine of two views of an image {agree:.2f}, of two images {others:.2f}"
    return text + "."
