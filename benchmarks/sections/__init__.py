"""The sections of the side-by-side table, a file each: what is compared, checked and timed. `loops.py` and `parts.py`
belong to `step.py`."""

from __future__ import annotations

from benchmarks.contest import Section

NAMES = (
    "objective",
    "unbiased",
    "augmentation",
    "loader",
    "predictor",
    "step",
    "adapt",
    "bytes",
    "grad-cache",
    "start",
    "growth",
    "growth-sources",
    "growth-processes",
    "growth-runs",
    "memory",
)
"""In the order of the table."""


def sections() -> dict[str, Section]:
    """Every section by its name."""
    # imported here: the processes that count bytes import this package again and need none of it
    from benchmarks.sections.adapt import ADAPT
    from benchmarks.sections.augmentation import AUGMENTATION
    from benchmarks.sections.grad_cache import GRAD_CACHE
    from benchmarks.sections.growth import GROWTH
    from benchmarks.sections.growth_processes import GROWTH_PROCESSES
    from benchmarks.sections.growth_runs import GROWTH_RUNS
    from benchmarks.sections.growth_sources import GROWTH_SOURCES
    from benchmarks.sections.loader import LOADER
    from benchmarks.sections.memory import MEMORY
    from benchmarks.sections.objective import OBJECTIVE
    from benchmarks.sections.predictor import PREDICTOR
    from benchmarks.sections.sent_bytes import BYTES
    from benchmarks.sections.start import START
    from benchmarks.sections.step import STEP
    from benchmarks.sections.unbiased import UNBIASED

    found = (
        OBJECTIVE,
        UNBIASED,
        AUGMENTATION,
        LOADER,
        PREDICTOR,
        STEP,
        ADAPT,
        BYTES,
        GRAD_CACHE,
        START,
        GROWTH,
        GROWTH_SOURCES,
        GROWTH_PROCESSES,
        GROWTH_RUNS,
        MEMORY,
    )
    return dict(zip(NAMES, found, strict=True))
