from __future__ import annotations

from pathlib import Path

import pytest

from eigenview import runfiles
from eigenview.report import configuration, tables
from eigenview.report.numbers import count, duration, parameters, percent, short
from eigenview.report.page import render
from eigenview.report.read import read_run, read_runs
from tests.report.synthetic_run import write_run


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.8312345678, "0.831"),
        (71.23456789, "71.2"),
        (1140.27, "1,140"),
        (8412, "8,412"),
        (3.0, "3"),
        (0, "0"),
        (-3.4, "-3.40"),
        (0.00004123, "4.1e-5"),
        (None, "–"),
        (float("nan"), "–"),
        ("text", "text"),
    ],
)
def test_short_numbers(value: object, text: str) -> None:
    assert short(value) == text


def test_units() -> None:
    assert [duration(s) for s in (3.21, 38, 492.3, 3840, None)] == ["3.2 s", "38 s", "8 min 12 s", "1 h 04 min", "–"]
    assert [parameters(n) for n in (11_173_962, 412_340, 999)] == [
        "11.2 M parameters",
        "412 k parameters",
        "999 parameters",
    ]
    assert count(1, "image") == "1 image"
    assert percent(61.7234) == "61.7"


def test_verdict_of_a_collapsed_run(tmp_path: Path) -> None:
    verdict = tables.verdict(read_run(write_run(tmp_path / "run", verdict="dimensional collapse")))
    assert verdict.word == "Dimensional collapse since epoch 3"
    assert verdict.kind == "bad"
    assert verdict.reason == "All images map to one point"
    assert verdict.remedies == ["--method.variance 25"]


def test_an_early_verdict_is_neither_good_nor_bad(tmp_path: Path) -> None:
    verdict = tables.verdict(read_run(write_run(tmp_path / "run", verdict="too early to judge")))
    assert (verdict.word, verdict.kind) == ("Too early to judge", "open")


def test_verdict_before_the_summary_is_the_last_diagnosis(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    (run / runfiles.SUMMARY).unlink()
    record = read_run(run)
    assert tables.verdict(record).word == "Healthy, so far"
    assert tables.progress(record).startswith("Not finished: 12 of 12 epochs so far.")
    assert tables.progress(record).endswith(f"eigenview pretrain --out {run.resolve()} --resume")
    (run / runfiles.DIAGNOSTICS).unlink()
    assert tables.verdict(read_run(run)).kind == "open"


def test_a_run_that_diverged_is_not_offered_to_be_continued(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", verdict="diverged")
    runfiles.write_json(run / runfiles.SUMMARY, runfiles.read_json(run / runfiles.SUMMARY) | {"finished": False})
    record = read_run(run)
    assert tables.verdict(record).kind == "bad"
    assert tables.progress(record) == "Ended early, after 12 of 12 epochs."
    (run / runfiles.PROBES).unlink()
    assert tables.probe_note(read_run(run)) == "No probes: the run ended early."


def test_probe_table_has_baselines_protocols_and_spread_over_draws(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    probes = runfiles.read_json(run / runfiles.PROBES)
    probes["rows"][-1] |= {"linear_few_std": 0.91, "linear": None}
    runfiles.write_json(run / runfiles.PROBES, probes)
    table = tables.probe_table(read_run(run))
    assert table is not None
    assert [row.label for row in table.rows] == ["raw pixels", "untrained encoder", "this encoder"]
    assert [cell.text for cell in table.rows[-1].cells] == ["61.7", "–", "52.8"]
    assert table.rows[-1].cells[2].detail == "± 0.9 over draws"
    assert table.rows[0].cells[0].share == pytest.approx(0.312)
    assert table.below[0] == ("k-NN", "cosine, k = 20, weighted")


def test_no_labels_no_probe_table(tmp_path: Path) -> None:
    assert tables.probe_table(read_run(write_run(tmp_path / "run", labels=False))) is None


def test_comparison_marks_the_best_of_each_probe(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / name, seed=i) for i, name in enumerate("ab")]
    better = runfiles.read_json(runs[1] / runfiles.SUMMARY) | {"linear": 75.0, "knn": None}
    runfiles.write_json(runs[1] / runfiles.SUMMARY, better)
    table = tables.comparison_table(read_runs(runs))
    cells = {(r.label, c): cell for r in table.rows for c, cell in zip(table.columns[1:], r.cells, strict=True)}
    assert cells["b", "linear, %"].is_best
    assert not cells["a", "linear, %"].is_best
    assert cells["b", "k-NN, %"].text == "–"
    assert cells["a", "k-NN, %"].detail == "raw pixels 31.2\nuntrained encoder 34.0"
    assert cells["a", "verdict"].text == "… Healthy"


@pytest.mark.parametrize("change", ["protocol", "classes", "data"])
def test_accuracies_that_were_measured_differently_are_not_compared(tmp_path: Path, change: str) -> None:
    runs = [write_run(tmp_path / name, seed=i) for i, name in enumerate("ab")]
    assert tables.not_compared(read_runs(runs)) == ""
    probes, config = runfiles.read_json(runs[1] / runfiles.PROBES), runfiles.read_json(runs[1] / runfiles.CONFIG)
    if change == "protocol":
        probes["protocols"]["linear_few"] = "4 labels per class, mean of 5 draws"
    elif change == "classes":
        probes["class_names"] = ["cat", "dog"]
    else:
        config["probe_data"] = "others/"
    runfiles.write_json(runs[1] / runfiles.PROBES, probes)
    runfiles.write_json(runs[1] / runfiles.CONFIG, config)
    records = read_runs(runs)
    table = tables.comparison_table(records)
    best = {c for r in table.rows for c, cell in zip(table.columns[1:], r.cells, strict=True) if cell.is_best}
    assert best == ({"k-NN, %", "linear, %"} if change == "protocol" else set())
    assert "linear, few labels" in tables.not_compared(records)
    assert "not probed in the same way" in render(records)


def test_a_warning_takes_the_tick_from_a_healthy_run(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    warned = runfiles.read_json(run / runfiles.SUMMARY) | {"warnings": ["this encoder is worse than raw pixels"]}
    runfiles.write_json(run / runfiles.SUMMARY, warned)
    record = read_run(run)
    verdict = tables.verdict(record)
    assert (verdict.word, verdict.kind) == ("Healthy", "warn")
    assert verdict.warnings == ["This encoder is worse than raw pixels"]
    page = render([record])
    assert "<b>Warning.</b> This encoder is worse than raw pixels" in page
    assert 'class="verdict warn"' in page


def test_means_of_classes_stand_beside_accuracies_where_classes_are_unequal(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    probes = runfiles.read_json(run / runfiles.PROBES) | {"per_class": True}
    for row in probes["rows"]:
        row |= {f"{name}_per_class": 41.0 for name in probes["columns"]}
    runfiles.write_json(run / runfiles.PROBES, probes)
    table = tables.probe_table(read_run(run))
    assert table is not None
    assert table.columns[1:3] == ["k-NN", "mean of classes"]
    assert [cell.text for cell in table.rows[-1].cells[:2]] == ["61.7", "41.0"]


def test_only_options_that_differ(tmp_path: Path) -> None:
    runs = read_runs([write_run(tmp_path / "a"), write_run(tmp_path / "b", batch_size=64, method="byol")])
    table = configuration.difference_table(runs)
    assert table is not None
    found = {row.label: [cell.text for cell in row.cells] for row in table.rows}
    assert found.pop("method.variance") == ["25", "0"]  # each method has its own options
    assert {name: texts for name, texts in found.items() if not name.startswith("method.")} == {
        "method": ["vicreg", "byol"],
        "batch_size": ["256", "64"],
    }
    assert configuration.difference_table(runs[:1] * 2) is None


def test_changed_options_against_the_default() -> None:
    config = {"epochs": 3, "optim": {"lr": 0.1, "betas": [0.9, 0.99]}, "method": {"variance": 25.0}}
    default = {"epochs": 40, "optim": {"lr": 0.1, "betas": (0.9, 0.99)}, "method": {}}
    assert configuration.changed_options(config, default) == {"epochs": (3, 40), "method.variance": (25.0, None)}


def test_the_command_is_quoted_for_a_shell(tmp_path: Path) -> None:
    command = configuration.command(read_run(write_run(tmp_path / "run")))
    assert command == "eigenview pretrain 'my shapes/' --method vicreg --seed 0"


def test_everyday_options_are_those_of_the_top_level_and_of_the_method(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    runfiles.write_json(run / runfiles.CONFIG, {"epochs": 3, "optim": {"lr": 0.1}, "method": {"variance": 25.0}})
    everyday, every = (configuration.config_table(read_run(run), everyday=flag) for flag in (True, False))
    assert everyday
    assert every
    assert [row.label for row in everyday.rows] == ["epochs", "method.variance"]
    assert [row.label for row in every.rows] == ["epochs", "optim.lr", "method.variance"]


def test_effective_rank_stands_beside_what_the_held_out_images_allow(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", width=128)
    assert dict(tables.tiles(read_run(run)))["effective rank of h"].detail == "of 128 possible"
    last = runfiles.read_rows(run / runfiles.DIAGNOSTICS)[-1]
    last["h"] |= {"participation_ratio": 30.0, "bias_ratio": 0.5}  # 61 images
    runfiles.append_row(run / runfiles.DIAGNOSTICS, last)
    assert dict(tables.tiles(read_run(run)))["effective rank of h"].detail == "of 60 possible"
