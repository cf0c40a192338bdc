"""Sweeps, files and errors of `eigenview simulate`."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import numpy as np
import pytest

from eigenview.cli import run
from eigenview.report.plot import GREY, PALETTE
from eigenview.simulations import load, plot_data, png_figure, sweep
from eigenview.simulations.result import Curve, Panel, Result, effective_rank, time_to_reach, time_to_within_1_percent
from tests.simulations.test_simulate import curves, numbers


def test_a_sweep_has_a_column_and_a_colour_for_each_value(tmp_path: Path) -> None:
    out, png = tmp_path / "out", tmp_path / "alpha.png"
    args = ["directset", "--eta", "0.1", "--sweep", "alpha=0.25,0.5,1,2", "--out", str(out), "--png", str(png)]
    assert run(["simulate", *args]) == 0
    found = numbers(out)
    assert found["quantity"] == ["alpha = 0.25", "alpha = 0.5", "alpha = 1", "alpha = 2"]
    rest = [float(x) for x in found["singular value at rest, invariant"]]
    np.testing.assert_allclose(rest, [0.7872983346, 0.8872983346, 0.9419651451, 0.9705488886], atol=5e-11)
    ratios = [float(x) for x in found["signal to noise, ratio of squares"]]
    assert ratios == sorted(ratios, reverse=True)
    # the simulation ends at the closed form
    for setting, w in zip(found["quantity"], rest, strict=True):
        assert curves(out, "Singular values of the encoder", "invariant", setting)[1][-1] == pytest.approx(w, abs=1e-6)
    assert png.read_bytes().startswith(b"\x89PNG")


def test_curves_of_a_sweep_share_a_plot_and_common_ones_are_drawn_once() -> None:
    theory = load("byol-eigenvalues")
    study = sweep.run("byol-eigenvalues", theory, theory.options(), "eta=0.1,0.19")
    speed = next(plot for plot in plot_data.plots(study) if plot.panel.title == "Speed of p")
    assert [(line.name, line.colour) for line in speed.lines] == [
        ("p', eta = 0.1", PALETTE[0]),
        ("0", GREY),
        ("p', eta = 0.19", PALETTE[1]),
    ]
    assert [entry[:2] for entry in speed.legend] == [
        ("eta = 0.1", PALETTE[0]),
        ("eta = 0.19", PALETTE[1]),
        ("p'", GREY),
        ("0", GREY),
    ]


@pytest.mark.parametrize(
    ("name", "swept"), [("byol-eigenvalues", "eta=0.05,0.1,0.19,0.21"), ("directset", "alpha=0.5,1,2")]
)
def test_no_legend_of_the_png_covers_a_curve_or_is_cut_off(name: str, swept: str) -> None:
    theory = load(name)
    figure = png_figure.draw(sweep.run(name, theory, theory.options(), swept))
    figure.draw_without_rendering()
    legends = [
        (axis.patch.get_window_extent(), legend.get_window_extent()) for axis in figure.axes if (legend := axis.legend_)
    ]
    assert legends
    for axes, legend in legends:
        assert not legend.overlaps(axes)
        assert figure.bbox.x0 <= legend.x0 < legend.x1 <= figure.bbox.x1
        assert figure.bbox.y0 <= legend.y0 < legend.y1 <= figure.bbox.y1


def test_a_logarithmic_axis_leaves_gaps_at_zero() -> None:
    x = np.arange(3.0)
    curve = Curve("c", x, np.array([[1.0, 2.0], [0.0, np.nan], [-1.0, 3.0]]))
    panel = Panel("t", "", "x", "y", (curve,), is_log=True)
    study = sweep.Study("directset", "", (("", Result({}, (), (panel,))),))
    (plot,) = plot_data.plots(study)
    assert [line.y for line in plot.lines] == [[1.0, None, None], [2.0, None, 3.0]]
    assert plot.legend == []


def test_parsing_of_sweeps_by_the_options_type() -> None:
    eigenvalues, matrices = load("byol-eigenvalues").options, load("byol-matrices").options
    assert sweep.parse_sweep("alpha-p=1, 2e0", eigenvalues) == ("alpha_p", [1.0, 2.0])
    assert sweep.parse_sweep("--beta=none,0.5", eigenvalues) == ("beta", [None, 0.5])
    assert sweep.parse_sweep("elasticities=true,false", eigenvalues) == ("elasticities", [True, False])
    assert sweep.parse_sweep("system=free,ema", matrices) == ("system", ["free", "ema"])
    assert sweep.parse_sweep("seed=1,2", matrices) == ("seed", [1, 2])


@pytest.mark.parametrize(
    ("args", "pattern"),
    [
        (["byol-eigenvalue"], r"byol-eigenvalue\b.*Did you mean byol-eigenvalues\?.*eigenview list theories"),
        (["directset", "--etta", "3"], "Did you mean --eta"),
        (["directset", "--eta", "-1"], r"eta.*-1\.0.*0 or more"),
        (["directset", "--eta", "nan"], r"eta.*nan.*0 or more"),
        (["directset", "--end", "0"], r"end.*0\.0.*above 0"),
        (["directset", "--sweep", "eta"], r"--sweep.*'eta'.*option=a,b,c.*alpha, eta"),
        (["directset", "--sweep", "etta=1,2"], r"--sweep.*etta.*Did you mean eta\?"),
        (["directset", "--sweep", "eta=0.1,b"], r"eta.*'b'.*--sweep.*number"),
        (["directset", "--sweep", "eta=0.1,-2"], r"eta = -2: eta.*-2\.0.*0 or more"),
        (["directset", "--sweep", "eta=0.1,.1"], r"--sweep.*0\.1,\.1.*distinct"),
        (["directset", "--sweep", "eta=1,2,3,4,5,6,7,8"], r"--sweep.*8.*1 to 7"),
        (["isoloss", "--sweep", "metric=euclid"], r"metric.*'euclid'.*euclidean, cosine"),
        (["isoloss", "--sweep", "lam=1,2"], r"--sweep.*'lam'"),
        (["isoloss", "--metric", "cosine", "--r", "0.5"], r"\br\b.*0\.5.*1.*cosine"),
        (["isoloss", "--at", "30"], r"\bat\b.*30\.0.*20"),
        (["byol-eigenvalues", "--s", "0.1"], r"p and s.*\(5,\).*\(1,\)"),
        (["byol-eigenvalues", "--p"], r"\bp\b.*\(\).*one number"),
        (["byol-eigenvalues", "--alpha-p", "0"], r"alpha-p.*0\.0.*above 0.*--s"),
        (["byol-matrices", "--s", "-0.1", "0.2"], r"\bs\b.*-0\.1.*0 or more"),
        (["infonce", "--eps", "0", "--end", "20"], r"end.*20\.0.*5 with eps 0"),
        (["infonce", "--samples", "1"], r"samples.*1.*2 to 4,096"),
        (["infonce", "--kept", "1000000000"], r"kept.*1000000000.*0 to 256"),
        (["two-layers", "--width", "706003"], r"width.*706003.*1 to 256"),
        (["modes", "--inputs", "100000"], r"inputs.*100000.*1 to 256"),
        (["two-layers", "--sigma", "0.5", "0"], r"sigma.*\(0\.5, 0\.0\).*above 0"),
        (["modes", "--width", "13"], r"width.*13.*1 to 12"),
        (["spectral", "--images", "100"], r"images.*4000.*1000"),
        (["spectral", "--orthogonality", "0"], r"orthogonality.*0\.0.*above 0"),
    ],
    ids=lambda x: " ".join(x) if isinstance(x, list) else "",
)
def test_bad_input_is_an_error_and_nothing_is_written(
    args: list[str], pattern: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    try:
        code = run(["simulate", *args, "--out", str(out)])
    except SystemExit as stop:  # errors that tyro reports itself
        code = stop.code
    error = capsys.readouterr().err
    assert code == 2
    assert re.search(pattern, error)
    assert "Traceback" not in error
    if error.startswith("eigenview: "):
        assert error.count("\n") == 1
    assert not out.exists()


def test_a_folder_with_other_files_is_an_error_and_an_earlier_simulation_is_replaced(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert run(["simulate", "directset", "--out", str(out)]) == 0
    first = numbers(out)
    assert run(["simulate", "directset", "--eta", "0.1", "--out", str(out)]) == 0
    assert numbers(out) != first
    assert sorted(path.name for path in out.iterdir()) == ["curves.csv", "figure.html", "numbers.csv"]
    (out / "mine.txt").write_text("kept")
    capsys.readouterr()
    assert run(["simulate", "directset", "--out", str(out)]) == 2
    assert re.search(r"out\b.*other files.*--out", capsys.readouterr().err)
    assert run(["simulate", "directset", "--out", str(out / "mine.txt")]) == 2
    assert re.search(r"mine\.txt.*file.*directory", capsys.readouterr().err)


def test_files_that_a_simulation_left_in_its_folder_may_be_overwritten(tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = ["simulate", "directset", "--out", str(out), "--png", str(out / "mine.png")]
    assert run(command) == 0
    (out / ".figure.html.killed").touch()
    assert run(command) == 0
    assert run(command[:-2]) == 2  # without --png the PNG counts as another file


def test_without_a_folder_it_writes_below_simulations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(["simulate", "directset"]) == 0
    page = (tmp_path / "simulations" / "directset" / "figure.html").read_text()
    assert "eigenview simulate directset" in page  # the command that repeats it


def test_a_png_without_matplotlib_is_an_error_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    out = tmp_path / "out"
    assert run(["simulate", "directset", "--out", str(out), "--png", str(tmp_path / "a.png")]) == 2
    assert re.search(r"--png.*matplotlib.*pip install", capsys.readouterr().err)
    assert not out.exists()
    monkeypatch.delitem(sys.modules, "matplotlib")
    png_figure.check_available()


def test_times_are_interpolated_between_the_points() -> None:
    times = np.array([0.0, 1.0, 2.0])
    assert time_to_reach(times, np.array([0.0, 0.2, 1.0]), 0.6) == pytest.approx(1.5)
    assert time_to_reach(times, np.array([1.0, 0.5, 0.0]), 0.25) == pytest.approx(1.5)
    assert time_to_reach(times, np.array([0.0, 0.1, 0.2]), 0.6) == float("inf")
    assert time_to_reach(times, np.array([0.6, 0.1, 0.2]), 0.6) == 0
    assert time_to_within_1_percent(times, np.array([0.0, 0.98, 1.0]), 1.0) == pytest.approx(1.5)
    assert time_to_within_1_percent(times, np.array([2.0, 1.02, 1.0]), 1.0) == pytest.approx(1.5)


def test_effective_rank_of_known_spectra() -> None:
    assert effective_rank(np.ones(5)) == pytest.approx(5)
    assert effective_rank(np.array([3.0, 0.0])) == pytest.approx(1)
    assert effective_rank(np.zeros(3)) == 0
    # shares 1/2, 1/4, 1/4: entropy 1.5 log 2
    assert effective_rank(np.array([2.0, 1.0, 1.0])) == pytest.approx(2**1.5)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["infonce", "--width", "1" + "0" * 30], r"width is 1000000000000000000000000000000; allowed: 1 to 256\."),
        (["infonce", "--noise", "1e30"], r"noise is 1e\+30; allowed: 0, or 1e-12 to 10000 in size\."),
        (["infonce", "--noise", "1000"], r"noise is 1000\.0; allowed: up to 100\."),
        (["modes", "--seed", "1" + "0" * 30], r"seed is 1000.*allowed: up to 4,294,967,295\."),
        (["isoloss", "--alpha", "1e-308"], r"alpha is 1e-308; allowed: 0, or 1e-12"),
        (["two-layers", "--at", "1000"], r"growth times at is 1000\.0; allowed: up to 100 in size"),
        (["byol-eigenvalues", "--p", "0.1", "1e308"], r"p is 1e\+308; allowed"),
        (["byol-matrices", "--sweep", "eta=0.1,1e308"], r"at eta = 1e\+308: eta is 1e\+308; allowed"),
    ],
)
def test_numbers_beyond_all_measure_are_one_line(
    arguments: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["simulate", *arguments, "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert re.search(said, error), error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()
