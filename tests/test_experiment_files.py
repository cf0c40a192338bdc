"""Every experiment file: its parts, valid settings at every scale, a conclusion and a picture of any results."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from experiments import _grids
from experiments._estimators import FAMILIES, study

from eigenview.experiment import experiments, load_experiment, table_rows

ROOT = Path(__file__).parents[1]
NAMES = sorted(path.stem for path in (ROOT / "experiments").glob("[!_]*.py"))
SCALES = ("tiny", "cpu", "gpu")


@pytest.fixture(params=NAMES)
def module(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "path", [*sys.path])  # the file adds the checkout to it
    return load_experiment(request.param)


def summary(linear: float | None, *, seed: int = 0, verdict: str = "healthy") -> dict[str, Any]:
    """What the code reads of a summary.json; accuracies are None in a run that diverged."""
    knn = None if linear is None else linear - 2
    raw, untrained = ({"knn": a, "linear": b, "linear_few": c} for a, b, c in ((40, 41, 22), (32, 29, 17)))
    rows = {} if linear is None else {"raw pixels": raw, "untrained encoder": untrained}
    numbers = {"knn": knn, "linear": linear, "linear_few": knn, "seconds": 60.0, "images_per_second": 500.0}
    return {"verdict": verdict, "seed": seed, "epochs": 5, "baselines": rows, "measured": MEASURED, **numbers}


def measured() -> dict[str, Any]:
    """What the experiments that measure something of their own leave in a summary, of random embeddings."""
    draw = torch.Generator().manual_seed(0)
    activations = torch.rand(64, 6, generator=draw)
    weight = torch.randn(5, 6, generator=draw)
    weights = {"hinge": 12.5, "covariance": 1.0}
    sizes = (8, 16, 32, 256)
    return {"validation_knn": 50.0, **study(activations, weight, weights, sizes, repeats=2, seed=0)}


MEASURED = measured()


def results(cells: Any, seeds: int) -> dict[str, list[dict[str, Any]]]:
    """Cells in falling order, 2 points apart, with a range of 1 over seeds."""
    return {c: [summary(60.0 - 2 * k + s / 2, seed=s) for s in range(seeds)] for k, c in enumerate(cells)}


def test_the_folder_is_what_the_command_lists(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert sorted(experiments()) == NAMES
    assert all(experiments().values())


def test_settings_are_valid_and_published_rows_are_cells(module: ModuleType) -> None:
    from eigenview.engine.contradictions import refuse_contradictions
    from eigenview.objectives import config_class

    grids = {scale: module.cells(scale, "cifar") for scale in SCALES}
    for scale, grid in grids.items():
        assert len(grid) >= 2
        assert set(grid) <= set(grids["tiny"])
        for name, config in grid.items():
            assert re.fullmatch(r"[^,/]+", name), "names go into folders, and commas separate them"
            assert (config.data, config.probe_data) == ("cifar/train", "cifar")
            assert config.encoder == "torchvision:resnet18" if scale == "gpu" else config.encoder.startswith("conv-")
            assert type(config.objective) is config_class(config.method)
            refuse_contradictions(config)
    assert set(module.published) <= set(grids["tiny"])


def test_cells_of_a_grid_differ(module: ModuleType) -> None:
    for scale in SCALES:
        grid = list(module.cells(scale, "cifar").values())
        assert all(a != b for k, a in enumerate(grid) for b in grid[:k])


def test_networks_of_the_tiny_grid_can_be_built(module: ModuleType) -> None:
    from eigenview.engine.network import build_network
    from eigenview.objectives import objective_class

    for config in module.cells("tiny", "cifar").values():
        cls = objective_class(config.method)
        reads, second = cls.reads_of(config.objective), config.second_encoder
        _, _, representation, width = build_network(
            config.encoder, 24, config.network, reads, seed=0, second_encoder=second
        )
        cls.build(config.objective, representation=representation, width=width, views=config.views)


@pytest.mark.parametrize("seeds", [1, 3])
def test_a_conclusion_is_one_line_and_a_picture_can_be_drawn(module: ModuleType, seeds: int) -> None:
    for scale in SCALES:
        made = results(module.cells(scale, "cifar"), seeds)
        conclusion = module.conclude(made)
        assert conclusion
        assert "\n" not in conclusion
        module.figure(made).canvas.draw()
        header, rows = table_rows(module, made)
        assert {len(row) for row in rows} == {len(header)}


def test_runs_that_diverged_or_collapsed_are_named(module: ModuleType) -> None:
    cells = list(module.cells("tiny", "cifar"))
    made = results(cells, 2)
    made[cells[0]] = [summary(None, verdict="diverged")] * 2
    made[cells[1]][0]["verdict"] = "complete collapse"
    conclusion = module.conclude(made)
    assert f"{cells[0]} (diverged, 2 of 2)" in conclusion
    assert f"{cells[1]} (complete collapse, 1 of 2)" in conclusion
    module.figure(made).canvas.draw()
    module.conclude({cell: [summary(None, verdict="diverged")] for cell in cells})


def test_the_estimator_study_finds_what_is_known() -> None:
    """Independent uniform features: the plug-in is too large, the U-statistic is right, in value and gradient."""
    draw = torch.Generator().manual_seed(1)
    activations = torch.rand(400, 8, generator=draw, dtype=torch.float64)
    weight = torch.randn(6, 8, generator=draw, dtype=torch.float64)
    found = study(activations, weight, {"hinge": 12.5, "covariance": 4.0}, (8, 64), repeats=30, seed=0)
    covariance = found["families"]["covariance"]
    assert set(found["families"]) == {*FAMILIES, "total"}
    for n in (8, 64):
        plug_in, exact = (covariance[name][str(n)] for name in ("plug-in", "U-statistic"))
        assert plug_in["value_bias"] > 2.5 * plug_in["value_resolution"]
        assert abs(exact["value_bias"]) < 4 * exact["value_resolution"]
        assert exact["gradient_bias"] < 3 * exact["gradient_resolution"]
    assert covariance["plug-in"]["8"]["gradient_bias"] > 5 * covariance["plug-in"]["8"]["gradient_resolution"]
    assert covariance["U-statistic"]["8"]["cosine"] > covariance["plug-in"]["8"]["cosine"]
    square = found["families"]["square"]["U-statistic"]["8"]
    assert abs(square["value_bias"]) < 4 * square["value_resolution"]


def test_differences_within_the_spread_are_none() -> None:
    made = {"a": [summary(50.0), summary(51.0)], "b": [summary(49.5), summary(50.5)], "c": [summary(40.0)] * 2}
    made |= {"lost": [summary(None, verdict="diverged")]}
    assert _grids.check_claim(made, ("a", ">", "b")) == (False, "a > b: no difference (+0.5, spread 1.0)")
    assert _grids.check_claim(made, ("a", "~", "b")) == (True, "a ~ b: no difference (+0.5, spread 1.0)")
    assert _grids.check_claim(made, ("a", ">", "c")) == (True, "a > c: yes (+10.5, spread 0.5)")
    assert _grids.check_claim(made, ("c", ">", "a")) == (False, "c > a: NO (-10.5, spread 0.5)")
    assert _grids.check_claim(made, ("a", "~", "c")) == (False, "a ~ c: NO (+10.5, spread 0.5)")
    assert _grids.check_claim(made, ("a", ">", "lost")) == (True, "a > lost: lost diverged")
    assert _grids.order(made) == "a 50.5 ~ b 50.0 > c 40.0"


def test_one_seed_is_said_and_only_large_differences_count() -> None:
    made = {"a": [summary(50.0)], "b": [summary(49.0)], "c": [summary(48.0)]}
    assert _grids.check_claim(made, ("a", ">", "b")) == (False, "a > b: no difference (+1.0, one seed)")
    assert _grids.check_claim(made, ("a", ">", "c")) == (True, "a > c: yes (+2.0, one seed)")
    claims = [("a", ">", "b"), ("a", ">", "c"), ("a", ">", "absent")]
    assert _grids.check_claims(made, claims).startswith("Published comparisons seen: 1 of 2 (linear accuracy).")
