"""The theory and a run: runs simulated by the theory are fitted, a deviating mode is named, other runs are refused."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from eigenview import runfiles
from eigenview.cli import run
from eigenview.config import NetworkConfig, OptimConfig
from eigenview.errors import UserError
from eigenview.functional.predictors import predictor_eigenvalues
from eigenview.records import PredictorTheory
from eigenview.report.page import write_report
from eigenview.report.read import read_run
from eigenview.report.theory_curves import ModeHistory, curves
from eigenview.report.theory_fit import predict
from eigenview.report.theory_inputs import _predictor, theory_inputs
from eigenview.report.theory_residual import residual
from eigenview.report.theory_section import theory_section
from eigenview.theory import eigenvalues
from tests.report.synthetic_run import EPOCHS, STEPS_PER_EPOCH, write_run
from tests.theory.linear_run import train
from tests.theory.test_engine_follows import DT, MODES

RATE, SCALE, SIGMA2, ETA = 0.01, 5.0, 0.25, 0.05
STEPS = np.arange(EPOCHS + 1) * STEPS_PER_EPOCH
P, S = np.array([0.6, 0.5, 0.35, 0.3]), np.array([0.6, 0.35, 0.12, 0.03])


def a_history(**fields: Any) -> ModeHistory:
    """A history of which only `curves` is used: four modes, constant rates."""
    made: dict[str, Any] = {"steps": STEPS.astype(float), "F": S[None] * (1 + SIGMA2), "W_p": P[None]}
    made |= {
        "sigma2": np.full(4, SIGMA2),
        "tau": np.ones(4),
        "target_momentum": None,
        "alpha_p": 1.0,
        "predictor": None,
    }
    made |= {"learning_rate": (np.array([0.0]), np.array([1.0])), "decay": 0.0, "predictor_decay": 0.0}
    return ModeHistory(**(made | fields))


def by_the_theory(alpha_p: float = 1.0, beta: float | None = None) -> dict[str, np.ndarray]:
    """Spectra of a run whose modes are `eigenvalues.simulate`'s, at SCALE units of time per unit of learning rate."""
    solution = eigenvalues.simulate(
        P, S, STEPS * RATE * SCALE, alpha_p=alpha_p, eta=ETA, sigma2=SIGMA2, beta=beta
    ).states
    F = (1 + SIGMA2) * solution["s"]
    assert (np.diff(F, axis=1) < 0).all()  # no two change places: a mode keeps its number
    spectra = {"step": STEPS, "F": F, "W_p": solution["p"], "noise": SIGMA2 * solution["s"]}
    spectra["alignment"] = np.ones_like(F)
    return spectra | ({"target": solution["tau"]} if beta is not None else {})


def written(path: Path, spectra: dict[str, np.ndarray], *, alpha_p: float = 1.0, beta: float | None = None) -> Path:
    """A run directory with these spectra, constant learning rate and the options that belong to them."""
    optim = OptimConfig(
        name="sgd",
        momentum=0.0,
        weight_decay=ETA * SCALE,
        predictor_lr_factor=alpha_p,
        predictor_weight_decay=ETA * SCALE / alpha_p,
    )
    write_run(path, method="byol", optim=optim, network=NetworkConfig(predictor_layers=1))
    runfiles.write_arrays(path / runfiles.SPECTRA, spectra)
    kept = None if beta is None else 1 - beta * RATE * SCALE
    for name, more in (
        (runfiles.METRICS, {"lr": RATE, "target_momentum": kept}),
        (runfiles.DIAGNOSTICS, {"predictor": {"alignment": 1.0, "alignment_min": 1.0, "commutator": 0.0}}),
    ):
        rows = runfiles.read_rows(path / name)
        (path / name).unlink()
        for row in rows:
            runfiles.append_row(path / name, row | more)
    return path


@pytest.mark.parametrize(("alpha_p", "beta"), [(1.0, None), (3.0, None), (2.0, 0.4)])
def test_a_run_of_the_theory_is_fitted_and_its_time_scale_found(
    alpha_p: float, beta: float | None, tmp_path: Path
) -> None:
    path = written(tmp_path / "run", by_the_theory(alpha_p, beta), alpha_p=alpha_p, beta=beta)
    section = theory_inputs(read_run(path))
    prediction = predict(section.history)
    assert prediction.scale == pytest.approx(SCALE, rel=1e-3)
    for left in prediction.residuals.values():
        assert left.overall < 1e-3
        assert left.unchanged > 0.1
        assert left.first_above(0.1) is None
    text = theory_section(read_run(path)).summary
    assert "It holds to the end: no diagnosis is off by more than 10\u00a0%." in text
    assert "over the 4 leading modes, which hold 100.0\u00a0% of F" in text


def test_a_mode_that_deviates_from_the_theory_is_named_with_its_epoch(tmp_path: Path) -> None:
    spectra = by_the_theory()
    # the first, from epoch 5 on; it stays the first, and is at rest there: no other time scale would bring it nearer
    spectra["F"][5:, 0] *= 1.5
    assert (np.diff(spectra["F"], axis=1) < 0).all()
    section = theory_section(read_run(written(tmp_path / "run", spectra)))
    assert "from epoch 5 on, the first at which F is off by more than 10\u00a0%." in section.summary
    assert "Modes of F off by more than 10\u00a0%: 1." in section.summary
    assert "Modes of W_p" not in section.summary
    rows = {row.label: row.cells for row in section.modes.rows}
    shares = {mode: float(cells[4].text.removesuffix("\u00a0%")) for mode, cells in rows.items()}
    assert shares["1"] > 20
    assert max(shares[mode] for mode in "234") < 5


def test_the_steps_between_are_followed_with_their_schedules() -> None:
    """Against a plain loop of Euler steps, 100 to a step of training: rates, momentum and noise that differ."""
    steps, sigma2 = np.arange(0.0, 41.0), np.array([0.1, 0.3, 0.2, 0.5])
    lr, kept = 0.02 * (1 + np.cos(np.pi * steps / 40)) / 2, 1 - 0.05 * (40 - steps) / 40
    tau = np.array([1.0, 0.9, 1.1, 0.8])
    history = a_history(
        steps=steps[[0, 20, 40]], F=S[None] * (1 + sigma2), sigma2=sigma2, tau=tau, learning_rate=(steps, lr)
    )
    history = replace(history, target_momentum=(steps, kept), decay=0.4, predictor_decay=0.3, alpha_p=2.0)
    p, s = P.copy(), S.copy()
    for tick in range(4000):
        rate = float(np.interp(tick / 100, steps, lr)) / 100
        drive = tau - (1 + sigma2) * p
        growth = 6.0 * rate * p * drive - rate * 0.4
        away = (1 - float(np.interp(tick / 100, steps, kept))) / 100 * (1 - tau)
        p = p + 2.0 * rate * (6.0 * s * drive - 0.3 * p)
        s, tau = s + 2 * s * growth, tau + away - tau * growth
    F, W_p = curves(history, 6.0, history.steps)
    order = np.argsort(-(1 + sigma2) * s)
    np.testing.assert_allclose(F[-1], ((1 + sigma2) * s)[order], rtol=2e-3)
    np.testing.assert_allclose(W_p[-1], p[order], rtol=2e-3)
    assert abs(W_p[-1] - P).max() > 0.1


def test_published_times_of_isoloss_and_of_the_loss_it_replaces() -> None:
    """lambda = s^(1/2) from 0.1: 0.4508530604 at t = 2 with IsoLoss, 0.5 at t = 10.1972245773 with BYOL's loss."""
    start = a_history(
        F=np.array([[0.01]]), W_p=np.array([[0.1]]), sigma2=np.zeros(1), tau=np.ones(1), predictor=np.sqrt
    )
    past = replace(start, passes_predictor=False)
    assert curves(past, 1.0, np.array([0.0, 2.0]))[1][-1, 0] == pytest.approx(0.4508530604, abs=1e-6)
    assert curves(start, 1.0, np.array([0.0, 10.1972245773]))[1][-1, 0] == pytest.approx(0.5, abs=1e-6)


def test_without_a_predictor_every_mode_decays() -> None:
    history = a_history(predictor=np.ones_like, decay=0.1)
    F, W_p = curves(history, 2.0, np.array([0.0, 3.0]))
    np.testing.assert_allclose(F[-1], history.F[0] * np.exp(-2 * (2.0 * SIGMA2 + 0.1) * 3.0), rtol=1e-5)
    assert (W_p == 1).all()


@pytest.mark.parametrize("norm", ["spectral", "frobenius", "none"])
@pytest.mark.parametrize("inside", [False, True])
@pytest.mark.parametrize("alpha", [0.5, 1.0])
def test_computed_predictors_have_the_programs_eigenvalues(norm: Any, inside: bool, alpha: float) -> None:
    s = np.array([2.0, 0.7, 0.2, 0.01])
    options = {"alpha": alpha, "eps": 0.05, "floor": 0.1, "normalise_by": norm, "eps_inside": inside}
    law = _predictor({"method": {"name": "directset", **options}}, PredictorTheory(computed=True), s[3:])
    _, p = predictor_eigenvalues(
        torch.diag(torch.from_numpy(s)), alpha, 0.05, normalise_by=norm, eps_inside=inside, floor=0.1
    )
    assert law is not None
    np.testing.assert_allclose(law(s[:3]), p.flip(0).numpy()[:3], rtol=1e-12)


def test_the_residual_by_hand() -> None:
    """Two modes over a start and two diagnoses: the first 3 and 4 (root mean square 5 / sqrt 2), predicted 3 and 5."""
    measured = np.array([[1.0, 2.0], [3.0, 2.0], [4.0, 2.0]])
    left = residual(measured, np.array([[1.0, 2.0], [3.0, 2.0], [5.0, 2.0]]))
    np.testing.assert_allclose(left.of_mode, [np.sqrt(0.5) / np.sqrt(12.5), 0])
    np.testing.assert_allclose(left.of_diagnosis, [0, 0, np.sqrt(1 / 12.5 / 2)])
    assert left.overall == pytest.approx(np.sqrt(1 / 12.5 / 4))
    assert left.unchanged == pytest.approx(np.sqrt((4 + 9) / 12.5 / 4))  # 1 for 3 and for 4
    assert (left.first_above(0.1), left.first_above(0.3)) == (2, None)


def test_an_older_run_without_noise_or_target_says_so(tmp_path: Path) -> None:
    spectra = by_the_theory(1.0, 0.4)
    del spectra["noise"], spectra["target"]
    path = written(tmp_path / "run", spectra, beta=0.4)
    rows = runfiles.read_rows(path / runfiles.DIAGNOSTICS)
    (path / runfiles.DIAGNOSTICS).unlink()
    for row in rows:  # two views with a mean cosine of 0.8: 1 / 0.8 - 1 = 0.25
        runfiles.append_row(path / runfiles.DIAGNOSTICS, row | {"z": {**row["z"], "cosine_views": 0.8}})
    found = theory_inputs(read_run(path))
    np.testing.assert_allclose(found.history.sigma2, 0.25)
    np.testing.assert_array_equal(found.history.tau, 1)
    sources = {name: source for name, _, source in found.sources}
    assert "this older run has no noise by mode" in sources["sigma²"]
    assert "not recorded by this older run" in sources["target over encoder at the start"]


def test_assumptions_that_fail_are_named(tmp_path: Path) -> None:
    path = written(tmp_path / "run", by_the_theory())
    clean = theory_inputs(read_run(path)).unmet
    config = runfiles.read_json(path / runfiles.CONFIG)
    config["optim"]["name"], config["method"] = "adamw", {"name": "byol", "normalise": True, "variance": 0.5}
    runfiles.write_json(path / runfiles.CONFIG, config)
    rows = runfiles.read_rows(path / runfiles.DIAGNOSTICS)
    (path / runfiles.DIAGNOSTICS).unlink()
    measures = {"alignment": 0.9, "alignment_min": -0.2, "commutator": 0.3, "asymmetry": 1.2, "linear_share": 0.6}
    for row in rows:
        runfiles.append_row(path / runfiles.DIAGNOSTICS, row | {"predictor": measures})
    text = " ".join(theory_inputs(read_run(path)).unmet)
    for words in ("commutator is up to 0.300", "cosine of -0.200", "up to 1.20 of", "60.0 % of its output", "adamw"):
        assert words in text
        assert words not in " ".join(clean)
    assert "(cosine)" in text
    assert "Variance or covariance terms" in text


def test_runs_to_which_the_theory_does_not_apply_are_refused_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    vicreg, byol = write_run(tmp_path / "vicreg"), written(tmp_path / "byol", by_the_theory())
    spectra = by_the_theory()
    written(tmp_path / "short", {name: values[:1] for name, values in spectra.items()})
    without = written(tmp_path / "without", spectra)
    config = runfiles.read_json(without / runfiles.CONFIG)
    runfiles.write_json(without / runfiles.CONFIG, config | {"method": {"name": "byol", "stop_gradient": False}})
    bare = write_run(tmp_path / "bare", method="byol")
    gaps = written(tmp_path / "gaps", spectra)
    (gaps / runfiles.METRICS).write_text("\n".join((gaps / runfiles.METRICS).read_text().splitlines()[::20]) + "\n")
    for runs, words in (
        ([vicreg], "is a run of vicreg"),
        ([byol, vicreg], "one run; got 2"),
        ([tmp_path / "short"], "has 1 diagnosis"),
        ([without], "without stop-gradient"),
        ([bare], "has no spectra of F and W_p"),
        ([gaps], "gaps of 200 of the 600 steps"),
    ):
        out = tmp_path / "page.html"
        assert run(["report", *map(str, runs), "--out", str(out), "--theory"]) == 2
        error = capsys.readouterr().err
        assert error.startswith("eigenview: --theory")
        assert error.count("\n") == 1
        assert words in error
        assert not out.exists()
    with pytest.raises(UserError, match="no mode of F"):
        theory_inputs(read_run(written(tmp_path / "nan", spectra | {"W_p": np.full_like(spectra["W_p"], np.nan)})))


def test_a_linear_run_of_the_real_engine_is_fitted(tmp_path: Path) -> None:
    """Spectra, noise, target, rates and options as the engine writes them: 4 is found, as derived in linear_run.py."""
    train(MODES["slow target, fast predictor"], tmp_path, dt=DT, end=20.0, epochs=10)
    record = read_run(tmp_path)
    found = theory_inputs(record)
    np.testing.assert_allclose(found.history.sigma2, 0.25, rtol=1e-4)
    np.testing.assert_allclose(found.history.tau, 1, rtol=1e-4)
    prediction = predict(found.history)
    assert prediction.scale == pytest.approx(4, rel=0.02)
    for left in prediction.residuals.values():
        assert left.overall < 0.02
        assert left.unchanged > 0.2
    assert record.spectra["target"].min() < 0.95  # a growing mode leaves its target behind


RUN = ["pretrain", "--epochs", "2", "--monitor.images", "64", "--monitor.log-every-steps", "1", "--image-size", "16"]
RUN += ["--batch-size", "128", "--monitor.every-epochs", "0.5"]
RUN += ["--encoder", "conv-tiny", "--probe.images", "64", "--probe.few-label-draws", "1"]
RUN += ["--network.projector-width", "32", "--network.projector-hidden", "32"]


@pytest.mark.parametrize(
    "method",
    [
        pytest.param(["directpred"], id="directpred"),
        pytest.param(["byol", "--network.predictor-layers", "1"], id="byol", marks=pytest.mark.slow),
    ],
)
def test_a_run_of_the_command_line_has_the_section_when_asked(method: list[str], tmp_path: Path) -> None:
    out = tmp_path / "run"
    assert run([*RUN, "--method", *method, "--out", str(out)]) == 0
    spectra = read_run(out).spectra
    assert np.isfinite(spectra["noise"]).all()
    np.testing.assert_allclose(spectra["target"][0][spectra["F"][0] > 1e-8 * spectra["F"][0].max()], 1, rtol=1e-3)
    assert 'id="theory"' not in (out / runfiles.REPORT).read_text()
    assert run(["report", str(out), "--theory"]) == 0
    page = (out / runfiles.REPORT).read_text()
    assert page.count('id="plot-theory-') == 3
    section = theory_section(read_run(out))
    assert section.summary in page.replace("&nbsp;", "\u00a0")
    assert "measured: variance of an image" in json.dumps([row.cells[1].text for row in section.constants.rows])
    assert len(section.unmet) >= 2  # a conv net with a cosine loss, at least
    for figure in section.figures:
        json.dumps(figure.spec, allow_nan=False)


def test_the_theory_section_never_loads_torch(tmp_path: Path) -> None:
    path = written(tmp_path / "run", by_the_theory())
    write_report([path], tmp_path / "page.html", theory=True)
    code = "import sys; from pathlib import Path; from eigenview.report.page import write_report\n"
    code += f"write_report([Path({str(path)!r})], Path({str(tmp_path / 'again.html')!r}), theory=True)\n"
    code += "assert 'torch' not in sys.modules, 'torch was imported'"
    subprocess.run([sys.executable, "-c", code], check=True)
    assert (tmp_path / "again.html").read_text() == (tmp_path / "page.html").read_text()
