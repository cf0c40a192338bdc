"""Shape checks on the mathematics, modest threading, and the pool of processes for distributed tests."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings
from jaxtyping import install_import_hook

if TYPE_CHECKING:
    from tests.process_pool import ProcessPool

# Before torch is imported: small tensors gain nothing from more threads, distributed tests run beside each other, and
# oneDNN's threads wait for each other by spinning, which a busy machine makes ten times slower than one thread.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Every function of these modules checks the shapes in its annotations while tests run. An int may stand for a float.
# The package file of the objectives is left out: it names a type that it imports for the type checker only.
_objectives = Path(__file__).parents[1] / "src" / "eigenview" / "methods"
install_import_hook(
    ["eigenview.functional", *(f"eigenview.methods.{p.stem}" for p in _objectives.glob("[!_]*.py"))],
    "beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))",
)

settings.register_profile("repeatable", derandomize=True, deadline=None, database=None)
settings.load_profile("repeatable")


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Decoded sets and remembered probes of the tests stay out of the user's cache folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EIGENVIEW_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def processes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProcessPool]:
    """Four CPU processes, started once and reused by every distributed test, in groups of any size up to four."""
    from tests.process_pool import ProcessPool

    with ProcessPool(4, tmp_path_factory.mktemp("rendezvous")) as pool:
        yield pool
