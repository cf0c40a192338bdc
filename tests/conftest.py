"""Shape checks on the mathematics, one thread, which tests share a worker, and the processes of distributed tests."""

from __future__ import annotations

import functools
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import settings
from jaxtyping import install_import_hook

if TYPE_CHECKING:
    from xdist.scheduler import LoadFileScheduling

    from tests.process_pool import ProcessPool

FIRST = (
    "contract/test_bytes.py",
    "test_experiment_files.py",
    "test_add_a_method.py",
    "engine/test_verdicts.py",
    "engine/test_resume.py",
    "engine/test_train.py",
)
"""Files that take longest: they start first, so that none of them runs alone at the end."""

# Before torch is imported. Small tensors gain nothing from more threads, two workers run tests at the same time, and
# oneDNN's threads wait for each other by spinning: on a busy machine that is ten times slower than one thread.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Without bytecode each process that a test starts compiles torch's sources again, which takes many seconds.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# A shell without job control starts what it puts in the background with SIGINT ignored, and so would every run here.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Every function of these modules checks the shapes in its annotations while tests run. An int may stand for a float.
# Left out: the package files (that of methods names a type that it imports for the type checker only), and
# parts/method.py, which raises its own error for a value of another type.
_source = Path(__file__).parents[1] / "src"
_checked = [path for path in (_source / "eigenview" / "methods").rglob("[!_]*.py") if path.name != "method.py"]
install_import_hook(
    ["eigenview.functional", *(".".join(path.relative_to(_source).with_suffix("").parts) for path in _checked)],
    "beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))",
)

settings.register_profile("repeatable", derandomize=True, deadline=None, database=None)
settings.load_profile("repeatable")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    places = {Path(__file__).parent / name: number for number, name in enumerate(FIRST)}
    items.sort(key=lambda item: places.get(item.path, len(FIRST)))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadFileScheduling:
    """A file's tests run on one worker, and all files that use `processes` on the same one: one pool is enough."""
    from xdist.scheduler import LoadFileScheduling

    class Scheduling(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = super()._split_scope(nodeid)
            return "files with a pool" if "ProcessPool" in _text(config.rootpath / file) else file

    return Scheduling(config, log)


@functools.cache
def _text(path: Path) -> str:
    return path.read_text()


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Decoded data sets and cached probes of the tests stay out of the user's cache folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EIGENVIEW_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def processes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProcessPool]:
    """Four CPU processes, started once and reused by every distributed test, in groups of any size up to four."""
    from tests.process_pool import ProcessPool

    with ProcessPool(4, tmp_path_factory.mktemp("rendezvous")) as pool:
        yield pool
