"""The benchmarks' own checks at tiny shapes: contestants compute the same values. No test measures time."""

from __future__ import annotations

import json
from contextlib import nullcontext
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from benchmarks import plain, profiles
from benchmarks.contest import (
    OURS,
    Disagreement,
    Goal,
    Row,
    Settings,
    median_ratio,
    peak_bytes,
    ratio_rows,
    require_agreement,
    take_turns,
)
from benchmarks.growth import exponent, growth_row
from benchmarks.peers import versions
from benchmarks.printing import cells, document, json_lines, markdown_of, measured
from benchmarks.profiles import profiles_of
from benchmarks.sections import NAMES, objective, sections
from benchmarks.sections.augmentation import Case, check_case
from benchmarks.sections.augmentation import cases as augmentation_cases
from benchmarks.sections.loops import operations
from benchmarks.sections.sent_bytes import LIGHTLY, METHODS, OUR_GATHER, SHAPES, SUMMED, count_bytes, ways_of
from torch import Tensor

from eigenview.data.views import augment
from eigenview.functional import predictors
from tests.process_pool import ProcessPool


def tiny(notes: list[str] | None = None) -> Settings:
    """Settings at the tiny scale; what the sections report is appended to `notes`."""
    lines: list[str] = [] if notes is None else notes
    return Settings(scale="tiny", device=torch.device("cpu"), threads=(1,), say=lines.append)


SLOW = {"start", "growth", "growth-sources", "growth-processes", "growth-runs"}  # long, or they start programs


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.slow] if n in SLOW else []) for n in NAMES if n != "bytes"]
)
def test_contestants_agree(name: str) -> None:
    notes: list[str] = []
    checked = sections()[name].check(tiny(notes))
    print(*checked, *notes, sep="\n")
    assert checked
    absent = [library for library, version in versions().items() if version is None]
    assert all("skipped" in line and line.split(":")[0] in absent for line in notes)


def test_absent_peers_are_skipped_with_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("lightly", "lightly.loss"):
        monkeypatch.setitem(__import__("sys").modules, module, None)
    notes: list[str] = []
    settings = tiny(notes)
    names = {c.name for case in objective.cases(settings) for c in case.contestants}
    assert names == {OURS, objective.PLAIN_TWIN, "naive torch"}
    assert len(list(objective.cases(settings))) == 5
    assert len(notes) == 1
    assert notes[0].startswith("lightly: skipped")


@pytest.mark.ddp
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("size", [2, 4])
def test_bytes_are_counted_and_gradients_are_one_process_s(processes: ProcessPool, size: int, method: str) -> None:
    for shape in SHAPES[0]:
        found = count_bytes(processes.run, size, method, shape, ways_of(tiny()))
        views, samples, width = shape
        once = (size - 1) / size * 4 * views * samples * width  # float32, as a ring sends it; an all-reduce twice that
        assert found[OUR_GATHER] == pytest.approx(once)
        assert found[SUMMED] == pytest.approx(3 * once)
        assert found.get(LIGHTLY, 3 * once) == pytest.approx(3 * once)


@pytest.mark.parametrize("name", ["VICReg", "Barlow Twins", "NT-Xent"])
def test_a_wrong_objective_is_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    *ours, naive = objective.WAYS[name]

    def off(a: Tensor, b: Tensor) -> Tensor:
        return 1.001 * naive(a, b)

    monkeypatch.setitem(objective.WAYS, name, (*ours, off))
    with pytest.raises(Disagreement, match=rf"{name}\b.*naive torch.*value.*gradient.*1e-04"):
        sections()["objective"].check(tiny())


def test_a_wrong_gradient_under_a_right_value_is_refused() -> None:
    case = next(objective.cases(tiny()))

    def detached(a: Tensor, b: Tensor) -> Tensor:
        return plain.vicreg(a, b.detach()) + 0 * b.sum()

    wrong = objective.Contestant("detached", detached)
    held = objective.Case(name="VICReg", samples=16, width=24, contestants=(case.contestants[0], wrong))
    with pytest.raises(Disagreement, match="detached"):
        objective.check_case(held, objective.views_of(held, torch.device("cpu")))


def test_another_augmentation_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    case: Case = augmentation_cases(tiny())[0]
    original = augment.shift_hue
    monkeypatch.setattr(augment, "shift_hue", lambda images, turns: original(images, turns + 0.25))
    with pytest.raises(Disagreement, match="grey levels"):
        check_case(case, tiny())


def test_another_predictor_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    original = predictors.largest_eigenvalue
    monkeypatch.setattr(predictors, "largest_eigenvalue", lambda F: 1.01 * original(F))
    with pytest.raises(Disagreement, match="DirectCopy"):
        sections()["predictor"].check(tiny())


def test_nan_and_infinity_never_agree() -> None:
    x = torch.ones(3)
    for bad in (torch.nan, torch.inf):
        with pytest.raises(Disagreement, match=r"inf.*value"):
            require_agreement("x", {"value": bad * x}, {"value": x})


def test_turns_reverse_and_ratios_are_medians_of_rounds() -> None:
    seen: list[str] = []
    ways = {name: partial(seen.append, name) for name in (OURS, "other")}
    clock = iter([1.0, 2.0, 30.0, 10.0, 1.0, 5.0])

    def tick(work: object) -> float:
        assert callable(work)
        work()
        return next(clock)

    times = take_turns(ways, 3, tick)
    assert seen == [OURS, "other", "other", OURS, OURS, "other"]
    assert times == {OURS: [1.0, 10.0, 1.0], "other": [2.0, 30.0, 5.0]}
    assert median_ratio(times["other"], times[OURS]) == 3.0  # of 2, 3 and 5; the ratio of the medians would be 5
    (row,) = ratio_rows("s", "c", times, tiny(), {"other": Goal(4)})
    assert (row.figure, row.ours, row.theirs, row.goal) == (3.0, 1e3, 5e3, None)  # judged at full scale alone


def row(figure: float, goal: Goal | None) -> Row:
    return Row(
        section="s",
        case="c",
        contestant="x",
        quantity="time",
        ours=1,
        theirs=figure,
        unit="ms",
        figure=figure,
        goal=goal,
    )


@pytest.mark.parametrize(
    ("figure", "goal", "printed"),
    [
        (2.99996, None, "3.00x"),
        (2.99996, Goal(3), "2.99996x"),  # not 3.00x beside a no
        (3.00001, Goal(3), "3.00x"),
        (24.6, Goal(15, 25), "24.6x"),
        (24.4, Goal(15, 25), "24x"),
        (1.151, Goal(1.15, at_most=True), "1.151x"),
        (2.0, Goal(1.15, at_most=True), "2.00x"),
    ],
)
def test_rounding_never_contradicts_the_verdict(figure: float, goal: Goal | None, printed: str) -> None:
    assert measured(row(figure, goal)) == printed


@pytest.mark.parametrize(
    ("figure", "goal", "verdict"),
    [
        (2.0, None, ""),
        (2.0, Goal(2.5, 4), "no"),
        (2.5, Goal(2.5, 4), "yes"),
        (4.0, Goal(2.5, 4), "yes, aim too"),
        (4.0, Goal(2.5), "yes"),
        (0.16, Goal(0.15, 0.05, at_most=True), "no"),
        (0.1, Goal(0.15, 0.05, at_most=True), "yes"),
        (0.04, Goal(0.15, 0.05, at_most=True), "yes, aim too"),
    ],
)
def test_verdicts(figure: float, goal: Goal | None, verdict: str) -> None:
    assert row(figure, goal).verdict == verdict


def test_the_table_shows_goal_and_result() -> None:
    rows = {"s": [row(20.0, Goal(15, 25)), row(1.2, Goal(1.15, at_most=True))]}
    assert cells(rows["s"][0])[-4:] == ["at least 15x", "at least 25x", "20x", "yes"]
    assert cells(rows["s"][1])[-4:] == ["at most 1.15x", "", "1.20x", "no"]
    machine, ceilings = {"device": "cpu", "kornia": None}, [{"threads": 2, "float32_gflops": 80.0}]
    page = markdown_of(rows, ceilings, machine)
    assert "| c | x | time |  | 1.00 ms | 20.00 ms | at least 15x | at least 25x | 20x | yes |" in page
    assert "1 of 2 lines with a goal are acceptable." in page
    assert "kornia" not in page
    kept = json.loads(document(rows, ceilings, machine))
    assert [each["accepted"] for each in kept["rows"]] == [True, False]
    assert kept["ceilings"] == ceilings
    assert json.loads(json_lines(rows["s"], machine)[1])["accept"] == 1.15


def test_peak_memory_counts_what_is_held_at_the_same_time() -> None:
    def work() -> None:
        torch.zeros(1000)  # released before the next
        a = torch.zeros(2000)
        b = torch.zeros(500)
        del a, b

    assert peak_bytes(work, torch.device("cpu")) == pytest.approx(4 * 2500, abs=4 * 64)  # rounded up by the allocator


def test_peak_memory_does_not_count_the_release_of_what_was_there_before() -> None:
    """Nor if the profiler saw that being allocated, so that it knows its size."""
    kept: list[torch.Tensor] = []
    peak_bytes(lambda: kept.append(torch.zeros(50_000)), torch.device("cpu"))

    def work() -> None:
        kept.clear()
        kept.append(torch.zeros(1000))

    assert peak_bytes(work, torch.device("cpu")) == pytest.approx(4 * 1000, abs=4 * 64)


def test_operations_of_a_linear_layer() -> None:
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 4 * 4, 10, bias=False))
    # forward, and the gradient of the weights (nothing asks for that of the images): 2 n in out each
    assert operations(network, 4, 64, torch.device("cpu")) == 2 * 2 * 64 * 48 * 10


def test_on_a_gpu_a_kernel_is_not_counted_beside_its_operator(monkeypatch: pytest.MonkeyPatch) -> None:
    kind = torch.autograd.DeviceType
    rows = [
        ("aten::mm", kind.CPU, 3e3),
        ("aten::add", kind.CPU, 1e3),
        ("gemm", kind.CUDA, 3e3),
        ("add", kind.CUDA, 1e3),
    ]
    events = [SimpleNamespace(key=k, device_type=d, self_device_time_total=t, count=1) for k, d, t in rows]
    record = SimpleNamespace(key_averages=lambda: events)
    monkeypatch.setattr(profiles, "profile", lambda activities: nullcontext(record))
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    settings = Settings(scale="tiny", device=torch.device("cuda"), threads=(1,))
    found = profiles.operators_of(lambda: None, settings, 1)
    assert [(each.name, each.share, each.milliseconds) for each in found] == [
        ("aten::mm", 0.75, 3.0),
        ("aten::add", 0.25, 1.0),
    ]


def test_a_profile_names_the_operator_that_takes_longest() -> None:
    a, b = torch.randn(300, 300), torch.randn(10)

    def work() -> None:
        for _ in range(3):
            _ = a @ a
        _ = b + b

    (found,) = profiles_of([("products", work)], tiny())
    assert found.heading() == "profile of products, threads: 1"
    assert found.operators[0].name == "aten::mm"
    assert found.operators[0].calls == 3
    assert sum(each.share for each in found.operators) == pytest.approx(1)
    page = profiles.markdown_of([found])
    assert "| operator | share | ms a repeat | calls a repeat |" in page
    assert "| aten::mm | " in page


@pytest.mark.parametrize("name", ["objective", "step"])
def test_the_work_that_a_section_offers_for_profiles_runs(name: str) -> None:
    inside = sections()[name].inside
    assert inside is not None
    for title, work in inside(tiny()):
        assert title
        work()


def test_exponents_are_compared_with_the_stated_formula() -> None:
    sizes, quadratic = (10, 20, 40), [3.0 * n**2 for n in (10, 20, 40)]
    assert exponent(sizes, quadratic) == pytest.approx(2)
    full = Settings(scale="full", device=torch.device("cpu"), threads=(1,))
    as_stated = growth_row("growth", "images", "time", sizes, [quadratic], lambda n: n**2, full)
    assert (as_stated.figure, as_stated.verdict) == (pytest.approx(0), "yes")
    too_fast = growth_row("growth", "images", "time", sizes, [quadratic], lambda n: n, full)
    assert (too_fast.figure, too_fast.verdict) == (pytest.approx(1), "no")
    assert measured(too_fast) == "+1.00"
    assert "10: 300, 20: 1.2e+03" in too_fast.contestant


def test_a_lucky_moment_of_the_smallest_size_is_no_growth() -> None:
    """The smallest time of each size would give 1.25 here: each turn is compared within itself."""
    full = Settings(scale="full", device=torch.device("cpu"), threads=(1,))
    turns = [[1.0, 2.0, 4.0], [0.7, 2.0, 4.0], [2.0, 4.0, 8.0]]  # the third by a machine half as fast
    row = growth_row("growth", "images", "time", (10, 20, 40), turns, lambda n: n, full)
    assert row.figure == pytest.approx(0)
    assert exponent((10, 20, 40), [min(each) for each in zip(*turns, strict=True)]) > 1.2
