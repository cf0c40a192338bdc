"""Every simulation through the command line: published numbers in its table, and its files."""

from __future__ import annotations

import csv
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from eigenview.cli import run
from eigenview.simulations import THEORIES

Numbers = dict[str, list[str]]
Simulated = Callable[..., tuple[Path, Numbers]]


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Simulated:
    """`simulate(*args)`: the folder and numbers.csv of a command line, which must succeed and is run only once."""
    done: dict[tuple[str, ...], Path] = {}

    def simulate(*args: str) -> tuple[Path, Numbers]:
        if args not in done:
            out = tmp_path_factory.mktemp("simulations") / "out"
            assert run(["simulate", *args, "--out", str(out)]) == 0
            done[args] = out
        return done[args], numbers(done[args])

    return simulate


def numbers(folder: Path) -> Numbers:
    """The columns of numbers.csv by quantity; `quantity` itself names the columns."""
    with (folder / "numbers.csv").open(newline="") as file:
        return {row[0]: row[1:] for row in csv.reader(file)}


def curves(folder: Path, panel: str, curve: str, setting: str = "") -> tuple[np.ndarray, np.ndarray]:
    with (folder / "curves.csv").open(newline="") as file:
        rows = [r for r in csv.DictReader(file) if (r["setting"], r["panel"], r["curve"]) == (setting, panel, curve)]
    return np.array([float(r["x"]) for r in rows]), np.array([float(r["y"]) for r in rows])


# name and options -> published numbers (ten digits), or numbers computed by hand
KNOWN: list[tuple[list[str], dict[str, float]]] = [
    (
        ["byol-eigenvalues"],
        {
            "p_minus (unstable)": 0.1171572875,
            "p_plus (stable)": 0.6828427125,
            "s_plus of F": 0.46627417,
            "largest eta that does not collapse everything": 0.2,
        },
    ),
    (
        ["byol-eigenvalues", "--tau", "0.8", "--sigma2", "0.5", "--eta", "0.05"],
        {"p_minus (unstable)": 0.0723016035, "p_plus (stable)": 0.4610317298},
    ),
    # an initial s other than p^2 / alpha_p: both equations by Runge-Kutta
    (
        ["byol-eigenvalues", "--p", "0.3", "--s", "0.2", "--end", "5", "--alpha-p", "2"],
        {"p at t = 5 from 0.3": 0.6976740134},
    ),
    (["byol-matrices"], {"p_plus, limit of aligned modes": 0.6828427125}),
    (["byol-matrices", "--system", "no-predictor"], {"predicted rate, sigma2 + eta": 0.35}),
    (
        ["directset"],
        {
            "singular value at rest, invariant": 0.7236067977,
            "singular value at rest, nuisance": 0.0,
            "eta above which nuisance directions vanish": 0.125,
        },
    ),
    (["directset", "--alpha", "1", "--eta", "4e-4"], {"singular value at rest, invariant": 0.9997998999}),
    (
        ["isoloss"],
        {
            "IsoLoss: lam at t = 2 from 0.1": 0.4508530604,
            "BYOL: time to 0.9 r from 0.1": 13.2833380436,
            "IsoLoss: time to 0.9 r from 0.1": 4.3944491547,
        },
    ),
    (["isoloss", "--share", "0.5"], {"BYOL: time to 0.5 r from 0.1": 10.1972245773}),
    (
        ["isoloss", "--metric", "cosine", "--lam", "0.2", "0.5", "1"],
        {
            "BYOL: lam' at the start from 0.2": 0.0268705334,
            "BYOL: lam' at the start from 0.5": 0.0997819209,
            "BYOL: lam' at the start from 1": -0.0552650671,
            "IsoLoss: lam' at the start from 0.2": 0.1343526668,
        },
    ),
    (
        ["infonce"],
        {
            "negative eigenvalues of Sigma_0 - Sigma_aug at the start": 8,
            "singular values above a tenth of the largest at t = 20": 8,
            "noise above which small weights lose a direction, std": 2**0.5,
        },
    ),
    (["infonce", "--noise", "0"], {"negative eigenvalues of Sigma_0 - Sigma_aug at the start": 0}),
    (
        ["two-layers"],
        {
            "closed form: a layer's singular value at t = 1 from 0.5": 0.7071067812,
            "closed form: product of the layers at t = 1 from 0.25": 0.5,
            "closed form: time of blow-up from 0.5": 2.0,
        },
    ),
    (["modes", "--aligned"], {"largest stable learning rate": 0.25, "largest error of the closed form": 0.0}),
    (["spectral", "--orthogonality", "1"], {"eigenvalue 1 of T_M": 1.0, "orthogonality that feature 1 needs": 0.0}),
]


def test_every_name_is_among_the_known() -> None:
    assert {args[0] for args, _ in KNOWN} == set(THEORIES)


@pytest.mark.parametrize(("args", "known"), KNOWN, ids=lambda x: "-".join(x) if isinstance(x, list) else "")
def test_the_table_holds_the_numbers_known_in_advance(
    simulated: Simulated, args: list[str], known: dict[str, float]
) -> None:
    folder, found = simulated(*args)
    assert found["quantity"] == ["value"]
    for name, value in known.items():
        # ten digits are printed; simulated values are good to about 1e-9
        assert float(found[name][0]) == pytest.approx(value, rel=1e-8, abs=1e-8), name
    page = (folder / "figure.html").read_text()
    assert "Plotly.newPlot" in page
    assert "Assumptions" in page
    assert 'http-equiv="Content-Security-Policy" content="default-src \'none\'' in page
    with (folder / "curves.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) > 400
    assert np.isfinite([float(row["x"]) for row in rows]).all()
    assert not any("nan" in row["y"] for row in rows)


def test_simulated_curves_end_at_the_fixed_points(simulated: Simulated) -> None:
    folder, found = simulated("byol-eigenvalues")
    time, p = curves(folder, "Predictor", "p of a mode 5")
    assert (time[0], time[-1], p[0]) == (0, 60, 0.5)
    assert p[-1] == pytest.approx(0.6828427125, abs=1e-9)
    _, below = curves(folder, "Predictor", "p of a mode 2")  # starts at 0.1, below p_minus
    assert below[-1] < 0.003
    assert (np.diff(below) < 0).all()
    assert found["time to within 1 % of p_plus from 0.1"] == ["inf"]
    # the same time by partial fractions of 1 / p' is 13.7027
    assert float(found["time to within 1 % of p_plus from 0.3"][0]) == pytest.approx(13.703, abs=2e-3)


def test_matrices_align_in_time_and_faster_with_a_faster_predictor(simulated: Simulated) -> None:
    slow = simulated("byol-matrices")[1]
    fast = simulated("byol-matrices", "--alpha-p", "4")[1]
    assert float(slow["time until the relative commutator stays below 1e-4"][0]) < 20
    assert float(fast["time until the relative commutator stays below 1e-8"][0]) < 20
    ends = [float(slow[f"eigenvalue {k} of W_p at t = 40"][0]) for k in (1, 2, 3, 4)]
    np.testing.assert_allclose(ends, 0.68284, atol=5e-5)


@pytest.mark.parametrize("system", ["no-predictor", "no-stop-gradient"])
def test_without_predictor_or_stop_gradient_everything_collapses(simulated: Simulated, system: str) -> None:
    _, found = simulated("byol-matrices", "--system", system)
    assert float(found["eigenvalue 1 of F at t = 40"][0]) < 1e-11
    rate = float(found["mean rate at which |W| falls"][0])
    assert rate == pytest.approx(0.35, abs=1e-6) if system == "no-predictor" else rate > 0.35


def test_a_target_network_aligns_too_and_later(simulated: Simulated) -> None:
    _, found = simulated("byol-matrices", "--system", "ema")
    assert float(found["eigenvalue 4 of W_p at t = 40"][0]) == pytest.approx(0.6828427125, abs=1e-3)
    without = simulated("byol-matrices")[1]["time until the relative commutator stays below 1e-4"][0]
    assert float(found["time until the relative commutator stays below 1e-4"][0]) > float(without)


def test_above_the_saddle_node_the_statement_is_that_everything_collapses(
    simulated: Simulated, capsys: pytest.CaptureFixture[str]
) -> None:
    simulated("byol-eigenvalues", "--eta", "0.21", "--sigma2", "0", "--tau", "0.8")
    printed = " ".join(capsys.readouterr().out.split())
    assert re.search(r"collapses.*eta = 0\.21 .*tau\^2 / \(4 \(1 \+ sigma2\)\) = 0\.16\b", printed)


def test_with_a_target_network_the_one_dimensional_equation_is_not_used(
    simulated: Simulated, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    _, found = simulated("byol-eigenvalues", "--beta", "0.05", "--tau", "0.5")
    assert re.search(r"not separated.* p_minus = 0\.117.*basin edge", " ".join(capsys.readouterr().out.split()))
    assert float(found["p at t = 60 from 0.13"][0]) < 0.1171572875  # which is above p_minus, and collapses
    held = simulated("byol-eigenvalues")[1]["basin edge in s at p = 0.1"][0]
    assert float(found["basin edge in s at p = 0.1"][0]) > float(held)


def test_elasticities_have_the_signs_of_the_theory(simulated: Simulated) -> None:
    """A faster predictor and a larger target shrink the basin of collapse, weight decay and view noise enlarge it."""
    found = simulated("byol-eigenvalues", "--elasticities")[1]
    moved = {name: float(found[f"percent of it per percent of {name}"][0]) for name in ("alpha_p", "tau", "eta")}
    assert moved["alpha_p"] == pytest.approx(-1, abs=1e-3)  # s enters as alpha_p s alone, at this p
    assert moved["tau"] < 0 < moved["eta"]
    assert float(found["percent of it per percent of 1 + sigma2"][0]) > 0


def test_predicted_and_simulated_take_off_agree(simulated: Simulated) -> None:
    _, aligned = simulated("modes", "--aligned")
    _, random = simulated("modes")
    for j in range(1, 7):
        for found, tolerance in ((aligned, 1e-3), (random, 0.03)):
            predicted = float(found[f"mode {j}: time to half, predicted"][0])
            assert float(found[f"mode {j}: time to half, simulated"][0]) == pytest.approx(predicted, rel=tolerance)


def test_depth_costs_dimensions(simulated: Simulated) -> None:
    _, found = simulated("two-layers")
    two = float(found["two layers: effective rank at t = 20"][0])
    one = float(found["one layer: effective rank at t = 20"][0])
    assert two < 0.6 * one
    assert float(found["change of W1 W1^T - W2^T W2"][0]) < 1e-8


def test_the_point_cloud_at_low_and_high_weight_side_by_side(simulated: Simulated) -> None:
    folder, found = simulated("spectral")
    assert found["quantity"] == ["orthogonality = 0.01", "orthogonality = 1"]
    low, high = zip(*(map(float, found[f"principal angle {k}, degrees"]) for k in range(1, 6)), strict=True)
    assert max(high) < 5
    assert low[3:] == (90, 90)
    for k in range(1, 6):
        predicted, learned = (map(float, found[f"energy {k} {at}"]) for at in ("at rest, predicted", "at the end"))
        np.testing.assert_allclose(list(learned), list(predicted), atol=2e-3)
    with (folder / "points.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 3 * 240  # the exact function once, the learned ones for both weights
    colours = {s: np.array([float(r["value"]) for r in rows if r["setting"] == s]) for s in ("", *found["quantity"])}
    np.testing.assert_allclose(colours["orthogonality = 1"], colours[""], atol=0.01)
    assert np.abs(colours["orthogonality = 0.01"]).max() < 1e-6


def test_barlow_twins_on_the_point_cloud(simulated: Simulated) -> None:
    _, found = simulated("spectral", "--objective", "barlow_twins", "--orthogonality", "1", "--width", "4")
    assert float(found["eigenvalue 1 of T_M"][0]) < 1  # the constant function is not among them
    assert float(found["principal angle 4, degrees"][0]) < 5


def test_names_and_help_without_torch_or_scipy() -> None:
    program = (
        "import sys; from eigenview.cli import run\n"
        "for args in (['--help'], ['simulate'], ['list', 'theories']): assert run(args) == 0\n"
        "assert not {'torch', 'scipy', 'plotly', 'matplotlib'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for name in THEORIES:
        assert done.stdout.count(f"{name}  ") == 2


@pytest.mark.parametrize("name", THEORIES)
def test_help_states_assumptions_and_a_sentence_for_each_option(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    import dataclasses

    from eigenview.simulations import load

    with pytest.raises(SystemExit) as stop:
        run(["simulate", name, "--help"])
    assert stop.value.code == 0
    text = " ".join(capsys.readouterr().out.replace("│", " ").split())
    theory = load(name)
    assert theory.assumptions.split(". ")[0] in text
    assert "torch" not in theory.assumptions
    for field in dataclasses.fields(theory.options):
        assert f"--{field.name.replace('_', '-')} " in text
    assert text.count("(default:") >= len(dataclasses.fields(theory.options))
