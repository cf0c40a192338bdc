"""probe_hits.npz: written and read back, compact, and refused in one line where its arrays do not fit each other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from eigenview import runfiles
from eigenview.errors import UserError
from eigenview.runfiles import images_hash, read_hits, write_hits
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


def test_the_hash_is_that_of_the_images_wherever_they_lie() -> None:
    labels = np.array([0, 1, 1])
    names = ["/a/cat/1.png", "/a/dog/1.png", "/a/dog/2.png"]
    known = images_hash(names, labels, None)
    assert images_hash([name.replace("/a/", "/b/c/") for name in names], labels, None) == known
    assert images_hash(names[::-1], labels, None) != known
    assert images_hash(names, labels[::-1].copy(), None) != known
    pixels = np.arange(6.0).reshape(3, 2)
    assert images_hash((), labels, pixels) == images_hash((), labels, pixels.copy())
    assert images_hash((), labels, pixels) != images_hash((), labels, pixels + 1)
