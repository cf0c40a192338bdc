"""Folders that the user may not enter: one line, exit code 2, nothing else. Tests run as root, whom no folder stops."""

from __future__ import annotations

import contextlib
import encodings.cp437
import encodings.unicode_escape  # noqa: F401
import io
import os
import shutil
import sys
from pathlib import Path

import pytest
from tests.report.synthetic_run import write_run

import eigenview.engine.train
import eigenview.models.export
import eigenview.probes.table
from eigenview import cli
from eigenview.commands import check, diagnose, embed, export, pretrain, probe, report

VERBS = [pretrain, check, diagnose, embed, export, probe, report, eigenview.engine.train, eigenview.models.export]
"""Imported before the child, which may not read the libraries either."""
NOBODY = 65534


def can_become_nobody() -> bool:
    """Whether this process may change its user, and that user may read the libraries of this environment."""
    if not hasattr(os, "setuid") or os.geteuid() != 0:
        return False
    place = Path(sys.prefix).resolve()
    return all(path.stat().st_mode & 0o005 == 0o005 for path in (place, *place.parents))


needs_nobody = pytest.mark.skipif(
    not can_become_nobody(), reason="needs root, and an environment that other users may read"
)


def as_nobody(args: list[str]) -> tuple[int, str]:
    """Exit code and standard error of a command line, run by a child without any right."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        code, said = 99, io.StringIO()
        try:
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
            with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
                code = cli.run(args)
        except BaseException as error:
            said.write(f"Traceback: {error!r}")
        finally:
            os.write(writing, said.getvalue().encode()[:4000])
            os._exit(code)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        said = pipe.read()
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), said


@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that only its owner enters, with a run, and an open folder beside it."""
    root = tmp_path_factory.mktemp("permission")
    for path in (root, *root.parents):
        if path.owner() == "root" and path.is_relative_to("/tmp"):
            path.chmod(path.stat().st_mode | 0o055)
    write_run(root / "closed" / "run", width=4)
    (root / "closed").chmod(0o700)
    (root / "free").mkdir()
    (root / "free").chmod(0o777)
    return root / "closed"


@needs_nobody
@pytest.mark.parametrize(
    "args",
    [
        ["pretrain", "{closed}/x.npz", "--out", "{closed}/../free/new"],
        ["pretrain", "digits", "--out", "{closed}/new"],
        ["pretrain", "--out", "{closed}/run", "--resume"],
        ["report", "{closed}/run"],
        ["report", "{closed}/run", "{closed}/other"],
        ["check", "{closed}/run"],
        ["diagnose", "{closed}/run"],
        ["diagnose", "{closed}/x.npy"],
        ["embed", "{closed}/run", "digits"],
        ["embed", "{closed}/run", "digits", "--out", "{closed}/e.parquet"],
        ["export", "{closed}/run"],
        ["probe", "{closed}/run"],
    ],
)
def test_a_closed_folder_is_one_line(args: list[str], closed: Path, tmp_path: Path) -> None:
    code, said = as_nobody([arg.format(closed=closed) for arg in args])
    assert code == 2, said
    assert said.count("\n") == 1
    assert "permission denied" in said.lower()
    assert str(closed) in said


@needs_nobody
def test_a_file_that_may_not_be_read_is_named_and_one_that_may_not_be_written(closed: Path, tmp_path: Path) -> None:
    run = shutil.copytree(closed / "run", closed.parent / "open")
    (run / "summary.json").chmod(0o000)
    code, said = as_nobody(["check", str(run)])
    assert (code, said) == (2, "")
    code, said = as_nobody(["diagnose", str(run)])
    assert (code, said) == (2, f"eigenview: {run}/summary.json cannot be read: Permission denied.\n")
    (run / "summary.json").chmod(0o644)
    code, said = as_nobody(["report", str(run)])
    assert code == 2, said
    assert f"{run}/report.html cannot be written: Permission denied" in said
