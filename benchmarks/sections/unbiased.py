"""What unbiasedness adds: value and gradient of the unbiased VICReg over those of VICReg, as modules.

They are two losses: each is checked against its own plain form, and VICReg's in the section objective as well.
"""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from benchmarks.contest import OURS, Goal, Row, Section, Settings
from benchmarks.sections.objective import (
    LARGE,
    PLAIN_TWIN,
    SMALL,
    Case,
    Contestant,
    Loss,
    check_all,
    check_case,
    compare,
    views_of,
)
from eigenview.functional.moments import unbiased_off_diagonal_sq_norm
from eigenview.methods.base import total
from eigenview.methods.unbiased_vicreg import UnbiasedVICReg
from eigenview.methods.vicreg import VICReg, invariance, variance
from eigenview.views import Views

SECTION = "unbiased"


def unbiased_twin(z: Tensor) -> Tensor:
    """The unbiased VICReg at its defaults by plain autograd."""
    energy = unbiased_off_diagonal_sq_norm(z).mean() / z.shape[-1]
    return 25 * invariance(z) + 25 * variance(z, 1.0, 1e-4) + 4 * 2 * energy


def of_views(objective: VICReg | UnbiasedVICReg) -> Loss:
    """The loss of an objective as a function of z."""
    return lambda z: total(objective(Views(z=z)))


def pairs(settings: Settings) -> Iterator[tuple[Case, Case]]:
    """The unbiased form beside its plain twin, to be checked; and beside VICReg, which is another loss, to be timed."""
    for samples, width in (settings.pick(*SMALL), settings.pick(*LARGE)):
        shape = {"samples": samples, "width": width}
        unbiased = of_views(UnbiasedVICReg())
        twins = (Contestant(OURS, unbiased, True), Contestant(PLAIN_TWIN, unbiased_twin, True))
        ways = (Contestant(OURS, of_views(VICReg()), True), Contestant("its unbiased form", unbiased, True))
        goals = {"its unbiased form": Goal(1.15, at_most=True)}
        checked = Case(name="unbiased VICReg", contestants=twins, **shape)
        yield checked, Case(name="VICReg, what unbiasedness adds", contestants=ways, time_goals=goals, **shape)


def check(settings: Settings) -> list[str]:
    """The unbiased form against its plain twin."""
    return check_all((checked for checked, _ in pairs(settings)), settings)


def measure(settings: Settings) -> list[Row]:
    """Check each shape, then time it."""
    rows: list[Row] = []
    for checked, timed in pairs(settings):
        z = views_of(timed, settings.device)
        check_case(checked, z)
        rows += compare(SECTION, timed, z, settings, most_rounds=7)
    return rows


UNBIASED = Section(check, measure)
