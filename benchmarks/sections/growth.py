"""Growth: no cost above its formula's order. Three sizes an axis, the measured exponent beside the stated one.

Here objectives: time of value and gradient in V, N and D, and memory in V, beside the "Cost" of each docstring. The
sections growth-sources, growth-processes and growth-runs have the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from benchmarks.contest import Row, Section, Settings, keep_memory, peak_bytes, seconds
from benchmarks.growth import growth_row
from eigenview.methods import config_class
from eigenview.methods.parts.building import Parts, Widths
from eigenview.methods.parts.method import Objective
from eigenview.records import Clock, Needs
from eigenview.views import FIELDS, Views

SECTION = "growth"
Sizes = dict[str, int]
Cost = Callable[[int, int, int], float]
"""Of V, N and D."""


@dataclass(frozen=True)
class Axis:
    """One method along one of V, N and D."""

    method: str
    along: str
    sizes: tuple[int, int, int]
    others: Sizes
    time: Cost
    memory: Cost | None = None

    def shape(self, size: int) -> tuple[int, int, int]:
        """V, N and D at one of the sizes."""
        v, n, d = ({**self.others, self.along: size}[name] for name in "VND")
        return v, n, d

    @property
    def title(self) -> str:
        """Method, axis and the other sizes."""
        return f"{self.method} in {self.along} ({', '.join(f'{n} {s}' for n, s in self.others.items())})"


def _linear(v: int, n: int, d: int) -> float:
    return v * n * d


def _second_moments(v: int, n: int, d: int) -> float:
    return v * n * d * min(n, d)


def _cross_correlation(v: int, n: int, d: int) -> float:
    return v * n * d * min(n, (v - 1) * d)


def _whole_matrix(v: int, n: int, d: int) -> float:
    return v**2 * n**2 * d


def _ordered_pairs(v: int, n: int, d: int) -> float:
    return v * (v - 1) * n**2 * d


def _own_negatives(v: int, n: int, d: int) -> float:
    return v * n**2 * d + v**2 * n * d


def _closed_form(v: int, n: int, d: int) -> float:
    return v * n * d**2


def axes(settings: Settings) -> Iterator[Axis]:
    """Sizes at which the leading term outweighs the rest, on one side of what changes the time of an operation: the
    cheap ones are all beyond a processor's cache, and the matrices of N rows all in the shortest strips. Sizes are a
    factor of three apart or more: over a factor of two, ten per cent of noise would be an exponent of 0.14."""
    small = settings.pick(64, 16, 1)  # divides N and D

    def axis(method: str, along: str, sizes: tuple[int, int, int], time: Cost, **others: int) -> Axis:
        def scaled(name: str, size: int) -> int:
            return size if name == "V" else max(2, size // small)

        sides = (scaled(along, sizes[0]), scaled(along, sizes[1]), scaled(along, sizes[2]))
        others = {name: scaled(name, size) for name, size in others.items()}
        return Axis(method, along, sides, others, time, _linear if along == "V" else None)

    views, rows = (2, 4, 8), (8192, 16384, 24576)
    for method, time in (("vicreg", _second_moments), ("unbiased-vicreg", _second_moments)):
        yield axis(method, "V", views, time, N=1024, D=1024)
        yield axis(method, "N", (2048, 4096, 8192), time, V=2, D=1024)
        yield axis(method, "D", (1024, 2048, 4096), time, V=2, N=8192)
    yield axis("barlow-twins", "V", views, _cross_correlation, N=1024, D=4096)
    yield axis("barlow-twins", "D", (1024, 2048, 4096), _cross_correlation, V=2, N=8192)
    yield axis("simclr", "V", views, _whole_matrix, N=1024, D=512)
    yield axis("simclr", "N", rows, _whole_matrix, V=2, D=64)
    yield axis("infonce", "V", views, _own_negatives, N=2048, D=512)
    yield axis("infonce", "N", rows, _own_negatives, V=2, D=64)
    yield axis("directclr", "V", views, _ordered_pairs, N=1024, D=512)
    yield axis("directclr", "N", rows, _ordered_pairs, V=2, D=64)
    for method in ("byol", "simsiam"):
        yield axis(method, "V", views, _linear, N=16384, D=1024)
    for method in ("directset", "directpred", "directcopy", "isoloss"):
        yield axis(method, "V", views, _closed_form, N=16384, D=512)


@dataclass(frozen=True, kw_only=True)
class NoNetworks(Parts):
    """Parts of which a method gets the widths alone: its config then builds the objective."""

    encoder: str = ""
    size: int = 0
    width: int

    def joint_embedding(self, needs: Needs, objective: Callable[[Widths], Objective]) -> Any:
        """The objective."""
        return objective(Widths(self.width, self.width, self.views))


def objective_of(method: str, views: int, width: int) -> tuple[Objective, tuple[str, ...]]:
    """A method's objective, and the fields of Views that it reads."""
    options = {"d0": width} if method == "directclr" else {}  # all of the representation
    config = config_class(method)(**options)
    built: Any = config.build(NoNetworks(width=width, views=views))
    return built, tuple(name for name in FIELDS if name in config.needs.reads)


def fields_of(names: tuple[str, ...], shape: tuple[int, int, int]) -> dict[str, Any]:
    """Views that agree in part; gradients for all but the target network's."""
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(shape[1:], generator=generator)
    return {
        name: (image + 0.5 * torch.randn(shape, generator=generator)).requires_grad_(name != "z_target")
        for name in names
    }


def step(objective: Objective, fields: dict[str, Any]) -> None:
    """Value and gradient."""
    for each in fields.values():
        each.grad = None
    objective(Views(**fields), Clock()).total.backward()


def works_of(axis: Axis) -> list[Callable[[], None]]:
    """What is timed at each size, warmed up."""
    works = []
    for size in axis.sizes:
        views, _, width = shape = axis.shape(size)
        objective, names = objective_of(axis.method, views, width)
        works.append(partial(step, objective, fields_of(names, shape)))
        works[-1]()
    return works


def measure_axis(axis: Axis, settings: Settings) -> Iterator[Row]:
    """The time of some rounds, in which the sizes take turns; then the memory, where it is stated."""
    works, rounds = works_of(axis), settings.pick(1, 2, 8)
    threads = settings.threads[-1]
    torch.set_num_threads(threads)
    turns = [[seconds(work, settings.device) for work in works] for _ in range(rounds)]
    stated = {"time": axis.time, "memory": axis.memory}
    found = {"time": (turns, "s")}
    if axis.memory is not None:
        found["memory"] = ([[peak_bytes(work, settings.device) / 1e6 for work in works]], "MB")
    for kind, (values, unit) in found.items():
        cost = stated[kind]
        assert cost is not None

        def at(size: float, cost: Cost = cost) -> float:
            return cost(*axis.shape(int(size)))

        yield growth_row(SECTION, axis.title, kind, axis.sizes, values, at, settings, unit=unit, threads=threads)


def check(settings: Settings) -> list[str]:
    """Every objective has a finite value and a gradient at every size."""
    lines = []
    for axis in axes(settings):
        for work in works_of(axis):
            work()
        lines.append(f"{axis.title}: value and gradient")
    return lines


def measure(settings: Settings) -> list[Row]:
    """Every axis. Memory is kept: how fast the kernel supplies pages is not what the formulas say."""
    keep_memory()
    return [row for axis in axes(settings) for row in measure_axis(axis, settings)]


GROWTH = Section(check, measure)
