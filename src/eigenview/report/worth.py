"""The second verdict on the page: of a run, of the seeds of one configuration, and which of several runs to take."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from eigenview.diagnostics.baselines import IMPORTANCE, OURS, PHRASES
from eigenview.diagnostics.recommend import Candidate, recommend
from eigenview.diagnostics.worth import DECIDES, Worth, from_summary, judge_worth
from eigenview.diagnostics.worth_sentence import (
    BROKEN,
    LONGER,
    Sentence,
    clause_and_numbers,
    first_sentence,
    numbers,
    signs_without_labels,
)
from eigenview.errors import listed
from eigenview.report.read import RunRecord
from eigenview.runfiles import Hits


def worth_of(record: RunRecord) -> Worth | None:
    """The second verdict in summary.json; None in runs that have not ended, and of earlier versions."""
    values = record.summary.get("worth")
    return None if values is None else from_summary(values)


def sentence(record: RunRecord) -> Sentence | None:
    """Both verdicts of a run in a sentence, with signs without labels where there are none."""
    worth = worth_of(record)
    if worth is None:
        return None
    label = str(record.summary.get("verdict"))
    found = first_sentence(label, worth, run=str(record.path))
    rows = [row.get("h") or {} for row in record.diagnostics]
    if not worth.against and label == "healthy" and rows:
        found = found._replace(rest=f"{found.rest} {signs_without_labels(rows[0], rows[-1])}".rstrip())
    return found


def groups(records: Sequence[RunRecord]) -> list[list[RunRecord]]:
    """Runs that differ in their seed only stand together, in the order of their first; of copies of a run the first."""
    found: dict[str, dict[Any, RunRecord]] = {}
    for record in records:
        options = {name: value for name, value in record.config.items() if name != "seed"}
        found.setdefault(repr(sorted(options.items())), {}).setdefault(record.config.get("seed"), record)
    return [list(group.values()) for group in found.values()]


def over_seeds(records: Sequence[RunRecord]) -> list[str]:
    """A sentence for each configuration that was run with several seeds and probed."""
    found = []
    for group in groups(records):
        worth = _pooled(group)
        if worth is None or len(group) < 2:
            continue
        names = ", ".join(record.name for record in group)
        bad = [record for record in group if record.summary.get("verdict") != "healthy"]
        aside = f"; {len(bad)} of them not healthy" if bad else ""
        if bad:
            text = _with_bad_seeds(worth, bad)
        else:
            text = _few_seeds(worth) if _each_is_better(group, worth) else first_sentence("healthy", worth).text
        found.append(f"Over {len(group)} seeds ({names}{aside}): {text[:1].lower()}{text[1:]}")
    return found


def _with_bad_seeds(pooled: Worth, bad: Sequence[RunRecord]) -> str:
    """What was measured of all, and the advice that their first verdicts allow."""
    broken = [f"{record.name} ({label})" for record in bad if (label := record.summary.get("verdict")) in BROKEN]
    advice = f"Do not use {listed(broken)}." if broken else LONGER
    if pooled.word == "unknown":
        return f"{pooled.why}. {advice}"
    return "{}: {}. {}".format(*clause_and_numbers(pooled), advice)


def _each_is_better(group: Sequence[RunRecord], pooled: Worth) -> bool:
    """Whether each run is better than its baselines, and only their number leaves their mean uncertain."""
    words = [each.word for record in group if (each := worth_of(record)) is not None]
    return pooled.word == "no different" and words == ["better"] * len(group)


def _few_seeds(pooled: Worth) -> str:
    name = next(name for name, each in pooled.against.items() if each.word == "no different")
    found = numbers(DECIDES, pooled.against[name].probes[DECIDES])
    return (
        "each run is better than its baselines, but with so few seeds the mean difference is uncertain: "
        f"{PHRASES.get(name, name)}, {found}. Run more seeds (--seed)."
    )


def _pooled(group: Sequence[RunRecord]) -> Worth | None:
    """The second verdict of several seeds together; None if one of them lacks what it is computed from."""
    hits = [record.hits for record in group if record.hits is not None and OURS in record.hits.right]
    if len(hits) < len(group):
        return None
    names = [name for name in IMPORTANCE if all(name in each.right for each in hits)]
    answers = [each.answers() for each in hits]
    return judge_worth(
        [each[OURS] for each in answers],
        {name: [each[name] for each in answers] for name in names},
        same_images=_are_same(hits),
        labels_per_class=(group[0].summary.get("worth") or {}).get("labels_per_class"),
    )


def _are_same(hits: Sequence[Hits]) -> bool:
    return len({each.images for each in hits}) == 1


def recommendation(records: Sequence[RunRecord]) -> str:
    """Which of the runs to take, or why none can be recommended; empty for one configuration."""
    return recommend([_candidate(group) for group in groups(records)])


def _candidate(group: Sequence[RunRecord]) -> Candidate:
    first, kept = group[0], [r for r in group if r.hits is not None and OURS in r.hits.right]
    labels = [_label(record) for record in group]
    worth = _pooled(group) or worth_of(first)
    has_all = len(kept) == len(group)
    hits = {_seed(record, number): record.hits for number, record in enumerate(kept) if record.hits} if has_all else {}
    return Candidate(
        name=first.name if len(group) == 1 else f"{first.name} (with {_more(len(group) - 1)})",
        places=tuple(str(record.path) for record in group),
        label=next((label for label in labels if label != "healthy"), "healthy"),
        worth="unknown" if worth is None else "better" if _each_is_better(group, worth) else worth.word,
        right={seed: each.answers()[OURS] for seed, each in hits.items()},
        images={seed: each.images for seed, each in hits.items()},
    )


def _more(seeds: int) -> str:
    return f"{seeds} more seed{'s' if seeds > 1 else ''}"


def _label(record: RunRecord) -> str:
    last: dict[str, Any] = record.diagnostics[-1] if record.diagnostics else {}
    return str(record.summary.get("verdict") or last.get("verdict") or "too early to judge")


def _seed(record: RunRecord, number: int) -> int:
    seed = record.config.get("seed")
    return seed if isinstance(seed, int) else -1 - number
