from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from eigenview.report.figures import collapse_figures, loss_figures
from eigenview.report.plot import MAX_POINTS, Figure, log_step, thin
from eigenview.report.read import RunRecord, read_run, read_runs
from eigenview.report.spectrum import power_law, spectrum_figures
from tests.report.synthetic_run import write_run


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory) -> RunRecord:
    return read_run(write_run(tmp_path_factory.mktemp("runs") / "run"))


def by_key(figures: list[Figure]) -> dict[str, Figure]:
    for figure in figures:
        json.dumps(figure.spec, allow_nan=False)  # finite, and nothing but JSON
    return {figure.key: figure for figure in figures}


def lines(figure: Figure) -> dict[str, dict[str, Any]]:
    return {trace["name"]: trace for trace in figure.spec["data"] if "name" in trace}


def test_a_panel_per_loss_term_and_one_for_their_sum(record: RunRecord) -> None:
    figures = loss_figures([record])
    assert [f.title for f in figures] == ["Total loss", "Invariance", "Variance", "Covariance"]
    trace = figures[1].spec["data"][0]
    assert trace["y"] == [row["terms"]["invariance"] for row in record.metrics]
    assert trace["x"][:3] == [0.0, 0.2, 0.4]
    single = replace(record, metrics=[row | {"terms": {"ntxent": row["loss"]}} for row in record.metrics])
    assert [f.title for f in loss_figures([single])] == ["Ntxent"]


def test_nulls_are_gaps_and_a_term_without_numbers_has_no_panel(record: RunRecord) -> None:
    terms = {"invariance": None, "variance": float("nan"), "covariance": 1.0}
    rows = [record.metrics[0], record.metrics[1] | {"terms": terms, "loss": None}, record.metrics[2]]
    figures = by_key(loss_figures([replace(record, metrics=rows)]))
    assert figures["loss-0"].spec["data"][0]["y"][1] is None
    assert figures["loss-2"].spec["data"][0]["y"][1] is None
    only = [row | {"terms": terms} for row in record.metrics]
    assert [f.title for f in loss_figures([replace(record, metrics=only)])] == ["Total loss", "Covariance"]


def test_the_caption_tells_start_and_end(record: RunRecord) -> None:
    rows = [row | {"loss": 10.0 - k} for k, row in enumerate(record.metrics[:5])]
    assert loss_figures([replace(record, metrics=rows)])[0].caption == "From 10 at the start to 6 at the end."


def test_a_single_step_is_a_point_that_can_be_seen(record: RunRecord) -> None:
    """A line through one point is nothing."""
    short_run = replace(record, metrics=record.metrics[:1])
    for figure in loss_figures([short_run]):
        assert "at the only step that was written" in figure.caption
        assert "markers" in figure.spec["data"][0]["mode"]


def test_spread_and_rank_have_the_untrained_value_as_reference(record: RunRecord) -> None:
    figures = by_key(collapse_figures([record]))
    assert list(figures) == ["spread-h-z", "rank-h-z"]
    reference, course = figures["spread-h-z"].spec["data"][:2]
    assert reference["y"] == [record.diagnostics[0]["h"]["spread"]] * 2
    assert reference["x"] == [0.0, 12.0]
    assert course["y"] == pytest.approx([row["h"]["spread"] for row in record.diagnostics])
    late = replace(record, diagnostics=record.diagnostics[1:])
    assert len(collapse_figures([late])[0].spec["data"]) == 2  # h and z alone


def test_several_runs_are_overlaid_with_looks_of_their_own(tmp_path: Path) -> None:
    records = read_runs([write_run(tmp_path / name, seed=i) for i, name in enumerate("abc")])
    figures = by_key(collapse_figures(records) + spectrum_figures(records))
    assert list(figures) == ["spread-h", "spread-z", "rank-h", "rank-z", "spectrum-h", "spectrum-z"]
    for figure in figures.values():
        assert list(lines(figure)) == ["a", "b", "c"]
        assert [entry.name for entry in figure.legend] == ["a", "b", "c"]
        assert len({(t["line"]["color"], t["line"]["dash"]) for t in lines(figure).values()}) == 3


def test_a_run_without_spectra_does_not_shift_the_colours_of_the_others(tmp_path: Path) -> None:
    records = read_runs([write_run(tmp_path / name, seed=i) for i, name in enumerate("ab")])
    colour = lines(spectrum_figures(records)[0])["b"]["line"]["color"]
    records = [replace(records[0], spectra={}), records[1]]
    assert lines(spectrum_figures(records)[0])["b"]["line"]["color"] == colour


def test_the_spectrum_unfolds_over_epochs_and_ends_with_its_fit(record: RunRecord) -> None:
    figure = by_key(spectrum_figures([record]))["spectrum-h"]
    names = list(lines(figure))
    assert names[0] == "epoch 0"
    assert names[-2] == "epoch 12"
    assert names[-1].startswith("fit, alpha ")
    assert len(names) == 7
    last = lines(figure)["epoch 12"]
    assert last["y"] == pytest.approx(record.spectra["h"][-1][np.array(last["x"]) - 1])


@pytest.mark.parametrize(
    ("low", "high", "step"),
    [(1, 1, "D2"), (0.02, 1, "D2"), (0.01, 1, 1), (1e-7, 10, 1), (1e-8, 10, 2), (2e-14, 40, 2), (1e-20, 10, 3)],
)
def test_a_logarithmic_axis_has_at_most_nine_labels(low: float, high: float, step: int | str) -> None:
    assert log_step(low, high) == step


@pytest.mark.parametrize("alpha", [0.5, 1.08, 3.0])
def test_the_fit_of_an_exact_power_law_is_exact(alpha: float) -> None:
    fit = power_law(7.0 * np.arange(1, 201.0) ** -alpha)
    assert fit == pytest.approx((alpha, np.log(7.0)), abs=1e-10)


def test_the_fit_is_the_weighted_least_squares_of_ranks_4_to_50() -> None:
    values = np.sort(np.random.default_rng(0).lognormal(0, 2, 120))[::-1]
    ranks = np.arange(4, 51.0)
    # polyfit multiplies residuals, not squares, by its weights
    slope, intercept = np.polyfit(np.log(ranks), np.log(values[3:50]), 1, w=ranks**-0.5)
    assert power_law(values) == pytest.approx((-slope, intercept))
    assert power_law(values[:5]) is None


def test_collapsed_and_damaged_spectra_draw_what_they_have(record: RunRecord) -> None:
    h = np.zeros((3, 64))
    h[0] = np.arange(64, 0, -1)
    h[1, :2] = 5, 3
    h[1, 2] = 1e-20  # rounding
    h[2] = np.nan
    spectra = {"step": np.array([0, 50, 100]), "h": h, "z": np.zeros((3, 64))}
    (figure,) = spectrum_figures([replace(record, spectra=spectra)])
    assert figure.key == "spectrum-h"
    assert lines(figure)["epoch 1"]["y"] == [5, 3]
    assert "epoch 2" not in lines(figure)


def test_long_lines_are_thinned_but_keep_spikes_gaps_and_ends() -> None:
    x = [float(i) for i in range(50_000)]
    y: list[float | None] = [np.sin(i / 1000).item() for i in range(50_000)]
    y[12_345], y[23_456] = 100.0, -100.0
    y[30_000:31_000] = [None] * 1000
    y[40_001] = None
    thin_x, thin_y = thin(x, y)
    assert len(thin_x) == len(thin_y) <= MAX_POINTS
    assert thin_x == sorted(set(thin_x))
    points = dict(zip(thin_x, thin_y, strict=True))
    assert points[12_345.0] == 100
    assert points[23_456.0] == -100
    assert points[40_001.0] is None
    assert all(v is None for k, v in points.items() if 30_000 <= k < 31_000)
    assert {0.0, 49_999.0} <= points.keys()
    assert thin(x[:10], y[:10]) == (x[:10], y[:10])
