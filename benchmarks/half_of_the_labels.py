"""Does the second verdict hold on images it has not seen? Computed on half of the test images, compared with the other.

    uv run python -m benchmarks.half_of_the_labels runs/a runs/b ... [--splits 200]

Reads `probe_hits.npz` of each run. For each split of its test images (seeded, halves of each class) the word is
computed on both halves. The first table has the words of split 0; the second counts, over all splits and against each
baseline, how often the other half has the same word, the same sign of the difference, and the opposite word. Tiles and
pages of a file are in the same half.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from eigenview import runfiles
from eigenview.diagnostics.baselines import IMPORTANCE, OURS
from eigenview.diagnostics.worth import DECIDES, Worth, judge_worth
from eigenview.diagnostics.worth_sentence import signed
from eigenview.errors import UserError
from eigenview.runfiles import Hits
from eigenview.terminal import Console, table

OPPOSITE = {"better": "worse", "worse": "better"}


def halves(labels: np.ndarray, seed: int) -> np.ndarray:
    """bool (M,): the first of two halves of the test images, within each class; of an odd one a random half has more.

    A class of one image is in one of the halves only.
    """
    rng = np.random.default_rng(seed)
    first = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        rows = rng.permutation(np.flatnonzero(labels == label))
        first[rows[: (len(rows) + rng.integers(2)) // 2]] = True
    return first


def first_half(hits: Hits, seed: int) -> np.ndarray:
    """bool (M,): `halves` of the files, which are images unless they have tiles or pages."""
    if hits.files is None:
        return halves(hits.labels, seed)
    _, rows, file = np.unique(hits.files, return_index=True, return_inverse=True)
    return halves(hits.labels[rows], seed)[file]


def part(hits: Hits, chosen: np.ndarray) -> Hits:
    """The answers on some of the test images, bool (M,)."""
    kept = {name: chosen[tested[0]] for name, tested in hits.tested.items()}
    right = {row: {name: each[:, kept[name]] for name, each in of.items()} for row, of in hits.right.items()}
    tested = {name: each[:, chosen] for name, each in hits.tested.items()}
    files = None if hits.files is None else hits.files[chosen]
    return replace(hits, labels=hits.labels[chosen], tested=tested, right=right, files=files)


def worth(hits: Hits) -> Worth:
    """The second verdict of the run's encoder."""
    answers = hits.answers()
    return judge_worth([answers[OURS]], {name: [answers[name]] for name in IMPORTANCE if name in answers})


def both_halves(hits: Hits, splits: int) -> Iterator[tuple[Worth, Worth]]:
    """The verdicts on both halves, for each split."""
    for seed in range(splits):
        first = first_half(hits, seed)
        yield worth(part(hits, first)), worth(part(hits, ~first))


def count(hits: Hits, splits: int) -> Counter[tuple[str, str]]:
    """(word on one half, what the other half has) -> how often, over splits, both directions and all baselines."""
    found: Counter[tuple[str, str]] = Counter()
    for pair in both_halves(hits, splits):
        for one, other in (pair, pair[::-1]):
            for name, each in one.against.items():
                there = other.against[name]
                found[each.word, "cases"] += 1
                found[each.word, "same word"] += there.word == each.word
                found[each.word, "opposite word"] += there.word == OPPOSITE.get(each.word)
                sign = each.probes[DECIDES].difference * there.probes[DECIDES].difference
                found[each.word, "same sign"] += sign > 0
    return found


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--splits", type=int, default=200)
    options = parser.parse_args()
    total: Counter[tuple[str, str]] = Counter()
    rows = []
    for run in options.runs:
        hits = runfiles.read_hits(run)
        if hits is None:
            raise UserError(f"{run} has no {runfiles.PROBE_HITS}: train it again, with labels.")
        one, other = next(both_halves(hits, 1))
        closest = min(one.against, key=lambda name: one.against[name].probes[DECIDES].difference)
        shown = [each.against[closest].probes[DECIDES] for each in (one, other)]
        numbers = [f"{signed(x.difference)} ({signed(x.low)} to {signed(x.high)})" for x in shown]
        agree = "yes" if one.word == other.word else "no"
        rows.append([run.name, str(len(hits.labels)), worth(hits).word, one.word, other.word, agree, closest, *numbers])
        total += count(hits, options.splits)
    console = Console()
    heads = ["run", "test images", "all", "one half", "other half", "agree", "closest baseline", "linear", "there"]
    console.print(table(heads, rows))
    counted = [
        [word, *(str(total[word, what]) for what in ("cases", "same word", "same sign", "opposite word"))]
        for word in ("better", "no different", "worse", "mixed", "unknown")
        if total[word, "cases"]
    ]
    console.print(table(["word on one half", "cases", "same word", "same sign", "opposite word"], counted))


if __name__ == "__main__":
    main()
