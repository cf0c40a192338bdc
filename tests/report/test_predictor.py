"""The predictor's figures: present where a run has its arrays, one line per mode, runs side by side, on the page."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from eigenview import runfiles
from eigenview.errors import UserError
from eigenview.report.page import render, write_report
from eigenview.report.plot import Figure
from eigenview.report.predictor import MAX_MODES, chosen_modes, predictor_figures
from eigenview.report.read import RunRecord, read_run, read_runs
from tests.report.chromium import dump_dom, find_chromium
from tests.report.synthetic_run import EPOCHS, STEPS_PER_EPOCH, write_run

HOSTILE = "<img src=x onerror=alert(2)>"


def bounce_back(width: int, epochs: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvalues of F and W_p (epochs + 1, width) by p' = s (1 - 1.25 p) - 0.04 p, s' = 2 p s (1 - 1.25 p) - 0.08 s.

    The decoupled dynamics of Tian et al. 2021, in which s = p^2 + c exp(-0.08 t). Modes start with p below 0 and fall;
    those with c above 0 come back once p is past 0, the last, with c below 0, does not.
    """
    rng = np.random.default_rng(seed)
    p = rng.uniform(-0.6, -0.4, width)
    s = p**2 + np.append(np.geomspace(0.5, 0.02, width - 1), -0.01)
    F, W = [s], [p]
    for step in range(1, epochs * 100 + 1):
        growth = s * (1 - 1.25 * p)
        s, p = s + 0.03 * (2 * p * growth - 0.08 * s), p + 0.03 * (growth - 0.04 * p)
        if step % 100 == 0:
            F.append(s)
            W.append(p)
    return np.array(F), np.array(W)


def write_predictor(run: Path, *, width: int = 10, seed: int = 0, linear_share: float = 0.83) -> Path:
    """Add a predictor's diagnostics to a run: arrays, rows and the momentum of the target."""
    F, W = bounce_back(width, EPOCHS, seed)
    order = np.argsort(-F, axis=1)
    F, W = np.take_along_axis(F, order, 1), np.take_along_axis(W, order, 1)
    cosines = 1 - 0.7 * np.exp(-np.arange(EPOCHS + 1) / (3 + seed))[:, None] * np.linspace(0.5, 1, width)
    arrays = runfiles.read_arrays(run / runfiles.SPECTRA)
    runfiles.write_arrays(run / runfiles.SPECTRA, arrays | {"F": F, "W_p": W, "alignment": cosines})
    rows = runfiles.read_rows(run / runfiles.DIAGNOSTICS)
    (run / runfiles.DIAGNOSTICS).unlink()
    for k, row in enumerate(rows):
        measures = {"alignment": float(cosines[k].mean()), "alignment_min": float(cosines[k].min())}
        measures |= {"commutator": 0.3 * float(np.exp(-k / 4 - seed / 5)), "linear_share": linear_share}
        runfiles.append_row(run / runfiles.DIAGNOSTICS, row | {"predictor": measures})
    rows = runfiles.read_rows(run / runfiles.METRICS)
    (run / runfiles.METRICS).unlink()
    for row in rows:
        tau = 1 - 0.01 * (np.cos(np.pi * row["step"] / (EPOCHS * STEPS_PER_EPOCH)) + 1) / 2
        runfiles.append_row(run / runfiles.METRICS, row | {"target_momentum": float(tau)})
    return run


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory) -> RunRecord:
    return read_run(write_predictor(write_run(tmp_path_factory.mktemp("runs") / "run", method="byol")))


def by_key(figures: list[Figure]) -> dict[str, Figure]:
    for figure in figures:
        json.dumps(figure.spec, allow_nan=False)  # finite, and nothing but JSON
    return {figure.key: figure for figure in figures}


def lines(figure: Figure) -> dict[str, dict[str, Any]]:
    return {trace["name"]: trace for trace in figure.spec["data"]}


def test_one_run(record: RunRecord) -> None:
    figures = by_key(predictor_figures([record]))
    assert list(figures) == ["predictor-F", "predictor-W_p", "predictor-alignment", "predictor-tau"]
    eigenvalues, predictor = lines(figures["predictor-F"]), lines(figures["predictor-W_p"])
    assert list(eigenvalues) == list(predictor) == [f"mode {k}" for k in range(1, 11)]
    for k, name in enumerate(eigenvalues):
        assert eigenvalues[name]["x"] == [float(epoch) for epoch in range(EPOCHS + 1)]
        np.testing.assert_array_equal(eigenvalues[name]["y"], record.spectra["F"][:, k])
        np.testing.assert_array_equal(predictor[name]["y"], record.spectra["W_p"][:, k])
        assert eigenvalues[name]["line"] == predictor[name]["line"]
    assert len({(t["line"]["color"], t["line"]["dash"]) for t in eigenvalues.values()}) == 10
    assert figures["predictor-F"].spec["layout"]["yaxis"]["type"] == "log"
    assert figures["predictor-W_p"].spec["layout"]["yaxis"].get("type") is None
    courses = lines(figures["predictor-alignment"])
    assert list(courses) == ["alignment, mean", "alignment, smallest", "commutator"]
    assert courses["commutator"]["y"] == [row["predictor"]["commutator"] for row in record.diagnostics]
    tau = figures["predictor-tau"].spec["data"][0]
    assert tau["y"] == [row["target_momentum"] for row in record.metrics]
    assert "explains 83.0 % of its output" in figures["predictor-W_p"].caption


def test_the_synthetic_modes_bounce_back() -> None:
    F, W = bounce_back(10, EPOCHS, 0)
    assert (F > 0).all()
    assert (F[-1, 3:-1] > 2 * F[:, 3:-1].min(axis=0)).all()
    assert F[-1, -1] < 0.1 * F[0, -1]
    assert (W[-1, :-1] > 0).all()
    assert W[-1, -1] < 0


def test_a_linear_predictor_is_not_said_to_be_one(record: RunRecord) -> None:
    rows = [row | {"predictor": row["predictor"] | {"linear_share": 1.0}} for row in record.diagnostics]
    assert "explains" not in by_key(predictor_figures([replace(record, diagnostics=rows)]))["predictor-W_p"].caption


def test_runs_without_a_predictor_have_no_such_figures(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    assert predictor_figures([read_run(run)]) == []
    assert ">Predictor</h2>" not in render([read_run(run)])


def test_no_target_no_momentum(record: RunRecord) -> None:
    metrics = [row | {"target_momentum": None} for row in record.metrics]
    without = [{k: v for k, v in row.items() if k != "target_momentum"} for row in record.metrics]
    for rows in (metrics, without, []):
        assert "predictor-tau" not in by_key(predictor_figures([replace(record, metrics=rows)]))


@pytest.mark.parametrize("width", [1, 2, MAX_MODES, MAX_MODES + 1, 20, 128, 2048])
def test_modes_are_chosen_over_the_whole_range(width: int) -> None:
    chosen = chosen_modes(width)
    assert chosen == sorted(set(chosen))
    assert (chosen[0], chosen[-1]) == (0, width - 1)
    assert min(width, 8) <= len(chosen) <= MAX_MODES
    assert max(chosen[:2]) <= 3  # close together at both ends
    assert min(chosen[-2:]) >= width - 4


def test_modes_of_rounding_and_numbers_that_are_none_are_gaps(record: RunRecord) -> None:
    F, W = record.spectra["F"].copy(), record.spectra["W_p"].copy()
    F[:, 6:] = 1e-20
    F[2, 4:] = 1e-20
    F[3] = np.nan
    W[4, 1] = np.nan
    spectra = record.spectra | {"F": F, "W_p": W}
    figures = by_key(predictor_figures([replace(record, spectra=spectra)]))
    eigenvalues, predictor = lines(figures["predictor-F"]), lines(figures["predictor-W_p"])
    assert list(eigenvalues) == list(predictor) == [f"mode {k}" for k in range(1, 7)]
    assert [k for k, v in enumerate(eigenvalues["mode 6"]["y"]) if v is None] == [2, 3]
    assert [k for k, v in enumerate(predictor["mode 2"]["y"]) if v is None] == [3, 4]
    for nothing in (np.zeros_like(F), np.full_like(F, np.nan), F[:, :0]):
        figures = by_key(predictor_figures([replace(record, spectra=record.spectra | {"F": nothing})]))
        assert list(figures) == ["predictor-alignment", "predictor-tau"]


def test_a_run_just_begun_has_points(record: RunRecord) -> None:
    spectra = {name: values[:1] for name, values in record.spectra.items()}
    begun = replace(record, spectra=spectra, diagnostics=record.diagnostics[:1], metrics=[])
    figures = by_key(predictor_figures([begun]))
    assert list(figures) == ["predictor-F", "predictor-W_p", "predictor-alignment"]
    assert all("markers" in trace["mode"] for figure in figures.values() for trace in figure.spec["data"])
    assert [entry.name for entry in figures["predictor-F"].legend] == [f"mode {k}" for k in range(1, 11)]


def test_measures_that_are_none_have_no_line(record: RunRecord) -> None:
    rows = [row | {"predictor": dict.fromkeys(row["predictor"])} for row in record.diagnostics]
    figures = by_key(predictor_figures([replace(record, diagnostics=rows)]))
    assert list(figures) == ["predictor-F", "predictor-W_p", "predictor-tau"]
    assert predictor_figures([replace(record, diagnostics=rows, spectra={})]) == []


def test_several_runs(tmp_path: Path) -> None:
    runs = [write_predictor(write_run(tmp_path / name, seed=k), seed=k) for k, name in enumerate("ab")]
    runs.insert(1, write_run(tmp_path / "none", seed=5))
    records = read_runs(runs)
    figures = by_key(predictor_figures(records))
    assert list(figures) == ["predictor-alignment", "predictor-commutator", "predictor-F", "predictor-W_p"]
    for figure in figures.values():
        assert [entry.name for entry in figure.legend] == ["a", "b"]
        assert list(lines(figure)) == ["a", "b"]
    # the run between them keeps its colour
    alone = by_key(predictor_figures([records[0], records[2]]))["predictor-F"]
    assert lines(figures["predictor-F"])["b"]["line"] != lines(alone)["b"]["line"]
    last = lines(figures["predictor-W_p"])["b"]
    assert last["x"] == list(range(1, 11))
    np.testing.assert_array_equal(last["y"], records[2].spectra["W_p"][-1])


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("F", lambda a: a[:-1]),
        ("W_p", lambda a: a[:, 0]),
        ("alignment", lambda a: a.astype(int)),
        ("W_p", lambda a: a[:, :-1]),
        ("alignment", None),
    ],
)
def test_arrays_that_do_not_fit_are_refused(tmp_path: Path, name: str, change: Any) -> None:
    run = write_predictor(write_run(tmp_path / "run"))
    arrays = runfiles.read_arrays(run / runfiles.SPECTRA)
    changed = arrays.pop(name)
    runfiles.write_arrays(run / runfiles.SPECTRA, arrays | ({name: change(changed)} if change else {}))
    with pytest.raises(UserError, match=r"spectra\.npz.*damaged"):
        read_run(run)


def test_the_page_has_a_section_and_names_stay_text(tmp_path: Path) -> None:
    runs = [write_predictor(write_run(tmp_path / name, seed=k)) for k, name in enumerate((HOSTILE, "b"))]
    for records in (read_runs(runs[:1]), read_runs(runs)):
        page = re.sub(r"<script>/\*\*\n\* plotly\.js.*?</script>", "", render(records), flags=re.DOTALL)
        headings = re.findall(r"<h2[^>]*>(.*?)</h2>", page)
        assert headings[headings.index("Measures of collapse") + 1] == "Predictor"
        assert page.count('id="plot-predictor-') == 4
        assert HOSTILE not in page


@pytest.mark.browser
@pytest.mark.skipif(find_chromium() is None, reason="no Chromium on this machine")
def test_the_figures_are_drawn(tmp_path: Path) -> None:
    run = write_predictor(write_run(tmp_path / "run", method="byol"))
    page = dump_dom(write_report([run], tmp_path / "report.html"))
    assert page.console == []
    assert "data-errors" not in page.dom[: page.dom.index("<head")]
    assert len(re.findall(r'<div class="plot js-plotly-plot" id="plot-predictor-', page.dom)) == 4
