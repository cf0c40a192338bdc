"""Healthy, collapsed, diverged or too early to judge: the judgement of a run, from rows of numbers alone.

Complete collapse: all images map to (nearly) one point. Dimensional collapse: they differ, but in a few directions of
many. Diverged: numbers left the range of finite or sensible values. The limits are in thresholds.py.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from eigenview.config import RunConfig
from eigenview.diagnostics.remedies import applicable, remedies
from eigenview.diagnostics.thresholds import THRESHOLDS as LIMITS
from eigenview.records import Card

Label = Literal["healthy", "complete collapse", "dimensional collapse", "diverged", "too early to judge"]
EARLY: Final = "too early to judge"
Finding = tuple[Label, str]
"""A label and the sentence with the number that decided it."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What became of a run or of a set of features."""

    label: Label
    since_epoch: float | None
    """First epoch diagnosed with the label and ever since, or None where healthy, too early or unknown."""
    reason: str
    """A clause with the measured numbers, to stand after "healthy: "."""
    remedies: tuple[str, ...]
    """What to try, the likeliest first."""
    notes: tuple[str, ...]
    """What else is worth knowing."""


def judge(
    history: Sequence[Mapping[str, Any]],
    card: Card,
    *,
    width: int,
    failure: str | None = None,
    batch_size: int | None = None,
    config: RunConfig[Any] | None = None,
) -> Verdict:
    """The verdict of a run from its rows of diagnostics.jsonl in order, the untrained network's at step 0 included.

    `width` is D, `failure` the message of a run that stopped itself. Batch-size notes use `batch_size`, or the held-out
    images if it is None. Nothing is advised that `config` has already; without one, all that the card lists is. The
    last row decides; before `first_judged_step` steps only divergence is judged. A run whose numbers exploded on the
    way and that ends collapsed has diverged: the collapse is reported as its consequence.
    """
    trained = [row for row in history if row["step"] > 0]
    exploded = next(((row["epoch"], why) for row in trained if (why := _explosion(row)) is not None), None)
    if failure is not None:
        return _verdict("diverged", card, failure.rstrip("."), None if exploded is None else exploded[0], config=config)
    findings = [_finding(row, card, width) for row in trained]
    label, reason = findings[-1] if findings else (EARLY, "no diagnosis after a step of training")
    if exploded is not None and label != "healthy":
        return _verdict("diverged", card, exploded[1], exploded[0], config=config)
    if label == EARLY:
        return _verdict(label, card, reason)
    if label == "healthy":
        notes = (*_lost_rank(history[0], trained[-1]), *_notes(trained[-1], card, batch_size, config))
        return _verdict(label, card, reason, None, notes)
    first = len(findings) - 1
    while first > 0 and findings[first - 1][0] == label:
        first -= 1
    return _verdict(label, card, reason, trained[first]["epoch"], config=config)


def judge_features(measures: Mapping[str, Any], width: int) -> Verdict:
    """The verdict of one set of features of unknown origin, from `measures.measure`."""
    if not _is_finite(measures):
        return _verdict("diverged", None, "the features hold nan or infinity")
    spread, ratio = _read(measures, "spread"), _read(measures, "mean_to_spread")
    notes: tuple[str, ...] = ()
    # infinite where all rows are equal, nan where all are zero: nothing is left after the mean
    if math.isfinite(ratio) and ratio > LIMITS.large_mean:
        notes = (f"a common vector {ratio:.3g} times as long as the spread is in every row: subtract the mean first.",)
    if spread < LIMITS.one_point_h:
        return _verdict(
            "complete collapse", None, _one_point("all rows point the same way", spread, measures), None, notes
        )
    label, reason, numbers = _judge_rank(measures, width, "the rows vary")
    return _verdict(label, None, f"{reason} ({numbers})" if numbers else reason, None, notes)


def _finding(row: Mapping[str, Any], card: Card, width: int) -> Finding:
    """One row's label and reason."""
    explosion = _explosion(row)
    if explosion is not None:
        return "diverged", explosion
    if row["step"] < LIMITS.first_judged_step:
        return EARLY, (
            f"{row['step']} step{'s' if row['step'] > 1 else ''} trained, "
            f"and in the first {LIMITS.first_judged_step} a sound run can look collapsed"
        )
    h, z = row["h"], row["z"]
    for part, name, limit in ((z, "embedding", LIMITS.one_point_z), (h, "representation", LIMITS.one_point_h)):
        if (spread := _read(part, "spread")) < limit:
            return "complete collapse", _one_point(f"all images map to one point of the {name}", spread, part)
    std, scale = _read(z, "std"), _read(h, "rms")
    if card.unit_deviation and std < LIMITS.vanished_std:
        return (
            "complete collapse",
            f"all images map to one point: standard deviation {std:.2g} of the embedding's dimensions, where the "
            "variance term asks for 1",
        )
    if std < LIMITS.vanished_gain * scale:
        return (
            "complete collapse",
            f"the embedding shrank to a point: standard deviation {std / scale:.1g} of the representation's size",
        )
    label, reason, numbers = _judge_rank(z, width, "features vary")
    if label == "healthy":
        same, others = _read(z, "cosine_views"), _read(z, "cosine_others")
        reason += f"; two views of an image {'hardly ' if _hardly_agree(same, others) else ''}agree"
        numbers += f"; cosine of two views {same:.2f}, of two images {others:.2f}"
    return label, f"{reason} ({numbers})" if numbers else reason


def _judge_rank(measures: Mapping[str, Any], width: int, what: str) -> tuple[Label, str, str]:
    """Healthy or dimensional collapse, by the effective rank in relation to the largest that N rows in `width`
    dimensions can have: the label, a sentence, and the measures for the brackets behind it."""
    rank, rankme, spread = (_read(measures, name) for name in ("effective_rank", "rankme_centred", "spread"))
    # bias_ratio is participation_ratio / (N - 1); both are above 0 where anything varies
    possible = min(width, round(_read(measures, "participation_ratio") / _read(measures, "bias_ratio")))
    if possible < 2:
        return "too early to judge", "two samples differ in one direction whatever they are: give 8 or more", ""
    is_low = rank < LIMITS.rank * possible ** (1 / 3)
    only = "only about" if is_low else "about"
    sentence = f"{what} in {only} {rank:.0f} independent directions of {possible}"
    numbers = f"spread {spread:.2f} of the maximum, effective rank {rank:.3g}, centred RankMe {rankme:.3g}"
    return ("dimensional collapse" if is_low else "healthy"), sentence, numbers


def _one_point(what: str, spread: float, measures: Mapping[str, Any]) -> str:
    others = _read(measures, "cosine_others")
    return f"{what} (spread {spread:.2g} of the maximum, mean cosine of two images {others:.4f})"


def _hardly_agree(same: float, others: float) -> bool:
    """Whether two views of an image are hardly closer than two images, in cosines."""
    return same - others < LIMITS.agreement * (1 - others)


def _explosion(row: Mapping[str, Any]) -> str | None:
    """The sentence on numbers that are not finite or astronomically large, or None."""
    for part, name in (("h", "representation"), ("z", "embedding")):
        if not _is_finite(row[part]):
            return f"the {name} was not finite at step {row['step']}"
        if (size := _read(row[part], "rms")) > LIMITS.exploded_rms:
            return f"the {name}'s root mean square reached {size:.2g} at step {row['step']}, where about 1 is usual"
    return None


def _lost_rank(first: Mapping[str, Any], last: Mapping[str, Any]) -> tuple[str, ...]:
    """A note where the representation has few of the untrained network's directions: the embedding does not show it."""
    before, after = (_read(row["h"], "effective_rank") for row in (first, last))
    if first["step"] > 0 or not after < LIMITS.lost_rank * before:
        return ()
    return (
        f"the representation h, which is what is kept, has an effective rank of {after:.3g}, the untrained network's "
        f"{before:.3g}. Runs of 60 steps that ended like this were far below raw pixels, so look at the k-NN accuracy "
        "beside theirs; a third of --optim.lr-per-256 helped there, more steps may.",
    )


def _notes(
    row: Mapping[str, Any], card: Card, batch_size: int | None, config: RunConfig[Any] | None
) -> tuple[str, ...]:
    z = row["z"]
    same, others = _read(z, "cosine_views"), _read(z, "cosine_others")
    notes = []
    if _hardly_agree(same, others):
        notes.append(
            f"two views of an image are hardly closer (cosine {same:.2f}) than two different images ({others:.2f}): "
            "the views share too little, or nothing in the loss draws them together."
        )
    ratio, bias = _read(z, "participation_ratio"), _read(z, "bias_ratio")
    if batch_size is not None:
        bias = ratio / max(1, batch_size - 1)
    plug_in = applicable(card.plug_in_remedies, config)
    if plug_in and bias > LIMITS.bias:
        of = "the batch" if batch_size is not None else f"{round(ratio / _read(z, 'bias_ratio')) + 1} images"
        ways = f"a larger --batch-size, or {plug_in[0]}"
        notes.append(f"plug-in bias ratio {bias:.2f}: {of} is small for this rank. Try {ways}.")
    return tuple(notes)


def _verdict(
    label: Label,
    card: Card | None,
    reason: str,
    since: float | None = None,
    notes: tuple[str, ...] = (),
    config: RunConfig[Any] | None = None,
) -> Verdict:
    return Verdict(label=label, since_epoch=since, reason=reason, remedies=remedies(label, card, config), notes=notes)


def _read(measures: Mapping[str, Any], name: str) -> float:
    """A measure; nan for the null that a file holds in place of a number that is not finite."""
    value = measures[name]
    return math.nan if value is None else float(value)


def _is_finite(measures: Mapping[str, Any]) -> bool:
    # rms is finite for all finite features; other measures can be undefined without harm
    return math.isfinite(_read(measures, "rms"))
