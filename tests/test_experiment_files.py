"""Every experiment file: its parts, valid settings at every scale, a conclusion and a picture of any results."""

from __future__ import annotations

import functools
import re
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from experiments import _grids, _lightly_loop, pareto, time_to_accuracy
from experiments._estimators import FAMILIES, study
from experiments._frame import experiments, load_experiment
from experiments._results import table_rows
from matplotlib.lines import Line2D
from PIL import Image

from eigenview import runfiles
from eigenview.data.views.presets import view_specs
from eigenview.run import Run
from eigenview.terminal import Console

ROOT = Path(__file__).parents[1]
NAMES = sorted(path.stem for path in (ROOT / "experiments").glob("[!_]*.py"))
SCALES = ("tiny", "cpu", "gpu")
DRAWN = {("tiny", 1), ("cpu", 3), ("gpu", 1)}
"""Scales and seeds of which a picture is drawn: every scale, and one seed as well as several."""


@pytest.fixture(params=NAMES)
def module(request: pytest.FixtureRequest) -> ModuleType:
    return load_experiment(request.param)


@functools.cache
def grid_of(module: ModuleType, scale: str) -> dict[str, Any]:
    """The cells of an experiment, made once for all tests."""
    return module.cells(scale, "cifar")


def summary(linear: float | None, *, seed: int = 0, verdict: str = "healthy", seconds: float = 60.0) -> dict[str, Any]:
    """What the code reads of a summary.json; accuracies are None in a run that diverged."""
    knn = None if linear is None else linear - 2
    raw, untrained = ({"knn": a, "linear": b, "linear_few": c} for a, b, c in ((40, 41, 22), (32, 29, 17)))
    rows = {} if linear is None else {"raw pixels": raw, "untrained encoder": untrained}
    numbers = {"knn": knn, "linear": linear, "linear_few": knn, "seconds": seconds, "images_per_second": 500.0}
    words = {"verdict": verdict, "since_epoch": None, "reason": "made up", "remedies": [], "notes": []}
    return {**words, "seed": seed, "epochs": 5, "baselines": rows, "measured": MEASURED, **numbers}


def measured() -> dict[str, Any]:
    """What the experiments that measure something of their own leave in a summary, of random embeddings."""
    draw = torch.Generator().manual_seed(0)
    activations = torch.rand(64, 6, generator=draw)
    weight = torch.randn(5, 6, generator=draw)
    weights = {"hinge": 12.5, "covariance": 1.0}
    sizes = (8, 16, 32, 256)
    return {
        "validation_knn": 50.0,
        "decoding_seconds": 2.0,
        **study(activations, weight, weights, sizes, repeats=2, seed=0),
    }


MEASURED = measured()


def results(cells: Any, seeds: int) -> dict[str, list[dict[str, Any]]]:
    """Cells in falling order, 2 points apart, with a range of 1 over seeds."""
    return {c: [summary(60.0 - 2 * k + s / 2, seed=s) for s in range(seeds)] for k, c in enumerate(cells)}


def test_the_folder_is_what_the_command_lists() -> None:
    assert sorted(experiments()) == NAMES
    assert all(experiments().values())


def test_settings_are_valid_and_published_rows_are_cells(module: ModuleType) -> None:
    from eigenview.engine.config_checks import check_combinations

    grids = {scale: grid_of(module, scale) for scale in SCALES}
    for scale, grid in grids.items():
        assert len(grid) >= 2
        assert set(grid) <= set(grids["tiny"])
        for name, config in grid.items():
            assert re.fullmatch(r"[^,/]+", name), "names go into folders, and commas separate them"
            check_combinations(config)
            if hasattr(module, "prepare"):  # it has data and encoders of other kinds
                continue
            assert (config.data, config.probe_data) == ("cifar/train", "cifar")
            encoder = config.decided().encoder
            assert encoder == "torchvision:resnet18" if scale == "gpu" else encoder.startswith("conv-")
    assert set(module.published) <= set(grids["tiny"])


def test_cells_of_a_grid_differ(module: ModuleType) -> None:
    for scale in SCALES:
        grid = list(grid_of(module, scale).values())
        assert all(a != b for k, a in enumerate(grid) for b in grid[:k])


def test_networks_of_the_tiny_grid_can_be_built(module: ModuleType) -> None:
    from eigenview.methods.parts.building import build_method, parts_of

    grid = grid_of(module, "tiny").values()
    # the same networks are built once; other data, epochs and optimisers have the same
    for config in {(c.method, c.encoder, c.second_encoder, c.network, c.train, c.views): c for c in grid}.values():
        method = build_method(config, parts_of(config, 24, None))
        assert method.widths["h"] > 0


@pytest.mark.parametrize("seeds", [pytest.param(1, marks=pytest.mark.slow), 3])
def test_a_conclusion_is_one_line_and_a_picture_can_be_drawn(module: ModuleType, seeds: int) -> None:
    for scale in SCALES:
        made = results(grid_of(module, scale), seeds)
        conclusion = module.conclude(made)
        assert conclusion
        assert "\n" not in conclusion
        if (scale, seeds) in DRAWN:
            module.figure(made).draw_without_rendering()
        header, rows = table_rows(module, made)
        assert {len(row) for row in rows} == {len(header)}
        assert all(any(column) for column in zip(*rows, strict=True))  # nothing published of this part: no column


def test_baselines_of_several_data_sets_are_rows_by_themselves() -> None:
    module = load_experiment("adapt")
    made = {name: [summary(60.0) | {"data": f"{data}/train"}] for name, data in (("a", "cifar10"), ("b", "emoji"))}
    names = [row[0] for row in table_rows(module, made)[1]]
    assert names[2:] == [
        f"{row}, {data}" for data in ("cifar10", "emoji") for row in ("raw pixels", "untrained encoder")
    ]
    assert [row[0] for row in table_rows(module, {"a": made["a"]})[1]][1:] == ["raw pixels", "untrained encoder"]


def test_a_part_of_the_grid_has_a_conclusion_and_a_picture(module: ModuleType) -> None:
    """As --finished collects it, from whatever cells have ended."""
    whole = results(grid_of(module, "tiny"), 2)
    cells = list(whole)
    for k in range(1, len(cells)):
        part = {cell: whole[cell] for cell in cells[:k]}
        conclusion = module.conclude(part)
        assert "diverged" not in conclusion
        assert "All five" not in conclusion
        module.conclude({cell: whole[cell] for cell in cells[k:]})
        if k in (1, len(cells) // 2):
            module.figure(part)


def test_a_legend_names_nothing_that_is_not_drawn(module: ModuleType) -> None:
    """A part of a grid, as at scale cpu: no empty line has a name, no marker a colour that is nowhere else."""
    for axis in module.figure(results(module.cells("cpu", "cifar"), 1)).axes:
        assert all(len(line.get_xdata()) for line, *_ in axis.containers if isinstance(line, Line2D))
        drawn = {line.get_color() for line in axis.get_lines()}
        handles = axis.get_legend().legend_handles if axis.get_legend() else []
        markers = [h for h in handles if isinstance(h, Line2D) and h.get_color() != "grey"]  # grey: a shape alone
        assert {h.get_color() for h in markers} <= drawn


def test_runs_that_diverged_or_collapsed_are_named(module: ModuleType) -> None:
    cells = list(grid_of(module, "tiny"))
    made = results(cells, 2)
    made[cells[0]] = [summary(None, verdict="diverged")] * 2
    made[cells[1]][0]["verdict"] = "complete collapse"
    conclusion = module.conclude(made)
    assert f"{cells[0]} (diverged, 2 of 2)" in conclusion
    assert f"{cells[1]} (complete collapse, 1 of 2)" in conclusion
    module.figure(made).draw_without_rendering()
    module.conclude({cell: [summary(None, verdict="diverged")] for cell in cells})


@pytest.mark.slow
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
    assert _grids.check_claim(made, ("a", ">=", "b")) == (True, "a >= b: no difference (+0.5, spread 1.0)")
    assert _grids.check_claim(made, ("a", ">=", "c")) == (True, "a >= c: yes (+10.5, spread 0.5)")
    assert _grids.check_claim(made, ("c", ">=", "a")) == (False, "c >= a: NO (-10.5, spread 0.5)")
    assert _grids.check_claim(made, ("a", ">", "lost")) == (True, "a > lost: lost diverged")
    assert _grids.order(made) == "a 50.5 ~ b 50.0 > c 40.0"


def test_one_seed_is_said_and_only_large_differences_count() -> None:
    made = {"a": [summary(50.0)], "b": [summary(49.0)], "c": [summary(48.0)]}
    assert _grids.check_claim(made, ("a", ">", "b")) == (False, "a > b: no difference (+1.0, one seed)")
    assert _grids.check_claim(made, ("a", ">", "c")) == (True, "a > c: yes (+2.0, one seed)")
    claims = [("a", ">", "b"), ("a", ">", "c"), ("a", ">", "absent")]
    assert _grids.check_claims(made, claims).startswith("Published comparisons seen: 1 of 2 (linear accuracy).")


def test_the_frontier_of_made_up_points_is_the_one_drawn_by_hand() -> None:
    found = {"g": (1.0, 50.0), "d": (4.0, 40.0), "c": (3.0, 45.0), "b": (2.0, 40.0), "f": (2.0, 41.0)}
    found |= {"e": (5.0, 30.0), "a": (1.0, 50.0)}
    assert pareto.frontier(found) == ["g", "b", "e"]  # g before a: equal, and the first
    assert pareto.frontier({}) == []


def test_cells_of_equal_time_encode_as_many_images() -> None:
    for scale in SCALES:
        grid = pareto.cells(scale, "cifar")
        passes = {name: c.views * c.data_fraction * c.epochs for name, c in grid.items()}
        assert {passes[name] for name in pareto.EQUAL_TIME if name in passes} == {passes[pareto.REFERENCE]}
    tiny = pareto.cells("tiny", "cifar")
    steps = {name: c.data_fraction * c.epochs for name, c in tiny.items()}
    assert len(tiny) == 12
    assert steps["2 views of half x2"] == steps["2 views of quarter x4"] == steps["2 views of all"] == 0.25 * 5
    assert steps["8 views of quarter"] == steps["2 views of all"] / 4
    total = sum(c.views * c.data_fraction * c.epochs for c in tiny.values())
    assert total / (2 * 0.25 * 5) == 16.25  # the docstring's time


def test_pareto_names_the_frontier_and_what_matches_two_views_soonest() -> None:
    made = {
        "2 views of quarter": [summary(40.0, seconds=10.0)],
        "4 views of half": [summary(51.0, seconds=30.0)],
        "2 views of all": [summary(50.0, seconds=40.0)],
        "8 views of quarter": [summary(44.0, seconds=44.0)],
        "4 views of all": [summary(60.0, seconds=80.0)],
        "8 views of all": [summary(None, verdict="diverged", seconds=1.0)],
    }
    said = pareto.conclude(made)
    assert "4 views of all > 2 views of all: yes (+10.0, one seed)" in said
    assert "8 views of quarter ~ 2 views of all: NO (-6.0, one seed)" in said
    assert "encoder: 4 views of half 51.0 ~ 2 views of all 50.0 > 8 views of quarter 44.0." in said
    frontier = "2 views of quarter 10 s 60.0 %; 4 views of half 30 s 49.0 %; 4 views of all 80 s 40.0 %"
    assert f"Frontier (seconds, error): {frontier}." in said
    assert "no worse than 2 views of all: 4 views of half (+1.0, one seed) in 0.75 of its time." in said
    del made["4 views of half"], made["4 views of all"]
    assert "No other cell is as good as 2 views of all." in pareto.conclude(made)


def test_time_to_an_accuracy_follows_the_line_to_its_first_crossing() -> None:
    curve = [(10.0, 30.0), (20.0, 40.0), (40.0, 38.0), (50.0, 44.0)]
    found = [time_to_accuracy.time_to(curve, accuracy) for accuracy in (25.0, 30.0, 35.0, 40.0, 41.0, 44.0, 45.0)]
    assert found == [10.0, 10.0, 15.0, 20.0, 45.0, 50.0, None]
    assert time_to_accuracy.race(curve, [(80.0, 38.0), (100.0, 42.0)]) == (42.0, pytest.approx(140 / 3), 100.0)


def test_the_race_is_told_with_decoding_counted() -> None:
    """k-NN is linear - 2 and decoding takes 2 s in made-up summaries."""
    made = {
        "ours bf16 20 %": [summary(42.0, seconds=8.0), summary(42.0, seconds=8.0)],
        "ours bf16 100 %": [summary(62.0, seconds=38.0), summary(62.0, seconds=38.0)],
        "lightly bf16 20 %": [summary(32.0, seconds=18.0), summary(32.0, seconds=18.0)],
        "lightly bf16 100 %": [summary(52.0, seconds=98.0), summary(None, verdict="diverged", seconds=1.0)],
        time_to_accuracy.EXAMPLE: [summary(35.0, seconds=58.0)],
    }
    said = time_to_accuracy.conclude(made)
    assert said.startswith("50.0 % k-NN: ours bf16 25 s, lightly bf16 100 s (4.00x); ")
    assert "equal epochs in bf16: different (+10.0, one seed)" in said
    assert "its example's settings: 33.0 % after 60 s." in said
    assert "not installed" not in said
    assert "lightly bf16 100 % (diverged, 1 of 2)" in said
    time_to_accuracy.figure(made).canvas.draw()


def test_without_lightly_only_ours_is_run_and_both_places_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_lightly_loop, "version", lambda: None)
    console = Console(record=True, width=120)
    assert time_to_accuracy.peers("tiny", "cifar", console) == {}
    assert "lightly is not installed: uv sync --inexact --group bench" in console.export_text()
    made = results(time_to_accuracy.cells("tiny", "cifar"), 1)
    said = time_to_accuracy.conclude(made)
    assert f"Only ours was run ({_lightly_loop.MISSING}): ours fp32 58.0 % k-NN in 62 s; ours bf16 50.0 %" in said


def test_lightly_gets_the_same_settings_and_once_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    from eigenview.engine.config_checks import check_combinations

    monkeypatch.setattr(_lightly_loop, "version", lambda: "1.6.0")
    for scale in SCALES:
        ours = time_to_accuracy.cells(scale, "cifar")
        theirs = time_to_accuracy.peers(scale, "cifar", Console(quiet=True))
        example, train = theirs.pop(time_to_accuracy.EXAMPLE)
        assert train is _lightly_loop.train
        same = {name.replace("lightly", "ours"): config for name, (config, _) in theirs.items()}
        assert ours == {name: config for name, config in same.items() if name in ours}
        assert {config.epochs for config in same.values()} == {config.epochs for config in ours.values()}
        assert (example.epochs, example.precision) == (max(c.epochs for c in ours.values()), "fp32")
        assert (example.batch_size, example.optim.lr_per_256, example.method.temperature) == (256, 0.06, 0.5)
        for config in (example, *same.values()):
            check_combinations(config)
    assert [c.epochs for c in time_to_accuracy.cells("tiny", "cifar").values()] == [1, 2, 3, 5] * 2


def test_lightly_draws_the_views_of_the_spec() -> None:
    """SimCLR at half the colour strength, without blur (Chen et al. 2020, B.9): 0.5 x (0.8, 0.8, 0.8, 0.2)."""
    options = _lightly_loop.transform_options(view_specs("simclr-small", 2)[0], 24)
    strength = options["cj_strength"]
    assert [strength * options[f"cj_{name}"] for name in ("bright", "contrast", "sat", "hue")] == [0.4, 0.4, 0.4, 0.1]
    names = ("input_size", "cj_prob", "min_scale", "random_gray_scale", "gaussian_blur", "hf_prob")
    assert [options[name] for name in names] == [24, 0.8, 0.08, 0.2, 0.0, 0.5]
    assert options["normalize"]["mean"] == [0.485, 0.456, 0.406]


def write_images(folder: Path, per_class: int) -> None:
    draw = np.random.default_rng(0)
    for split, count in (("train", per_class), ("test", 12)):
        for kind in ("a", "b"):
            (folder / split / kind).mkdir(parents=True)
            for k in range(count):
                pixels = draw.integers(0, 255, (12, 12, 3), np.uint8)
                Image.fromarray(pixels).save(folder / split / kind / f"{k:02}.png")


def test_decoding_is_timed_with_an_empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_images(tmp_path / "images", 20)
    monkeypatch.setenv("EIGENVIEW_CACHE", str(tmp_path / "cache"))
    start = time.perf_counter()
    seconds = time_to_accuracy.decoding_seconds(str(tmp_path / "images" / "train"), 8)
    assert 0 < seconds < time.perf_counter() - start
    assert not (tmp_path / "cache").exists(), "the user's cache stays as it is"


def test_a_run_by_lightly_is_left_like_one_of_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("lightly", reason="lightly is not installed: uv sync --inexact --group bench")
    monkeypatch.setenv("EIGENVIEW_CACHE", str(tmp_path / "cache"))
    write_images(tmp_path / "images", 40)
    config = _grids.cell(
        "simclr", "tiny", str(tmp_path / "images"), {"data_fraction": 0.5, "image_size": 8, "epochs": 2}
    )
    config = _grids.with_fields(config, {"encoder": "conv-tiny", "batch_size": 16, "precision": "fp32"})
    start = time.perf_counter()
    _lightly_loop.train(config, tmp_path / "run", Console(quiet=True))
    run = Run(tmp_path / "run")
    assert 0 < run.summary["seconds"] < time.perf_counter() - start
    assert (run.config, run.summary["images"], run.summary["finished"]) == (config, 40, True)
    # seconds are rounded to hundredths, of which so short a run has a few dozen
    seconds = run.summary["seconds"]
    assert run.summary["images_per_second"] == pytest.approx(2 * 2 * 16 / seconds, rel=0.005 / seconds + 0.01)
    assert [row["step"] for row in runfiles.read_rows(run.directory / runfiles.DIAGNOSTICS)] == [0, 4]
    assert run.summary["knn"] is not None
    assert run.encoder.embed(torch.zeros(1, 3, 8, 8, dtype=torch.uint8)).shape == (1, run.encoder.width)
    assert time_to_accuracy.measure(run) == {"library": f"lightly {_lightly_loop.version()}", "decoding_seconds": 0}
