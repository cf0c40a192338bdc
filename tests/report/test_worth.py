"""Both verdicts on the page: of one run, over seeds, and which of several runs to take."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from eigenview import cli, runfiles
from eigenview.diagnostics.worth import NO_LABELS, to_summary, unknown
from eigenview.errors import UserError
from eigenview.report import tables, worth
from eigenview.report.page import render
from eigenview.report.read import read_run, read_runs
from tests.report.synthetic_run import make_hits, write_run


def plain(page: str) -> str:
    """The page with breakable spaces."""
    return page.replace("\N{NO-BREAK SPACE}", " ")


def hits(ours: float, seed: int = 0, images: int = 400) -> runfiles.Hits:
    return make_hits(np.random.default_rng(seed), images=images, shares=(0.4, 0.4, ours))


@pytest.mark.parametrize(
    ("ours", "label", "head", "kind"),
    [
        (0.7, "healthy", "Not collapsed, and better than raw pixels and the untrained encoder", "good"),
        (0.4, "healthy", "Not collapsed, but not certain to be better than", "warn"),
        (0.2, "healthy", "Not collapsed, but worse than", "warn"),
        (0.2, "dimensional collapse", "Collapsed: images differ in a few directions only, and worse than", "bad"),
        (0.7, "too early to judge", "Too early to tell whether it collapses; so far better than", "open"),
    ],
)
def test_the_card_begins_with_both_verdicts(tmp_path: Path, ours: float, label: str, head: str, kind: str) -> None:
    record = read_run(write_run(tmp_path / "run", verdict=label, hits=hits(ours)))
    found = tables.verdict(record)
    assert found.word.startswith(head)
    assert found.kind == kind
    assert "95 % interval" in found.detail
    assert found.detail.endswith(".")
    assert found.reason.startswith(f"{label[:1].upper()}{label[1:]}")
    page = plain(render([record]))
    assert f'class="verdict {kind}"' in page
    assert page.index(head) < page.index("95 % interval")


def test_green_is_only_where_both_verdicts_are_good(tmp_path: Path) -> None:
    kinds = {
        (ours, label): tables.verdict(
            read_run(write_run(tmp_path / f"{ours}{label}", verdict=label, hits=hits(ours)))
        ).kind
        for ours in (0.7, 0.4, 0.2)
        for label in ("healthy", "complete collapse", "dimensional collapse", "diverged", "too early to judge")
    }
    assert [key for key, kind in kinds.items() if kind == "good"] == [(0.7, "healthy")]


def test_diagnose_has_the_colours_of_the_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    cases = {("healthy", 0.7): 32, ("healthy", 0.4): 33, ("too early to judge", 0.7): 33, ("diverged", 0.7): 31}
    for number, ((label, ours), colour) in enumerate(cases.items()):
        cli.run(["diagnose", str(write_run(tmp_path / str(number), verdict=label, hits=hits(ours)))])
        sentence, first, *_ = capsys.readouterr().out.splitlines()
        assert sentence.startswith(f"\x1b[1;{colour}m")
        assert f"\x1b[1;{colour}m{label}" in first


def test_a_run_that_goes_on_is_not_green(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", hits=hits(0.7))
    (run / runfiles.SUMMARY).unlink()
    found = tables.verdict(read_run(run))
    assert (found.word, found.kind) == ("Healthy, so far", "open")
    assert 'class="verdict good"' not in render([read_run(run)])


def test_without_labels_the_card_says_what_to_do_and_shows_signs(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", labels=False)
    summary = runfiles.read_summary(run) | {"worth": to_summary(unknown(NO_LABELS))}
    runfiles.write_object(run / runfiles.SUMMARY, summary)
    last = runfiles.read_rows(run / runfiles.DIAGNOSTICS)[-1]
    last["h"] |= {"effective_rank": 31.2}
    runfiles.append_row(run / runfiles.DIAGNOSTICS, last)
    found = tables.verdict(read_run(run))
    assert found.kind == "open"
    assert found.word == "Not collapsed. Whether it is worth using cannot be known without labels"
    assert f"eigenview probe {run.resolve()} --data LABELLED" in found.detail
    assert found.detail.endswith("Signs without labels: the features vary in about 31 independent directions.")


def test_seeds_of_one_configuration_are_taken_together(tmp_path: Path) -> None:
    """0.7 against 0.4, three seeds on the same images: better, and nearer to 30 points than one seed can be."""
    runs = [write_run(tmp_path / f"seed{k}", seed=k, hits=hits(0.7, seed=k)) for k in range(3)]
    records = read_runs(runs)
    assert [[r.name for r in group] for group in worth.groups(records)] == [["seed0", "seed1", "seed2"]]
    (sentence,) = worth.over_seeds(records)
    assert sentence.startswith(
        "Over 3 seeds (seed0, seed1, seed2): not collapsed, and better than raw pixels and the untrained encoder: the "
    )
    assert worth.recommendation(records) == ""
    assert sentence in plain(render(records))
    collapsed = read_runs([*runs[:2], write_run(tmp_path / "c", seed=5, verdict="complete collapse", hits=hits(0.7))])
    (sentence,) = worth.over_seeds(collapsed)
    assert sentence.startswith("Over 3 seeds (seed0, seed1, c; 1 of them not healthy): ")
    assert sentence.endswith(" Do not use c (complete collapse).")


@pytest.mark.parametrize(
    ("label", "advice"),
    [
        ("dimensional collapse", "Do not use k0 (dimensional collapse), k1 (dimensional collapse)."),
        ("too early to judge", "Train longer (--epochs)."),
    ],
)
@pytest.mark.parametrize(("ours", "images"), [(0.2, 400), (0.7, 400), (0.4, 400), (0.7, 12)])
def test_advice_over_seeds_follows_the_first_verdict(
    tmp_path: Path, label: str, advice: str, ours: float, images: int
) -> None:
    runs = [write_run(tmp_path / f"k{k}", seed=k, verdict=label, hits=hits(ours, k, images)) for k in range(2)]
    (sentence,) = worth.over_seeds(read_runs(runs))
    assert sentence.startswith("Over 2 seeds (k0, k1; 2 of them not healthy): ")
    assert sentence.endswith(f". {advice}")
    assert not any(each in sentence for each in ("--weights", "not collapsed", "add more", "more seeds"))


def test_a_copy_of_a_run_is_no_other_seed(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", hits=hits(0.7))
    shutil.copytree(run, tmp_path / "copy")
    assert worth.over_seeds(read_runs([run, tmp_path / "copy"])) == []
    other = write_run(tmp_path / "other", seed=1, hits=hits(0.7, seed=1))
    (sentence,) = worth.over_seeds(read_runs([run, tmp_path / "copy", other]))
    assert sentence.startswith("Over 2 seeds (run, other): ")


def test_two_seeds_that_are_better_are_not_called_equal(tmp_path: Path) -> None:
    """+20 and +40 points: with Student's t of two the interval reaches from below 0, but each run is better."""
    runs = [write_run(tmp_path / f"{k}", seed=k, hits=hits(share, seed=k)) for k, share in enumerate((0.6, 0.8))]
    records = read_runs(runs)
    (sentence,) = worth.over_seeds(records)
    assert sentence.startswith(
        "Over 2 seeds (0, 1): each run is better than its baselines, but with so few seeds the mean difference is "
        "uncertain: raw pixels, linear "
    )
    assert sentence.endswith("Run more seeds (--seed).")
    other = write_run(tmp_path / "byol", method="byol", hits=hits(0.4))
    assert "But it is" not in worth.recommendation(read_runs([*runs, other]))


def test_one_of_two_configurations_is_recommended(tmp_path: Path) -> None:
    """Two seeds each, compared seed by seed."""
    runs = [
        write_run(tmp_path / f"{method}{seed}", method=method, seed=seed, hits=hits(share, seed=seed))
        for method, share in (("vicreg", 0.5), ("byol", 0.7))
        for seed in (0, 1)
    ]
    text = worth.recommendation(read_runs(runs))
    assert text.startswith("Take byol0 (with 1 more seed): better than vicreg0 (with 1 more seed): linear ")
    single = read_runs([runs[0], runs[2]])
    assert worth.recommendation(single).startswith("Take byol0: better than vicreg0: linear ")
    assert worth.over_seeds(single) == []
    assert worth.recommendation(single) in plain(render(single))


def test_runs_of_earlier_versions_have_the_first_verdict_alone(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / name, method=name) for name in ("vicreg", "byol")]
    found = tables.verdict(read_run(runs[0]))
    assert (found.word, found.kind, found.detail, found.worth) == ("Healthy", "open", "", "")
    assert worth.recommendation(read_runs(runs)).startswith(
        "None of these can be recommended: which test images were right is not known of vicreg and byol."
    )


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"word": "good"}, "worth.word is 'good'; expected one of better"),
        ({"word": "mixed"}, "no comparison in worth.against has it"),
        ({"against": {}}, "no comparison in worth.against has it"),
        ({"against": {"raw pixels": {"word": "better", "probes": {}}}}, "has no linear probe"),
        ({"against": {"raw pixels": {"word": "better", "probes": {"linear": {}}}}}, "linear.ours is missing"),
    ],
)
def test_a_worth_that_does_not_follow_is_refused(tmp_path: Path, change: dict[str, object], reason: str) -> None:
    run = write_run(tmp_path / "run", hits=hits(0.7))
    summary = runfiles.read_summary(run)
    runfiles.write_object(run / runfiles.SUMMARY, summary | {"worth": summary["worth"] | change})
    with pytest.raises(UserError, match=f"summary.json is damaged: .*{reason}"):
        read_run(run)


def test_the_comparison_has_both_words(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / name, method=name, hits=hits(0.4)) for name in ("vicreg", "byol")]
    table = tables.comparison_table(read_runs(runs))
    cell = table.rows[0].cells[0]
    assert (cell.text, cell.detail) == ("! Healthy", "no better than its baselines")


def test_a_row_that_belongs_to_the_one_above_is_set_in(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    probes = runfiles.read_json(run / runfiles.PROBES)
    probes["rows"].insert(2, probes["rows"][1] | {"features": "with batch-norm statistics of these images"})
    runfiles.write_json(run / runfiles.PROBES, probes)
    table = tables.probe_table(read_run(run))
    assert table is not None
    assert [row.is_part for row in table.rows] == [False, False, True, False]
    assert '<th scope="row" class="part">' in render([read_run(run)])
