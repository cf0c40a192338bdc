"""What unbiasedness adds: value and gradient of the unbiased VICReg over those of VICReg, as modules.

They are two losses: each is checked against its own plain form, and VICReg's in the section objective as well.
"""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks import smaller_matrix
from benchmarks.contest import OURS, Goal, Row, Section, Settings
from benchmarks.sections.objective import (
    LARGE,
    PLAIN_TWIN,
    SMALL,
    Case,
    Contestant,
    check_all,
    check_case,
    compare,
    of_views,
    views_of,
)
from eigenview.methods.unbiased_vicreg import UnbiasedVICReg
from eigenview.methods.vicreg import VICReg

SECTION = "unbiased"


def pairs(settings: Settings) -> Iterator[tuple[Case, Case]]:
    """The unbiased form beside its plain twin, to be checked; and beside VICReg, which is another loss, to be timed."""
    for samples, width in (settings.pick(*SMALL), settings.pick(*LARGE)):
        shape = {"samples": samples, "width": width}
        unbiased = of_views(UnbiasedVICReg())
        twins = (Contestant(OURS, unbiased, True), Contestant(PLAIN_TWIN, smaller_matrix.unbiased_vicreg, True))
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
