"""The second verdict: intervals against exact ones, their coverage, and the word in cases whose answer is known."""

from __future__ import annotations

import json
from itertools import pairwise

import numpy as np
import pytest
from scipy.special import stdtrit
from scipy.stats import binom

from eigenview.diagnostics.worth import (
    NORMAL_QUANTILE,
    Interval,
    Right,
    compare,
    from_summary,
    judge_worth,
    paired_interval,
    to_summary,
)
from eigenview.runfiles import Hits


def answers(better: int, worse: int, both: int, neither: int) -> tuple[np.ndarray, np.ndarray]:
    """Ours and theirs (M,), with these counts of test images: right here only, there only, in both, in neither."""
    ours = np.repeat([True, False, True, False], [better, worse, both, neither])
    theirs = np.repeat([False, True, True, False], [better, worse, both, neither])
    return ours, theirs


def right(difference: int, images: int = 100, draws: int = 5, few: int | None = None, knn: int | None = None) -> Right:
    """All test images wrong but for the first ones, as many as the numbers say."""
    counts = {"knn": difference if knn is None else knn, "linear": difference}
    found = {name: np.arange(images)[None] < count for name, count in counts.items()}
    return found | {"linear_few": np.tile(np.arange(images) < (difference if few is None else few), (draws, 1))}


def test_an_interval_by_hand() -> None:
    """20 images, all of them right here and wrong there. With the two images that are added, a resample is
    1 - 2 k / 22 where k, how often the one image with -1 is drawn, is binomial (22, 1/22)."""
    ours, theirs = answers(better=20, worse=0, both=0, neither=0)
    found = paired_interval([ours], [theirs])
    assert (found.ours, found.theirs, found.difference, found.images, found.draws) == (100, 0, 100, 20, 1)
    assert found.low == pytest.approx(100 * (1 - 2 * binom.ppf(0.975, 22, 1 / 22) / 22))
    assert found.high == 100


def test_an_interval_is_the_exact_one_of_the_bootstrap() -> None:
    """9 images better, 3 worse of 30: the exact distribution of the sum of 32 draws, by convolution."""
    found = paired_interval(*([each] for each in answers(better=9, worse=3, both=8, neither=10)))
    single, exact = np.array([4, 18, 10]) / 32, np.ones(1)
    for _ in range(32):
        exact = np.convolve(exact, single)
    sums, below = np.arange(-32, 33), np.cumsum(exact)
    low, high = (sums[np.searchsorted(below, share)] for share in (0.025, 0.975))
    assert found.difference == pytest.approx(20)
    assert found.low == pytest.approx(100 * low / 32, abs=100 / 32)  # one step: 2,000 resamples, not all of them
    assert found.high == pytest.approx(100 * high / 32, abs=100 / 32)


def test_swapping_both_turns_the_interval_round() -> None:
    ours, theirs = answers(better=30, worse=12, both=100, neither=58)
    one, other = paired_interval([ours], [theirs]), paired_interval([theirs], [ours])
    assert one.difference == -other.difference == pytest.approx(9)
    assert one.low == pytest.approx(-other.high, abs=1)
    assert one.high == pytest.approx(-other.low, abs=1)


def test_a_few_disagreements_decide_nothing() -> None:
    """5 images that only one got right, none that only the other did: the sign test has p = 2 / 2^5 = 0.06."""
    words = [paired_interval(*([each] for each in answers(k, 0, 50, 50 - k))).word for k in (3, 4, 5, 8)]
    assert words == ["no different", "no different", "no different", "better"]


def test_the_same_numbers_each_time() -> None:
    rows = [[each] for each in answers(900, 300, 800, 1000)]
    assert paired_interval(*rows) == paired_interval(*rows)
    assert paired_interval(*rows) != paired_interval(*rows, seed=1)


def test_draws_that_differ_widen_the_interval_and_draws_that_do_not_leave_it() -> None:
    ours, theirs = answers(60, 40, 50, 50)
    alone = paired_interval([ours], [theirs])
    repeated = paired_interval([ours] * 5, [theirs] * 5)
    assert (repeated.low, repeated.high) == (alone.low, alone.high)
    assert repeated.draws == 5
    others = [np.roll(theirs, shift) for shift in range(5)]  # the same accuracies in each draw
    assert paired_interval([ours] * 5, others).difference == pytest.approx(alone.difference)
    spread = [answers(60 + k, 40 - k, 50, 50) for k in (-20, -10, 0, 10, 20)]
    wide = paired_interval(*zip(*spread, strict=True))
    assert wide.difference == pytest.approx(alone.difference)
    assert wide.high - wide.low > 1.3 * (alone.high - alone.low)


def test_the_part_of_the_rows_has_the_width_of_students_t() -> None:
    """Three runs of many images, 1, 3 and 5 points better in each: nearly all of the width is theirs."""
    rows = []
    for points in (1, 3, 5):
        ours, theirs = answers(better=2000 * points, worse=0, both=100_000, neither=100_000 - 2000 * points)
        rows.append((ours, theirs))
    found = paired_interval(*zip(*rows, strict=True), same_images=False)
    assert found.difference == pytest.approx(3)
    half = stdtrit(2, 0.975) * 2 / np.sqrt(3)  # t times the standard error of the mean of 1, 3, 5
    largest = np.sqrt(3 / 2) * stdtrit(2, 0.975) / NORMAL_QUANTILE * 2  # a bootstrap of three cannot go beyond
    assert 0.9 * half < (found.high - found.low) / 2 <= largest + 0.1
    assert found.low < 0 < found.high


def coverage(images: int, draws: int, deviation: float, count: int) -> float:
    """The share of intervals that hold the true difference, 3 points: images right here only with probability .14,
    there only with .11, both shifted by the draw, by `deviation` of the difference."""
    hits = 0
    for number in range(count):
        rng = np.random.default_rng((number, images, draws))
        shift = rng.normal(0, deviation, (draws, 1)) if draws > 1 else np.zeros((1, 1))
        u = rng.random((draws, images))
        better, worse = u < 0.14 + shift / 2, u > 1 - 0.11 + shift / 2
        found = paired_interval(list(better), list(worse), seed=number)
        hits += found.low <= 3 <= found.high
    return hits / count


def test_95_of_100_intervals_hold_the_true_difference() -> None:
    """500 intervals: the standard error of the share is one point."""
    assert 0.92 < coverage(images=100, draws=1, deviation=0, count=500) < 0.985


@pytest.mark.slow
@pytest.mark.parametrize(
    ("images", "draws", "deviation"),
    [(20, 1, 0.0), (400, 1, 0.0), (400, 5, 0.0), (400, 5, 0.03), (4000, 3, 0.03), (4000, 2, 0.03), (100, 5, 0.05)],
)
def test_95_of_100_intervals_hold_the_true_difference_with_draws(images: int, draws: int, deviation: float) -> None:
    """2,000 intervals: the standard error is half a point. Too wide is allowed: what chance adds to each draw counts in
    both parts of the interval."""
    assert coverage(images, draws, deviation, count=2000) > 0.935


@pytest.mark.parametrize(
    ("ours", "theirs", "word"),
    [
        (right(60), right(20), "better"),
        (right(20), right(60), "worse"),
        (right(50), right(50), "no different"),
        (right(60, knn=10), right(20, knn=50), "mixed"),
        (right(60, few=10), right(20, few=50), "mixed"),
        (right(20, few=50), right(60, few=10), "mixed"),
        (right(60, knn=49), right(20, knn=50), "better"),  # k-NN is lower, but not beyond its interval
        (right(50, knn=10), right(50, knn=50), "no different"),  # the linear probe says neither
        (right(15, images=19), right(1, images=19), "unknown"),
        (right(18, images=20), right(1, images=20), "better"),
    ],
)
def test_the_word(ours: Right, theirs: Right, word: str) -> None:
    assert compare([ours], [theirs]).word == word


def test_a_comparison_without_the_linear_probe_has_no_word() -> None:
    ours, theirs = ({"knn": right(count)["knn"]} for count in (60, 20))
    found = judge_worth([ours], {"raw pixels": [theirs]})
    assert found.word == "unknown"
    assert found.why == "the linear probe, which decides, was not run (--protocol all)"
    assert found.against["raw pixels"].probes["knn"].word == "better"


def test_better_means_better_than_every_baseline() -> None:
    ours, low, same, high = (right(count) for count in (60, 20, 60, 95))
    words = [
        judge_worth([ours], {str(number): [each] for number, each in enumerate(baselines)}).word
        for baselines in ((low,), (low, low), (low, same), (low, same, high))
    ]
    assert words == ["better", "better", "no different", "worse"]
    assert judge_worth([ours], {}).word == "unknown"


def test_several_runs_widen_or_narrow_the_interval_as_they_agree() -> None:
    """Test images of their own, four runs: those that agree know more than one, those that do not, less."""
    rng = np.random.default_rng(0)
    sides = [[{"linear": rng.random((1, 300)) < share} for _ in range(4)] for share in (0.6, 0.5)]
    alone, four = (compare(*(side[:n] for side in sides), same_images=False).probes["linear"] for n in (1, 4))
    assert four.draws == 4
    assert four.images == 300
    assert four.difference == pytest.approx(
        np.mean([100 * (a["linear"].mean() - b["linear"].mean()) for a, b in zip(*sides, strict=True)])
    )
    assert alone.draws == 1
    sides[0][0] = {"linear": np.zeros((1, 300), bool)}
    torn = compare(*sides, same_images=False).probes["linear"]
    assert torn.high - torn.low > 2 * (four.high - four.low)


def test_runs_whose_few_label_probes_left_out_other_classes_are_taken_together() -> None:
    sides = [[{"linear_few": np.ones((2, 40), bool)}, {"linear_few": np.zeros((2, 30), bool)}] for _ in range(2)]
    found = compare(*sides).probes["linear_few"]
    assert (found.images, found.draws, found.difference) == (30, 2, 0)


def test_runs_with_several_draws_count_once_each() -> None:
    rng = np.random.default_rng(0)
    sides = [[{"linear": rng.random((5, 50)) < 0.5} for _ in range(3)] for _ in range(2)]
    assert compare(*sides).probes["linear"].draws == 3


def test_the_summary_keeps_every_number() -> None:
    found = judge_worth([right(60)], {"raw pixels": [right(20)], "untrained encoder": [right(30)]}, labels_per_class=10)
    written = json.loads(json.dumps(to_summary(found)))
    assert from_summary(written) == found
    assert (written["resamples"], written["level"]) == (2000, 0.95)
    assert set(written["against"]["raw pixels"]["probes"]["linear_few"]) == set(Interval.__dataclass_fields__)


def test_more_images_narrow_the_interval() -> None:
    """By sqrt(4) for four times the images."""
    widths = []
    for times in (1, 4, 16):
        found = paired_interval(*([each] for each in answers(30 * times, 20 * times, 25 * times, 25 * times)))
        widths.append(found.high - found.low)
    assert all(wide / narrow == pytest.approx(2, rel=0.15) for wide, narrow in pairwise(widths))


@pytest.mark.parametrize(
    ("files", "why"),
    [
        (None, "there are only 12 test images"),
        (np.repeat(np.arange(6), 2), "the test images come from only 6 files"),
        (np.zeros(12, int), "the test images come from only 1 file"),
    ],
)
def test_what_is_counted_is_named(files: np.ndarray | None, why: str) -> None:
    """Twelve test images, or tiles of six files or of one: the table says 12 in each case."""
    row = {"linear": np.ones((1, 12), bool)}
    right = {"this encoder": row, "raw pixels": row}
    hits = Hits(images="0" * 32, labels=np.zeros(12, int), tested=row, right=right, files=files)
    answers = hits.answers()
    assert judge_worth([answers["this encoder"]], {"raw pixels": [answers["raw pixels"]]}).why == why


def test_a_single_test_image_is_one_image() -> None:
    row = {"linear": np.ones((1, 1), bool)}
    assert judge_worth([row], {"raw pixels": [row]}).why == "there is only 1 test image"
