"""Objectives: value and gradient of VICReg, Barlow Twins and NT-Xent. Ours are the objectives that a run uses.

Every contestant must give our value and our gradient before anything is timed. Memory is the peak of bytes allocated
above the inputs during value and gradient, the gradient included (`contest.peak_bytes`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial

import torch
from torch import Tensor

from benchmarks import plain, smaller_matrix
from benchmarks.contest import (
    OURS,
    Goal,
    Row,
    Section,
    Settings,
    Work,
    compare_times,
    peak_bytes,
    require_agreement,
)
from benchmarks.peers import peer
from eigenview.methods.barlow_twins import BarlowTwins, BarlowTwinsConfig
from eigenview.methods.parts.method import Objective
from eigenview.methods.simclr import SimCLR, SimCLRConfig
from eigenview.methods.vicreg import VICReg
from eigenview.views import Views

SECTION = "objective"
PLAIN_TWIN = "ours, plain autograd"
Loss = Callable[..., Tensor]
# samples and width: tiny, quick, full
SMALL = ((16, 24), (128, 1024), (256, 2048))
LARGE = ((24, 16), (384, 256), (2048, 8192))
MANY = ((20, 8), (256, 128), (4096, 128))


@dataclass(frozen=True)
class Contestant:
    """One way to compute a loss of two views: of one stacked leaf (2 N D), or of two leaves (N D)."""

    name: str
    loss: Loss
    is_stacked: bool = False


@dataclass(frozen=True, kw_only=True)
class Case:
    """What is compared at one shape, and what is asked of the ratios to some of the contestants."""

    name: str
    samples: int
    width: int
    contestants: tuple[Contestant, ...]
    time_goals: Mapping[str, Goal] = field(default_factory=dict)
    memory_goals: Mapping[str, Goal] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """Name and shape."""
        return f"{self.name} ({self.samples}, {self.width})"


def of_views(objective: Objective) -> Loss:
    """The loss of an objective as a function of z (2 N D)."""
    return lambda z: objective(Views(z=z)).total


WAYS: dict[str, tuple[Loss, Loss, Loss]] = {
    "VICReg": (of_views(VICReg()), smaller_matrix.vicreg, plain.vicreg),
    "Barlow Twins": (
        of_views(BarlowTwins(BarlowTwinsConfig(off_diagonal=0.005))),
        smaller_matrix.barlow_twins,
        plain.barlow_twins,
    ),
    "NT-Xent": (of_views(SimCLR(SimCLRConfig(temperature=0.5))), smaller_matrix.nt_xent, plain.nt_xent),
}
"""Ours, ours by plain autograd, naive torch."""


def lightly_losses(settings: Settings) -> dict[str, Loss]:
    """lightly's own losses at the coefficients used here; none where it is not installed."""
    loss = peer("lightly.loss", settings)
    if loss is None:
        return {}
    return {
        "VICReg": loss.VICRegLoss(lambda_param=25.0, mu_param=25.0, nu_param=1.0),
        "Barlow Twins": loss.BarlowTwinsLoss(lambda_param=0.005),
        "NT-Xent": loss.NTXentLoss(temperature=0.5),
    }


def cases(settings: Settings) -> Iterator[Case]:
    """Shapes, contestants and goals."""
    peers = lightly_losses(settings)
    small, large, many = (settings.pick(*shape) for shape in (SMALL, LARGE, MANY))
    plan = [  # against lightly: time, memory
        ("VICReg", small, Goal(15, 25), Goal(20)),
        ("VICReg", large, Goal(6, 8), Goal(10)),
        ("Barlow Twins", small, Goal(6, 10), None),
        ("Barlow Twins", large, Goal(3, 4), None),
        ("NT-Xent", many, Goal(2.5, 4), Goal(15)),
    ]
    for name, (samples, width), time_goal, memory_goal in plan:
        ours, twin, naive = WAYS[name]
        contestants = [Contestant(OURS, ours, True), Contestant(PLAIN_TWIN, twin, True)]
        contestants.append(Contestant("naive torch", naive))
        if name in peers:
            contestants.append(Contestant("lightly", peers[name]))
        is_judged = not settings.is_cuda  # the goals are about two CPU cores
        yield Case(
            name=name,
            samples=samples,
            width=width,
            contestants=tuple(contestants),
            time_goals={"lightly": time_goal} if is_judged else {},
            memory_goals={"lightly": memory_goal} if is_judged and memory_goal else {},
        )


def views_of(case: Case, device: torch.device) -> Tensor:
    """(2 N D): views that agree in part, with standard deviations on both sides of 1."""
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(case.samples, case.width, generator=generator)
    z = image + 0.5 * torch.randn(2, case.samples, case.width, generator=generator)
    return (z * (0.5 + torch.rand(case.width, generator=generator))).to(device)


def leaves(z: Tensor, contestant: Contestant) -> list[Tensor]:
    """The two views of z (2 N D) as this contestant takes them, each a leaf that asks for its gradient."""
    return [part.clone().requires_grad_() for part in ([z] if contestant.is_stacked else z)]


def once(contestant: Contestant, z: Tensor) -> dict[str, Tensor]:
    """Value, and gradient with respect to both views (2 N D)."""
    inputs = leaves(z, contestant)
    loss = contestant.loss(*inputs)
    gradients = torch.autograd.grad(loss, inputs)
    return {
        "value": loss.detach(),
        "gradient": gradients[0] if contestant.is_stacked else torch.stack(gradients),
    }


def step(contestant: Contestant, inputs: list[Tensor]) -> None:
    """What is timed."""
    for x in inputs:
        x.grad = None
    contestant.loss(*inputs).backward()


def check_case(case: Case, z: Tensor) -> list[str]:
    """Every contestant gives the value and the gradient of ours; a line each."""
    ours, *others = case.contestants
    found = once(ours, z)
    return [require_agreement(f"{case.title}, {each.name}", once(each, z), found) for each in others]


def compare(section: str, case: Case, z: Tensor, settings: Settings, *, most_rounds: int = 3) -> list[Row]:
    """Memory once, time for each number of threads; `most_rounds` where a step takes seconds."""
    inputs = {c.name: leaves(z, c) for c in case.contestants}
    ways: dict[str, Work] = {c.name: partial(step, c, inputs[c.name]) for c in case.contestants}
    for work in ways.values():
        work()  # warms up
    takes_seconds = case.samples * case.width > 1 << 22  # a step of naive torch: all threads alone, and few rounds
    timed = replace(settings, threads=settings.threads[-1:]) if takes_seconds else settings
    rounds = 3 if settings.scale != "full" else most_rounds if takes_seconds else 15
    rows = compare_times(section, case.title, ways, rounds, timed, case.time_goals)
    for x in (x for each in inputs.values() for x in each):
        x.grad = None  # or ours would be counted without the gradient's memory
    memory = {c.name: peak_bytes(ways[c.name], settings.device) for c in case.contestants}
    for name, needed in memory.items():
        if name != OURS:
            own, goal = memory[OURS], case.memory_goals.get(name) if settings.scale == "full" else None
            figures = {"ours": own / 1e6, "theirs": needed / 1e6, "unit": "MB", "figure": needed / own}
            rows.append(Row(section=section, case=case.title, contestant=name, quantity="memory", goal=goal, **figures))
    return rows


def check_all(cases: Iterable[Case], settings: Settings) -> list[str]:
    """Values and gradients of all contestants of the cases."""
    return [line for case in cases for line in check_case(case, views_of(case, settings.device))]


def measure(settings: Settings) -> list[Row]:
    """Check each case, then time it."""
    rows: list[Row] = []
    for case in cases(settings):
        z = views_of(case, settings.device)
        check_case(case, z)
        rows += compare(SECTION, case, z, settings)
    return rows


def inside(settings: Settings) -> Iterator[tuple[str, Work]]:
    """Ours of each case."""
    for case in cases(settings):
        ours = case.contestants[0]
        work = partial(step, ours, leaves(views_of(case, settings.device), ours))
        work()  # warms up
        yield case.title, work


OBJECTIVE = Section(lambda settings: check_all(cases(settings), settings), measure, inside)
