"""The first sentence of terminal and report, for every pair of verdicts."""

from __future__ import annotations

from dataclasses import replace

import pytest

from eigenview.diagnostics.baselines import RAW_PIXELS, RECALIBRATED, STARTED_FROM, UNTRAINED
from eigenview.diagnostics.worth import NO_LABELS, UNUSED_LABELS, Comparison, Interval, Word, Worth, unknown
from eigenview.diagnostics.worth_sentence import first_sentence, signed, signs_without_labels, tone_of


def interval(ours: float, theirs: float, low: float, high: float, images: int = 757) -> Interval:
    return Interval(ours=ours, theirs=theirs, difference=ours - theirs, low=low, high=high, images=images, draws=1)


BETTER = Comparison(
    word="better",
    probes={
        "knn": interval(72.4, 68.0, 3.0, 5.9),
        "linear": interval(79.8, 77.5, 1.1, 3.4),
        "linear_few": interval(41.1, 25.8, 12.0, 18.0),
    },
)
SAME = Comparison(word="no different", probes={"linear": interval(77.1, 77.5, -2.0, 1.2)})
AHEAD = Comparison(word="no different", probes={"linear": interval(79.8, 77.5, -0.5, 5.1)})
WORSE = Comparison(word="worse", probes={"linear": interval(70.1, 77.5, -9.4, -5.1)})
PERFECT = Comparison(word="no different", probes={"linear": interval(100.0, 100.0, -2.9, 2.9)})
TORN = Comparison(
    word="mixed", probes={"knn": interval(60.0, 68.0, -10.0, -6.0), "linear": interval(79.8, 77.5, 1.1, 3.4)}
)


def worth(word: Word, **against: Comparison) -> Worth:
    names = {"raw": RAW_PIXELS, "untrained": UNTRAINED, "start": STARTED_FROM, "recalibrated": RECALIBRATED}
    return Worth(word=word, against={names[key]: each for key, each in against.items()}, labels_per_class=10)


@pytest.mark.parametrize(
    ("label", "of", "text", "tone"),
    [
        (
            "healthy",
            worth("better", raw=BETTER, start=BETTER),
            "Not collapsed, and better than the backbone you started from: linear 79.8 % against 77.5 % (+2.3, 95 % "
            "interval +1.1 to +3.4); with 10 labels per class 41.1 % against 25.8 %.",
            "good",
        ),
        (
            "healthy",
            worth("no different", raw=SAME, untrained=BETTER),
            "Not collapsed, but no better than raw pixels: linear 77.1 % against 77.5 % (-0.4, 95 % interval -2.0 to "
            "+1.2). Train longer (--epochs), or start from pretrained weights (--weights).",
            "warn",
        ),
        (
            "healthy",
            worth("no different", raw=AHEAD, untrained=BETTER),
            "Not collapsed, but not certain to be better than raw pixels: linear 79.8 % against 77.5 % (+2.3, 95 % "
            "interval -0.5 to +5.1). There are too few test images to be certain: add more, or train longer "
            "(--epochs).",
            "warn",
        ),
        (
            "healthy",
            worth("no different", raw=BETTER, start=SAME, recalibrated=SAME),
            "Not collapsed, but no better than the backbone you started from: linear 77.1 % against 77.5 % (-0.4, 95 % "
            "interval -2.0 to +1.2). Keep that one, or see docs/adapt.md.",
            "warn",
        ),
        (
            "healthy",
            worth("no different", raw=BETTER, start=BETTER, recalibrated=SAME),
            "Not collapsed, but no better than the backbone you started from with batch-norm statistics of these "
            "images: linear 77.1 % against 77.5 % (-0.4, 95 % interval -2.0 to +1.2). Keep that one, or see "
            "docs/adapt.md.",
            "warn",
        ),
        (
            "healthy",
            worth("worse", raw=WORSE, untrained=SAME),
            "Not collapsed, but worse than raw pixels: linear 70.1 % against 77.5 % (-7.4, 95 % interval -9.4 to "
            "-5.1). Train longer (--epochs), or start from pretrained weights (--weights).",
            "warn",
        ),
        (
            "healthy",
            worth("mixed", raw=TORN),
            "Not collapsed, but the probes disagree whether it is better than raw pixels: linear 79.8 % against 77.5 % "
            "(+2.3, 95 % interval +1.1 to +3.4); by k-NN it is worse, 60.0 % against 68.0 % (-8.0, 95 % interval -10.0 "
            "to -6.0). Decide by the probe that is closest to your use.",
            "warn",
        ),
        (
            "healthy",
            unknown(NO_LABELS),
            "Not collapsed. Whether it is worth using cannot be known without labels: label 10 images a class, then "
            "eigenview probe runs/a --data LABELLED.",
            "open",
        ),
        (
            "dimensional collapse",
            worth("no different", raw=SAME),
            "Collapsed: images differ in a few directions only, and no better than raw pixels: linear 77.1 % against "
            "77.5 % (-0.4, 95 % interval -2.0 to +1.2). Do not use this encoder.",
            "bad",
        ),
        (
            "complete collapse",
            unknown(NO_LABELS),
            "Collapsed: all images map to nearly one point. Do not use this encoder.",
            "bad",
        ),
        ("diverged", unknown(NO_LABELS), "Diverged: training broke down. Do not use this encoder.", "bad"),
        (
            "too early to judge",
            worth("better", raw=BETTER),
            "Too early to tell whether it collapses; so far better than raw pixels: linear 79.8 % against 77.5 % "
            "(+2.3, 95 % interval +1.1 to +3.4); with 10 labels per class 41.1 % against 25.8 %. Train longer "
            "(--epochs).",
            "open",
        ),
        (
            "too early to judge",
            unknown(NO_LABELS),
            "Too early to tell whether it collapses. Train longer (--epochs).",
            "open",
        ),
        (
            None,
            worth("no different", raw=SAME),
            "No better than raw pixels: linear 77.1 % against 77.5 % (-0.4, 95 % interval -2.0 to +1.2). Train longer "
            "(--epochs).",
            "warn",
        ),
        (
            "healthy",
            worth("worse", raw=WORSE, start=BETTER),
            "Not collapsed, but worse than raw pixels: linear 70.1 % against 77.5 % (-7.4, 95 % interval -9.4 to "
            "-5.1). Train longer (--epochs).",
            "warn",
        ),
        (
            "healthy",
            worth("no different", raw=PERFECT, untrained=SAME),
            "Not collapsed, but no better than raw pixels: linear 100.0 % against 100.0 % (0.0, 95 % interval -2.9 to "
            "+2.9). No encoder can be better than 100 %: compare on labels that are harder to tell apart.",
            "warn",
        ),
        (
            "healthy",
            worth("no different", raw=BETTER, start=PERFECT),
            "Not collapsed, but no better than the backbone you started from: linear 100.0 % against 100.0 % (0.0, "
            "95 % interval -2.9 to +2.9). Keep that one, or see docs/adapt.md.",
            "warn",
        ),
        (
            "healthy",
            unknown(UNUSED_LABELS),
            "Not collapsed. Whether it is worth using is not known: no labels are used (--labels none). To measure it: "
            "eigenview probe runs/a --data LABELLED.",
            "open",
        ),
    ],
)
def test_the_sentence(label: str | None, of: Worth, text: str, tone: str) -> None:
    found = first_sentence(label, of, run="runs/a")
    assert (found.text, found.tone) == (text, tone)
    assert "%" not in found.head


def test_the_command_that_is_advised_can_be_copied() -> None:
    text = first_sentence("healthy", unknown(NO_LABELS), run="my runs/one").text
    assert "eigenview probe 'my runs/one' --data LABELLED." in text


def test_of_two_baselines_the_closest_is_named() -> None:
    near = Comparison(word="better", probes={"linear": interval(99.0, 96.1, 1.7, 4.1)})
    far = Comparison(word="better", probes={"linear": interval(99.0, 95.0, 2.9, 5.3)})
    text = first_sentence("healthy", worth("better", raw=far, untrained=near)).text
    assert text == (
        "Not collapsed, and better than raw pixels and the untrained encoder: the closest is the untrained encoder, "
        "linear 99.0 % against 96.1 % (+2.9, 95 % interval +1.7 to +4.1)."
    )


def test_where_few_labels_gain_that_is_said_too() -> None:
    both = Comparison(word="no different", probes={**SAME.probes, "linear_few": interval(41.1, 25.8, 12.0, 18.0)})
    text = first_sentence("healthy", worth("no different", start=both)).text
    assert "with 10 labels per class it is better, 41.1 % against 25.8 % (+15.3, 95 % interval +12.0 to +18.0)" in text


def test_few_test_images_give_an_interval_and_no_word() -> None:
    wide = Comparison(word="unknown", probes={"linear": interval(75.0, 66.7, -16.7, 33.3, images=12)})
    of = Worth(word="unknown", why="there are only 12 test images", against={RAW_PIXELS: wide})
    found = first_sentence("healthy", of)
    assert found.tone == "open"
    assert found.text == (
        "Not collapsed. Whether it is better than raw pixels is uncertain: there are only 12 test images (linear "
        "75.0 % against 66.7 % (+8.3, 95 % interval -16.7 to +33.3)). Label more images."
    )


def test_numbers_have_a_sign_but_for_zero() -> None:
    assert [signed(x) for x in (2.34, -0.4, 0, -0.0, 1e-15)] == ["+2.3", "-0.4", "0.0", "0.0", "0.0"]


def test_a_bound_that_is_not_zero_is_not_shown_as_zero() -> None:
    """An interval of "better" does not hold 0, and the reader must see that."""
    shown = ["+0.02", "+0.01", "-0.02", "+0.04", "+0.1", "+0.0", "-0.0"]
    assert [signed(x) for x in (0.02, 0.01, -0.02, 0.04, 0.06, 0.004, -0.004)] == shown
    close = Comparison(word="better", probes={"linear": interval(78.2, 77.5, 0.02, 1.5)})
    assert "95 % interval +0.02 to +1.5)" in first_sentence("healthy", worth("better", raw=close)).text


def test_advice_does_not_contradict_the_interval() -> None:
    """25 points on 36 images were not enough, so that no smaller difference may be called one that they show."""
    wide = Comparison(word="no different", probes={"linear": interval(66.7, 41.7, 0.0, 47.4, images=36)})
    text = first_sentence("healthy", worth("no different", raw=wide)).text
    assert text.endswith("+47.4). There are too few test images to be certain: add more, or train longer (--epochs).")
    seeds = replace(wide.probes["linear"], draws=3)
    text = first_sentence("healthy", worth("no different", raw=replace(wide, probes={"linear": seeds}))).text
    assert "There are too few seeds and test images to be certain: add more, or" in text
    text = first_sentence("healthy", worth("no different", start=wide)).text
    assert text.endswith("There are too few test images to be certain: add more, or keep that one.")


def test_good_are_only_both_verdicts_together() -> None:
    words: list[Word | None] = ["better", "no different", "worse", "mixed", "unknown", None]
    assert [tone_of("healthy", word) for word in words] == ["good", "warn", "warn", "warn", "open", "open"]
    assert {tone_of("too early to judge", word) for word in words} == {"open"}
    assert {tone_of("diverged", word) for word in words} == {"bad"}


def test_signs_without_labels() -> None:
    last = {"effective_rank": 23.4, "cosine_views": 0.91, "cosine_others": 0.12}
    assert signs_without_labels({"effective_rank": 11.2}, last) == (
        "Signs without labels: the features vary in about 23 independent directions (11 before training); cosine of "
        "two views of an image 0.91, of two images 0.12."
    )
    assert signs_without_labels(None, {"effective_rank": None}) == ""
