"""Which run to take, where the answer is known: one is clearly better, they are equal, or they cannot be compared."""

from __future__ import annotations

import numpy as np
import pytest

from eigenview.diagnostics.recommend import Candidate, recommend
from eigenview.diagnostics.worth import Word


def candidate(
    name: str,
    right: int | dict[int, int],
    *,
    label: str | None = "healthy",
    worth: Word = "better",
    images: str = "same",
    count: int = 200,
    knn: int | None = None,
) -> Candidate:
    """Of 200 test images the first `right` are right, for each seed."""
    seeds = right if isinstance(right, dict) else {0: right}
    answers = {
        seed: {"linear": np.arange(count)[None] < n, "knn": np.arange(count)[None] < (n if knn is None else knn)}
        for seed, n in seeds.items()
    }
    hashes = {seed: images if images == "same" else f"{images}{seed}" for seed in seeds}
    return Candidate(name=name, places=(f"runs/{name}",), label=label, worth=worth, right=answers, images=hashes)


def test_one_run_needs_no_recommendation() -> None:
    assert recommend([]) == recommend([candidate("a", 100)]) == ""


def test_the_better_one_is_taken() -> None:
    found = recommend([candidate("a", 100), candidate("b", 140)])
    assert found.startswith("Take b: better than a: linear 70.0 % against 50.0 % (+20.0, 95 % interval +")
    three = recommend([candidate("a", 100), candidate("b", 140), candidate("c", 90)])
    assert three.startswith("Take b: better than a and c: the closest is a, linear 70.0 % against 50.0 % (+20.0")


def test_a_reservation_is_added() -> None:
    found = recommend([candidate("a", 100), candidate("b", 140, worth="no different")])
    assert found.endswith("). But it is no better than its baselines.")


def test_of_equal_ones_none_is() -> None:
    found = recommend([candidate("a", 100), candidate("b", 101), candidate("c", 20)])
    assert found.startswith(
        "None of these can be recommended over the others: there is no clear difference between b and a (linear 50.5 % "
        "against 50.0 % (+0.5, 95 % interval -"
    )
    assert found.endswith("Take the smaller or faster one. Both are better than c.")


def test_probes_that_disagree_decide_nothing() -> None:
    found = recommend([candidate("a", 100, knn=140), candidate("b", 140, knn=100)])
    assert "the probes disagree about b and a" in found
    assert found.endswith("Decide by the probe that is closest to your use.")


def test_too_few_images_decide_nothing() -> None:
    found = recommend([candidate("a", 2, count=12), candidate("b", 11, count=12)])
    assert "there are too few test images to compare b and a" in found
    assert found.endswith("). Label more images.")


@pytest.mark.parametrize("label", ["complete collapse", "dimensional collapse", "diverged"])
def test_a_collapsed_run_is_never_taken(label: str) -> None:
    found = recommend([candidate("a", 100, worth="worse"), candidate("b", 140, label=label)])
    assert found == (
        "Take a: every other one collapsed or diverged. But it is worse than one of its baselines. Not considered: b "
        f"({label})."
    )
    found = recommend([candidate("a", 100, label=label), candidate("b", 140, label="too early to judge")])
    assert found == f"None of these can be recommended: a ({label}) and b (too early to judge)."


def test_other_test_images_cannot_be_compared() -> None:
    found = recommend([candidate("a", 100), candidate("b", 140, images="others")])
    assert found == (
        "None of these can be recommended: a and b were not tested on the same images. Compare them with: eigenview "
        "probe runs/a runs/b --data LABELLED."
    )


def test_a_run_of_an_earlier_version_cannot_be_compared() -> None:
    old = Candidate(name="old", places=("runs/old",), label="healthy", worth="unknown", right={}, images={})
    assert recommend([candidate("a", 100), old]) == (
        "None of these can be recommended: which test images were right is not known of old. Compare them with: "
        "eigenview probe runs/a runs/old --data LABELLED."
    )


def test_seeds_are_compared_with_the_same_seeds() -> None:
    """Test images of each seed are its own: seeds 1 and 2 are what both have."""
    one = candidate("a", {0: 10, 1: 100, 2: 104, 3: 90}, images="of seed ")
    other = candidate("b", {1: 140, 2: 143, 5: 10}, images="of seed ")
    assert "(+19.8, " in recommend([one, other])
    assert "(+19.8, " in recommend([candidate("a", {1: 100, 2: 104}), candidate("b", {3: 140, 4: 143})])


def test_every_one_is_compared_with_the_best() -> None:
    """a has seeds in common with b and with c, but b and c, both ahead of it, have none in common."""
    ours = {0: 100, 1: 100}
    three = [
        candidate("a", ours, images=" "),
        candidate("b", {0: 140}, images=" "),
        candidate("c", {1: 120}, images=" "),
    ]
    found = recommend(three)
    assert found.startswith("None of these can be recommended: b and c were not tested on the same images. Compare")
    assert recommend(three[::-1]).startswith("None of these can be recommended: b and c were not tested")
    ahead = [candidate("a", {0: 180, 1: 180}, images=" "), *three[1:]]
    assert recommend(ahead).startswith(
        "Take a: better than b and c: the closest is b, linear 90.0 % against 70.0 % (+20"
    )


def test_the_best_is_ahead_on_the_test_images_that_both_have() -> None:
    """Seeds 1 and 2, which b lacks, were easier: the mean of a is above that of b, and a is behind it on seed 0."""
    easier = candidate("a", {0: 100, 1: 190, 2: 190}, images="of seed ")
    assert recommend([easier, candidate("b", {0: 150}, images="of seed ")]).startswith(
        "Take b: better than a: linear 75.0"
    )


def test_in_a_circle_none_is_the_best() -> None:
    """a is ahead of b on seed 0, b of c on seed 1, c of a on seed 2."""
    seeds = {"a": {0: 150, 2: 50}, "b": {0: 50, 1: 150}, "c": {1: 50, 2: 150}}
    found = recommend([candidate(name, right, images="of seed ") for name, right in seeds.items()])
    assert "none is ahead of every other one among a and c (linear 25.0 % against 75.0 % (-50.0, " in found
    assert "Run all of them with the same seeds (--seed)." in found


def test_encoders_without_a_first_verdict_are_compared_too() -> None:
    assert recommend([candidate("a", 100, label=None), candidate("b", 140, label=None)]).startswith("Take b: ")
