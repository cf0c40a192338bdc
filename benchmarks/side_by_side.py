"""Ours beside plain torch as the papers write it and beside the usual libraries, section by section.

    python -m benchmarks.side_by_side [--sections objective] [--quick] [--device cpu] [--threads 1 2] [--json FILE]

One process. The contestants of a case take turns; every round gives one ratio of times to ours, and the median of the
rounds is reported, once with one thread and once with torch's default number. Before anything is timed, every
contestant must give our value and our gradient (relative 1e-4, float32). The machine's own ceilings come first: a
matrix product and a copy. A library that cannot be imported is skipped with a line.

Memory is the peak of bytes allocated above the inputs during value and gradient, the gradient included: on a CPU by
adding up the allocations and releases that torch's profiler records (exact, but without what a matrix library allocates
behind torch's back), on a GPU by torch's own count.

A section is a function from Settings to rows (`SECTIONS`); those that do not exist yet are augmentation, loader,
predictor, step and bytes. `--quick` takes smaller shapes and three rounds: it shows that all of it works, not how fast.
"""

from __future__ import annotations

import argparse
import importlib
import json
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from itertools import accumulate
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

import eigenview
from eigenview.engine.environment import source_commit
from eigenview.functional.fused.cross_correlation import fused_cross_correlation_terms
from eigenview.functional.fused.energies import fused_vicreg_terms
from eigenview.functional.fused.nt_xent import fused_nt_xent_terms
from eigenview.functional.similarity import nt_xent_terms
from eigenview.objectives.barlow_twins import cross_correlation_terms
from eigenview.objectives.vicreg import covariance, invariance, variance

Loss = Callable[..., Tensor]
OURS = "ours"
AGREEMENT = 1e-4  # relative; the largest shapes add up 10^8 products in float32, in different orders


@dataclass(frozen=True)
class Settings:
    """What the command line says."""

    quick: bool
    device: torch.device
    threads: tuple[int, ...]
    console: Console


@dataclass(frozen=True)
class Contestant:
    """One way to compute a loss of two views: of one stacked leaf (2 N D), or of two leaves (N D)."""

    name: str
    loss: Loss
    is_stacked: bool = False


@dataclass(frozen=True)
class Case:
    """What is compared at one shape; the ratios to `name` that are asked for (required, aimed at)."""

    name: str
    samples: int
    width: int
    contestants: tuple[Contestant, ...]
    rounds: int
    goals: Mapping[str, tuple[float, float]] = field(default_factory=dict)


@dataclass(frozen=True)
class Row:
    """One line of the table; ratios above 1 are in our favour. Times in ms, memory in MB (10^6 bytes)."""

    section: str
    case: str
    contestant: str
    threads: int
    ms: float
    ratio: float
    memory_mb: float
    memory_ratio: float
    required: float | None
    aim: float | None


def naive_vicreg(a: Tensor, b: Tensor) -> Tensor:
    """VICReg with its D x D covariances, and a mask for their diagonals."""
    n, d = a.shape
    loss = 25 * nn.functional.mse_loss(a, b)
    off_diagonal = ~torch.eye(d, dtype=torch.bool, device=a.device)
    for z in (a, b):
        z = z - z.mean(dim=0)
        loss = loss + 25 * torch.relu(1 - torch.sqrt(z.var(dim=0) + 1e-4)).mean() / 2
        loss = loss + (z.T @ z / (n - 1))[off_diagonal].pow(2).sum() / d
    return loss


def naive_barlow_twins(a: Tensor, b: Tensor) -> Tensor:
    """Barlow Twins with its D x D cross-correlation."""
    a, b = ((z - z.mean(dim=0)) / torch.sqrt(z.var(dim=0, unbiased=False) + 1e-5) for z in (a, b))
    difference = (a.T @ b / len(a) - torch.eye(a.shape[1], device=a.device)).pow(2)
    diagonal = torch.eye(a.shape[1], dtype=torch.bool, device=a.device)
    return torch.where(diagonal, difference, 0.005 * difference).sum()


def naive_nt_xent(a: Tensor, b: Tensor) -> Tensor:
    """NT-Xent with its 2N x 2N similarities, as a cross-entropy."""
    u = nn.functional.normalize(torch.cat([a, b]), dim=1)
    itself = torch.eye(len(u), dtype=torch.bool, device=u.device)
    logits = (u @ u.T / 0.5).masked_fill(itself, -torch.inf)
    partner = torch.arange(len(u), device=u.device).roll(len(a))
    return nn.functional.cross_entropy(logits, partner)


def vicreg(terms: Callable[[Tensor], tuple[Tensor, Tensor, Tensor]], z: Tensor) -> Tensor:
    i, v, c = terms(z)
    return 25 * i + 25 * v + 2 * c


def barlow_twins(terms: Callable[[Tensor], tuple[Tensor, Tensor]], z: Tensor) -> Tensor:
    on, off = terms(z)
    return on + 0.005 * off


def nt_xent(terms: Callable[[Tensor, float], tuple[Tensor, Tensor]], z: Tensor) -> Tensor:
    return torch.stack(terms(z, 0.5)).sum()


def lightly_losses(console: Console) -> dict[str, Loss]:
    """lightly's losses by the name of the case, at the coefficients used here; none where it is not installed."""
    try:
        loss = importlib.import_module("lightly.loss")
    except ImportError as missing:
        console.print(f"lightly: skipped, not importable ({missing})")
        return {}
    return {
        "VICReg": loss.VICRegLoss(),
        "Barlow Twins": loss.BarlowTwinsLoss(lambda_param=0.005),
        "NT-Xent": loss.NTXentLoss(temperature=0.5),
    }


def objective_cases(settings: Settings) -> Iterator[Case]:
    """Shapes, contestants and goals of the objectives."""
    peers = lightly_losses(settings.console)
    ways: dict[str, tuple[Loss, Loss, Loss]] = {
        "VICReg": (
            partial(vicreg, lambda z: fused_vicreg_terms(z, 1.0, 1e-4)),
            partial(vicreg, lambda z: (invariance(z), variance(z, 1.0, 1e-4), covariance(z))),
            naive_vicreg,
        ),
        "Barlow Twins": (
            partial(barlow_twins, fused_cross_correlation_terms),
            partial(barlow_twins, cross_correlation_terms),
            naive_barlow_twins,
        ),
        "NT-Xent": (partial(nt_xent, fused_nt_xent_terms), partial(nt_xent, nt_xent_terms), naive_nt_xent),
    }
    small, large, rows = ((256, 2048), (2048, 8192), (4096, 128))
    if settings.quick:
        small, large, rows = ((128, 1024), (256, 2048), (512, 128))
    # against lightly: (required, aimed at)
    plan = [("VICReg", small, (15, 25)), ("VICReg", large, (6, 8))]
    plan += [("Barlow Twins", small, (6, 10)), ("Barlow Twins", large, (3, 4)), ("NT-Xent", rows, (2.5, 4))]
    for name, (samples, width), goal in plan:
        ours, plain, naive = ways[name]
        contestants = [Contestant(OURS, ours, True), Contestant("ours, plain autograd", plain, True)]
        contestants.append(Contestant("naive torch", naive))
        if name in peers:
            contestants.append(Contestant("lightly", peers[name]))
        rounds = 3 if settings.quick else 5 if samples * width > 1 << 22 else 15
        goals = {} if settings.quick else {"lightly": goal}
        yield Case(name, samples, width, tuple(contestants), rounds, goals)


def objective(settings: Settings) -> list[Row]:
    """Value and gradient of each objective."""
    return [row for case in objective_cases(settings) for row in compare("objective", case, settings)]


SECTIONS: dict[str, Callable[[Settings], list[Row]]] = {"objective": objective}


def leaves(z: Tensor, contestant: Contestant) -> list[Tensor]:
    """The two views of z (2 N D) as this contestant takes them, each a leaf that asks for its gradient."""
    return [part.clone().requires_grad_() for part in ([z] if contestant.is_stacked else z)]


def once(contestant: Contestant, inputs: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Value, and gradient with respect to both views (2 N D)."""
    loss = contestant.loss(*inputs)
    gradients = torch.autograd.grad(loss, inputs)
    return loss.detach(), gradients[0] if contestant.is_stacked else torch.stack(gradients)


def step(contestant: Contestant, inputs: list[Tensor]) -> None:
    """What is timed."""
    for x in inputs:
        x.grad = None
    contestant.loss(*inputs).backward()


def seconds(work: Callable[[], object], device: torch.device) -> float:
    """Wall time of `work`, until the device has done it."""
    if device.type == "cuda":
        torch.cuda.synchronize()
    mark = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - mark


def peak_bytes(contestant: Contestant, inputs: list[Tensor]) -> int:
    """Largest sum of bytes allocated and not yet released during one step, counted from its start."""
    for x in inputs:
        x.grad = None
    if inputs[0].is_cuda:
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        step(contestant, inputs)
        return torch.cuda.max_memory_allocated() - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        step(contestant, inputs)
    assert record.profiler is not None and record.profiler.kineto_results is not None  # noqa: PT018
    changes = [e for e in record.profiler.kineto_results.events() if e.name() == "[memory]"]
    if not changes:
        raise SystemExit("torch's profiler recorded no allocation; memory cannot be compared.")
    changes.sort(key=lambda e: e.start_ns())
    return max(accumulate(e.nbytes() for e in changes))  # type: ignore[attr-defined]  # missing in torch's stubs


def views_of(case: Case, device: torch.device) -> Tensor:
    """(2 N D): views that agree in part, with standard deviations on both sides of 1."""
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(case.samples, case.width, generator=generator)
    z = image + 0.5 * torch.randn(2, case.samples, case.width, generator=generator)
    return (z * (0.5 + torch.rand(case.width, generator=generator))).to(device)


def check_agreement(case: Case, z: Tensor) -> None:
    """Stop unless every contestant gives the value and the gradient of ours."""
    found = {c.name: once(c, leaves(z, c)) for c in case.contestants}
    value, gradient = found.pop(OURS)
    for name, (other, other_gradient) in found.items():
        apart = ((value - other).abs() / other.abs()).item()
        gradient_apart = ((gradient - other_gradient).norm() / other_gradient.norm()).item()
        if not max(apart, gradient_apart) <= AGREEMENT:
            both = f"{apart:.1e} from ours in value, {gradient_apart:.1e} in gradient; allowed {AGREEMENT:.0e}"
            raise SystemExit(f"{case.name} ({case.samples}, {case.width}): {name} is {both}. Nothing was timed.")


def compare(section: str, case: Case, settings: Settings) -> list[Row]:
    """Check one case, measure memory once and time for each number of threads, and give its rows."""
    z = views_of(case, settings.device)
    check_agreement(case, z)  # which also warms up
    inputs = {c.name: leaves(z, c) for c in case.contestants}
    memory = {c.name: peak_bytes(c, inputs[c.name]) for c in case.contestants}
    rows = []
    for threads in settings.threads:
        torch.set_num_threads(threads)
        times: dict[str, list[float]] = {c.name: [] for c in case.contestants}
        for _ in range(case.rounds):
            for c in case.contestants:
                times[c.name].append(seconds(partial(step, c, inputs[c.name]), settings.device))
        for name, values in times.items():
            ratio = statistics.median(t / own for t, own in zip(values, times[OURS], strict=True))
            ms, mb = round(1e3 * statistics.median(values), 2), round(memory[name] / 1e6, 2)
            share, goal = round(memory[name] / memory[OURS], 1), case.goals.get(name, (None, None))
            title = f"{case.name} ({case.samples}, {case.width})"
            rows.append(Row(section, title, name, threads, ms, round(ratio, 2), mb, share, *goal))
    return rows


def ceilings(settings: Settings) -> list[dict[str, object]]:
    """What the machine can do: a float32 matrix product in GFLOP/s, and a copy (read and write) in GB/s."""
    side = 512 if settings.quick else 2048
    a, long = torch.randn(side, side, device=settings.device), torch.empty(1 << 24, device=settings.device)
    room = torch.zeros_like(long)
    lines: list[dict[str, object]] = []
    for threads in settings.threads:
        torch.set_num_threads(threads)
        product = min(seconds(lambda: a @ a, settings.device) for _ in range(5))
        copy = min(seconds(lambda: room.copy_(long), settings.device) for _ in range(5))
        rates = {"gflops": round(2e-9 * side**3 / product, 1), "copy_gb_s": round(2e-9 * long.nbytes / copy, 1)}
        lines.append({"benchmark": "side_by_side", "section": "ceilings", "threads": threads, **rates})
    return lines


def table_of(rows: list[Row]) -> Table:
    """Rows for people; ratios are theirs over ours."""
    table = Table("", "contestant", "threads", "ms", "ratio", "required", "aim", "MB", "MB ratio")
    last = ""
    for row in rows:
        goals = ("" if g is None else f"{g:g}x" for g in (row.required, row.aim))
        cells = [row.contestant, str(row.threads), f"{row.ms:,.1f}", f"{row.ratio:.2f}x", *goals]
        cells += [f"{row.memory_mb:,.1f}", f"{row.memory_ratio:.1f}x"]
        if row.case != last:
            table.add_section()
        table.add_row("" if row.case == last else row.case, *cells)
        last = row.case
    return table


def main() -> None:
    """Check, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sections", nargs="+", choices=sorted(SECTIONS), default=sorted(SECTIONS))
    parser.add_argument("--quick", action="store_true", help="small shapes, three rounds, under a minute")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", nargs="+", type=int, default=sorted({1, torch.get_num_threads()}))
    parser.add_argument("--json", type=Path, help="also write the lines to this file")
    given = parser.parse_args()
    console = Console(width=140 if not sys.stdout.isatty() else None)
    settings = Settings(given.quick, torch.device(given.device), tuple(given.threads), console)
    machine = {
        "device": torch.cuda.get_device_name(0) if settings.device.type == "cuda" else f"cpu ({platform.machine()})",
        "quick": given.quick,
        "torch": torch.__version__,
        "eigenview": eigenview.__version__,
        "commit": source_commit(),
    }
    lines = [json.dumps(line | machine) for line in ceilings(settings)]
    console.print("\n".join(lines), markup=False, soft_wrap=True)
    for name in given.sections:
        rows = SECTIONS[name](settings)
        console.print(table_of(rows))
        lines += [json.dumps({"benchmark": "side_by_side", **asdict(row), **machine}) for row in rows]
    print("\n".join(lines))
    if given.json:
        given.json.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
