"""Sweeps, files and refusals of `eigenview simulate`."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from eigenview.cli import run
from eigenview.report.plot import GREY, PALETTE
from eigenview.simulations import layout, load, picture, sweep
from eigenview.simulations.outcome import Curve, Outcome, Panel, effective_rank, time_to_reach
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
    # the closed form is the end of the simulation
    for setting, w in zip(found["quantity"], rest, strict=True):
        assert curves(out, "Singular values of the encoder", "invariant", setting)[1][-1] == pytest.approx(w, abs=1e-6)
    assert png.read_bytes().startswith(b"\x89PNG")


def test_curves_of_a_sweep_share_a_plot_and_common_ones_are_drawn_once() -> None:
    theory = load("byol-eigenvalues")
    study = sweep.run("byol-eigenvalues", theory, theory.options(), "eta=0.1,0.19")
    speed = next(plot for plot in layout.plots(study) if plot.panel.title == "Speed of p")
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
def test_no_legend_of_a_picture_hides_a_curve_or_is_cut_off(name: str, swept: str) -> None:
    theory = load(name)
    figure = picture.draw(sweep.run(name, theory, theory.options(), swept))
    figure.draw_without_rendering()
    legends = [
        (axis.patch.get_window_extent(), legend.get_window_extent()) for axis in figure.axes if (legend := axis.legend_)
    ]
    assert legends
    for curves_, legend in legends:
        assert not legend.overlaps(curves_)
        assert figure.bbox.x0 <= legend.x0 < legend.x1 <= figure.bbox.x1
        assert figure.bbox.y0 <= legend.y0 < legend.y1 <= figure.bbox.y1


def test_a_logarithmic_axis_leaves_gaps_at_zero() -> None:
    x = np.arange(3.0)
    curve = Curve("c", x, np.array([[1.0, 2.0], [0.0, np.nan], [-1.0, 3.0]]))
    panel = Panel("t", "", "x", "y", (curve,), is_log=True)
    study = sweep.Study("directset", "", (("", Outcome({}, (), (panel,))),))
    (plot,) = layout.plots(study)
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
    ("args", "said"),
    [
        (["byol-eigenvalue"], "no such theory. Did you mean byol-eigenvalues? (eigenview list theories)"),
        (["directset", "--etta", "3"], "--eta FLOAT"),
        (["directset", "--eta", "-1"], "eta is -1.0; allowed: 0 or more."),
        (["directset", "--eta", "nan"], "eta is nan; allowed: 0 or more."),
        (["directset", "--end", "0"], "end is 0.0; allowed: above 0."),
        (["directset", "--sweep", "eta"], "--sweep is 'eta'; allowed: option=a,b,c. Options: alpha, eta"),
        (["directset", "--sweep", "etta=1,2"], "Did you mean eta?"),
        (["directset", "--sweep", "eta=0.1,b"], "eta is 'b' in --sweep; allowed: a number."),
        (["directset", "--sweep", "eta=0.1,-2"], "at eta = -2: eta is -2.0; allowed: 0 or more."),
        (["directset", "--sweep", "eta=0.1,.1"], "allowed: values that differ"),
        (["directset", "--sweep", "eta=1,2,3,4,5,6,7,8"], "is 8; allowed: 1 to 7"),
        (["isoloss", "--sweep", "metric=euclid"], "metric is 'euclid'; allowed: euclidean, cosine."),
        (["isoloss", "--sweep", "lam=1,2"], "the option of --sweep is 'lam'"),
        (["isoloss", "--metric", "cosine", "--r", "0.5"], "r is 0.5; allowed: 1 with the cosine"),
        (["isoloss", "--at", "30"], "at is 30.0; allowed: 0 or more, up to 20."),
        (["byol-eigenvalues", "--s", "0.1"], "one number per mode in both"),
        (["byol-eigenvalues", "--p"], "p is (); allowed: one number or more."),
        (["byol-eigenvalues", "--alpha-p", "0"], "Give --s for a predictor that does not learn."),
        (["byol-matrices", "--s", "-0.1", "0.2"], "an entry of s"),
        (["infonce", "--eps", "0", "--end", "20"], "at most 5 with eps 0: nothing bounds the embedding then"),
        (["infonce", "--samples", "1"], "samples is 1; allowed: 2 or more: every sample needs a negative."),
        (["two-layers", "--sigma", "0.5", "0"], "sigma is (0.5, 0.0); allowed: one number or more, above 0."),
        (["modes", "--width", "13"], "width is 13; allowed: 1 to 12, the number of inputs."),
        (["spectral", "--images", "100"], "is 4000; allowed: at most 1000 points."),
        (["spectral", "--orthogonality", "0"], "orthogonality is 0.0; allowed: above 0."),
    ],
    ids=lambda x: " ".join(x) if isinstance(x, list) else "",
)
def test_bad_input_is_refused_in_words_and_nothing_is_written(
    args: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    try:
        code = run(["simulate", *args, "--out", str(out)])
    except SystemExit as stop:  # tyro's own refusals
        code = stop.code
    error = capsys.readouterr().err
    assert code == 2
    assert said in error
    assert "Traceback" not in error
    if error.startswith("eigenview: "):
        assert error.count("\n") == 1
    assert not out.exists()


def test_a_folder_of_others_is_refused_and_an_earlier_simulation_replaced(
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
    assert "already holds other files. Choose another --out." in capsys.readouterr().err
    assert run(["simulate", "directset", "--out", str(out / "mine.txt")]) == 2
    assert "is a file; give a directory." in capsys.readouterr().err


def test_what_a_simulation_left_in_its_folder_is_its_own(tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = ["simulate", "directset", "--out", str(out), "--png", str(out / "mine.png")]
    assert run(command) == 0
    (out / ".figure.html.killed").touch()
    assert run(command) == 0
    assert run(command[:-2]) == 2  # a picture that is not asked for is somebody's


def test_without_a_folder_it_writes_below_simulations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(["simulate", "directset"]) == 0
    page = (tmp_path / "simulations" / "directset" / "figure.html").read_text()
    assert "eigenview simulate directset" in page  # the command that repeats it


def test_a_png_without_matplotlib_is_refused_before_anything_is_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    out = tmp_path / "out"
    assert run(["simulate", "directset", "--out", str(out), "--png", str(tmp_path / "a.png")]) == 2
    assert "--png needs matplotlib, which is not installed" in capsys.readouterr().err
    assert not out.exists()
    monkeypatch.delitem(sys.modules, "matplotlib")
    picture.check_available()


def test_times_are_read_between_the_points() -> None:
    times = np.array([0.0, 1.0, 2.0])
    assert time_to_reach(times, np.array([0.0, 0.2, 1.0]), 0.6) == pytest.approx(1.5)
    assert time_to_reach(times, np.array([1.0, 0.5, 0.0]), 0.25) == pytest.approx(1.5)
    assert time_to_reach(times, np.array([0.0, 0.1, 0.2]), 0.6) == float("inf")
    assert time_to_reach(times, np.array([0.6, 0.1, 0.2]), 0.6) == 0


def test_effective_rank_of_known_spectra() -> None:
    assert effective_rank(np.ones(5)) == pytest.approx(5)
    assert effective_rank(np.array([3.0, 0.0])) == pytest.approx(1)
    assert effective_rank(np.zeros(3)) == 0
    # shares 1/2, 1/4, 1/4: entropy 1.5 log 2
    assert effective_rank(np.array([2.0, 1.0, 1.0])) == pytest.approx(2**1.5)
