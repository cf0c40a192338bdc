"""probe_hits.npz: written and read back, compact, and refused in one line where its arrays do not fit each other."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from eigenview import runfiles
from eigenview.diagnostics.baselines import OURS
from eigenview.diagnostics.worth import Interval, judge_worth, paired_interval
from eigenview.errors import UserError
from eigenview.runfiles import Hits, images_hash, read_hits, write_hits
from eigenview.runfiles.whole import check_run
from tests.report.synthetic_run import make_hits


def test_what_was_written_is_read(tmp_path: Path) -> None:
    hits = make_hits(np.random.default_rng(0))
    write_hits(tmp_path, hits)
    found = read_hits(tmp_path)
    assert found is not None
    assert (found.images, list(found.right)) == (hits.images, list(hits.right))
    np.testing.assert_array_equal(found.labels, hits.labels)
    for name, tested in hits.tested.items():
        np.testing.assert_array_equal(found.tested[name], tested)
        for row in hits.right:
            np.testing.assert_array_equal(found.right[row][name], hits.right[row][name])
            assert found.right[row][name].dtype == bool


def test_tiles_of_a_file_are_one_answer(tmp_path: Path) -> None:
    """Three files of 1, 2 and 3 tiles; one probe leaves out the last tile."""
    right = {"linear": np.array([[1, 1, 0, 1, 1, 1]], bool), "knn": np.array([[0, 1, 1, 1, 0]], bool)}
    tested = {"linear": np.ones((1, 6), bool), "knn": np.array([[1, 1, 1, 1, 1, 0]], bool)}
    files = np.array([7, 2, 2, 9, 9, 9])
    hits = Hits(images="ab" * 16, labels=np.arange(6), tested=tested, right={"ours": right}, files=files)
    write_hits(tmp_path, hits)
    found = read_hits(tmp_path)
    assert found is not None
    answers = found.answers()["ours"]
    # files 2, 7, 9 of 2, 1, 3 tiles, of which 1, 1, 3 are right: s / 2 + 5/6 (1 - n / 2)
    np.testing.assert_allclose(answers["linear"], [[1 / 2, 1 / 2 + 5 / 12, 3 / 2 - 5 / 12]])
    np.testing.assert_allclose(answers["knn"], [[2 * 3 / 5 - 3 / 25, 3 / 5 * 2 / 5, 3 / 5 - 3 / 25]])
    for name, each in right.items():
        assert answers[name].mean() == pytest.approx(each.mean())
    write_hits(tmp_path, replace(hits, files=None))
    found = read_hits(tmp_path)
    assert found is not None
    assert found.answers() is found.right


def test_copies_of_an_image_make_no_interval_narrower() -> None:
    """Four equal tiles of each image are judged as the images alone would be."""
    hits = make_hits(np.random.default_rng(0), images=90)
    repeated = replace(
        hits,
        labels=np.repeat(hits.labels, 4),
        tested={name: np.repeat(each, 4, axis=1) for name, each in hits.tested.items()},
        right={row: {n: np.repeat(each, 4, axis=1) for n, each in of.items()} for row, of in hits.right.items()},
        files=np.repeat(np.arange(90), 4),
    )
    rows = [name for name in hits.right if name != OURS]
    one, four = (
        judge_worth([each.answers()[OURS]], {name: [each.answers()[name]] for name in rows})
        for each in (hits, repeated)
    )
    assert one == four


SIZES = [1, 2, 3, 40, 120]
"""Numbers of tiles, as unequal as files of one folder can be."""


def tiles_of(right: dict[str, np.ndarray], files: np.ndarray) -> Hits:
    """A row for each name: bool (M,), which tiles are right by the linear probe."""
    return Hits(
        images="ab" * 16,
        labels=np.zeros(len(files), int),
        tested={"linear": np.ones((1, len(files)), bool)},
        right={name: {"linear": each[None]} for name, each in right.items()},
        files=files,
    )


def interval_of(ours: np.ndarray, theirs: np.ndarray, files: np.ndarray) -> Interval:
    answers = tiles_of({"ours": ours, "theirs": theirs}, files).answers()
    return paired_interval(*(list(answers[name]["linear"]) for name in ("ours", "theirs")))


def unequal_files(count: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Tiles of `count` files, right with the probability of their file, on average 4/5 (ours) and 4/7 (theirs)."""
    rng = np.random.default_rng(seed)
    files = np.repeat(np.arange(count), rng.choice(SIZES, size=count))
    ours, theirs = (rng.random(len(files)) < rng.beta(a, b, count)[files] for a, b in ((4, 1), (2, 1.5)))
    return ours, theirs, files


def naive_interval(ours: np.ndarray, theirs: np.ndarray, files: np.ndarray) -> np.ndarray:
    """Files are drawn with replacement, with all of their tiles, and the share of the tiles drawn is taken."""
    rng, tiles = np.random.default_rng(1), [np.flatnonzero(files == each) for each in range(files.max() + 1)]
    found = []
    for _ in range(1000):
        drawn = np.concatenate([tiles[each] for each in rng.integers(len(tiles), size=len(tiles))])
        found.append(100 * (ours[drawn].mean() - theirs[drawn].mean()))
    return np.quantile(found, [0.025, 0.975])


def test_files_of_unequal_numbers_of_tiles_are_drawn_with_all_of_them() -> None:
    ours, theirs, files = unequal_files(200, seed=0)
    found, (low, high) = interval_of(ours, theirs, files), naive_interval(ours, theirs, files)
    assert found.difference == pytest.approx(100 * (ours.mean() - theirs.mean()))
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.1 * (high - low))  # 1,000 samples: 4 %


def test_no_interval_of_tiles_goes_beyond_all_of_them() -> None:
    _, _, files = unequal_files(30, seed=0)
    all_right = np.ones(len(files), bool)
    found = interval_of(all_right, ~all_right, files)
    assert (found.difference, found.high) == pytest.approx((100, 100), abs=1e-9)
    mostly = np.repeat(np.arange(20), [1000] + [1] * 19)  # nearly all tiles are of one file
    assert interval_of(mostly == 0, np.zeros(len(mostly), bool), mostly).high <= 100


def test_95_of_100_intervals_of_unequal_files_hold_the_true_difference() -> None:
    """120 intervals: the standard error of the share is two points. The width is nearly that of the naive bootstrap."""
    held, widths = [], []
    truth = 100 * (4 / 5 - 4 / 7)
    for seed in range(120):
        found = interval_of(*unequal_files(60, seed))
        held.append(found.low <= truth <= found.high)
        widths.append(found.high - found.low)
    assert 0.9 < np.mean(held) < 0.99
    low, high = np.mean([naive_interval(*unequal_files(60, seed)) for seed in range(5)], axis=0)
    assert np.mean(widths[:5]) < 1.1 * (high - low)


def test_a_bit_an_answer(tmp_path: Path) -> None:
    """3 rows of 7 answers each for 9,000 images take 24 kB; labels and names little more."""
    write_hits(tmp_path, make_hits(np.random.default_rng(0), images=9000))
    assert (tmp_path / runfiles.PROBE_HITS).stat().st_size < 40_000


def test_a_run_without_the_file_has_none(tmp_path: Path) -> None:
    assert read_hits(tmp_path) is None
    state = next(each for each in check_run(tmp_path) if each.name == runfiles.PROBE_HITS)
    assert (state.state, state.is_needed) == ("missing", False)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"images": np.zeros(15, np.uint8)}, "images is uint8"),
        ({"labels": np.zeros((2, 2), np.int32)}, "labels is int32"),
        ({"labels": np.zeros(0, np.int32)}, "must not be empty"),
        ({"rows": np.array(["a", "a", "b"])}, "no name may occur twice"),
        ({"rows": np.array(["a", "b"])}, "right_knn"),
        ({"probes": np.array([1, 2, 3])}, "probes is int64"),
        ({"tested": np.zeros((3, 1), np.uint8)}, "tested is uint8"),
        ({"tested": np.zeros((3, 13), np.uint8)}, "bits of 0 images"),
        ({"right_linear_few": np.zeros((3, 5, 11), np.uint8)}, "right_linear_few is uint8"),
        ({"right_knn": None}, "right_knn is missing"),
        ({"right_knn": np.zeros((3, 0, 13), np.uint8)}, "right_knn is uint8"),
        ({"right_knn": np.zeros((3, 1, 13))}, "right_knn is float64"),
    ],
    ids=lambda each: next(iter(each)) if isinstance(each, dict) else "",
)
def test_arrays_that_do_not_fit_are_refused(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    write_hits(tmp_path, make_hits(np.random.default_rng(0)))
    path = tmp_path / runfiles.PROBE_HITS
    arrays = runfiles.read_arrays(path) | change
    runfiles.write_arrays(path, {name: each for name, each in arrays.items() if each is not None})
    with pytest.raises(UserError, match=rf"{runfiles.PROBE_HITS} is damaged: .*{said}"):
        read_hits(tmp_path)
    state = next(each for each in check_run(tmp_path) if each.name == runfiles.PROBE_HITS)
    assert state.state == "damaged"


def test_the_hash_is_that_of_identities_and_labels() -> None:
    labels = np.array([0, 1, 1])
    names = ["cat/1.png", "dog/1.png", "dog/2.png"]
    known = images_hash(names, labels, None)
    assert images_hash(names, labels.copy(), np.zeros(3)) == known
    assert images_hash(names[::-1], labels, None) != known
    assert images_hash(names, labels[::-1].copy(), None) != known
    pixels = np.arange(6.0).reshape(3, 2)
    assert images_hash((), labels, pixels) == images_hash((), labels, pixels.copy())
    assert images_hash((), labels, pixels) != images_hash((), labels, pixels + 1)
