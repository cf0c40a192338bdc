"""One process builds what the cache lacks; others wait for it, and for nobody who is gone."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from eigenview.data.images import ImageSet
from eigenview.data.load import load_images
from eigenview.data.pixels import turns
from eigenview.data.pixels.parallel import Rows
from eigenview.data.sources import files
from eigenview.terminal import Console
from tests.data.conftest import MakeImages


def test_images_are_read_by_one_and_mapped_by_all(
    tmp_path: Path, make_images: MakeImages, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Threads stand for processes: the system's lock belongs to an open file, not to a process."""
    make_images(tmp_path / "set", 5)
    checked, decoded = list[str](), list[str]()

    def slowly(read: object, seen: list[str]) -> object:
        def work(paths: Sequence[str], *rest: object) -> Rows:
            seen.extend(paths)
            time.sleep(0.1)  # the others are here before it is done
            return read(paths, *rest)  # type: ignore[operator]

        return work

    monkeypatch.setattr(files, "headers", slowly(files.headers, checked))
    monkeypatch.setattr(files, "decode_rows", slowly(files.decode_rows, decoded))
    together = threading.Barrier(3)

    def load(_: int) -> ImageSet:
        together.wait()
        return load_images(str(tmp_path / "set"), size=20)

    with ThreadPoolExecutor(3) as pool:
        sets = list(pool.map(load, range(3)))
    assert len(checked) == len(decoded) == 5
    assert len({each.pixels.filename for each in sets if isinstance(each.pixels, np.memmap)}) == 1
    assert all(isinstance(each.pixels, np.memmap) for each in sets)
    assert not list(cache.glob(".*"))


def test_who_is_waited_for_is_printed_and_a_killed_one_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "SILENT_SECONDS", 0.0)
    lock, (begun, tell) = tmp_path / "a.lock", os.pipe()
    child = os.fork()
    if child == 0:
        with turns.turn(lock, "decoding photos"):
            os.write(tell, b"x")
            time.sleep(60)
        os._exit(0)
    assert os.read(begun, 1) == b"x"
    printed = io.StringIO()

    class Kills(Console):
        def print(self, *objects: object, **options: object) -> None:
            super().print(*objects)
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)

    with turns.turn(lock, "decoding photos", Kills(file=printed)):
        pass
    assert printed.getvalue().startswith(f"waiting   for process {child}, which is decoding photos; ")
    assert not lock.exists()


def test_a_folder_that_cannot_be_written_is_not_waited_for(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with turns.turn(tmp_path / "file" / "a.lock", "decoding photos"):
        pass


def test_a_file_system_without_locks_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_locks(*_: object) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr(turns.fcntl, "flock", no_locks)
    with turns.turn(tmp_path / "a.lock", "decoding photos"):
        pass
    assert not list(tmp_path.iterdir())


FOUR = """if True:
    import os, re, sys, time
    from pathlib import Path
    import numpy as np
    from eigenview.data.load import load_images
    from eigenview.data.sources import files
    folder, number = Path(sys.argv[1]), sys.argv[2]
    def together(what):
        (folder / f"{what}-{number}").touch()
        while len(list(folder.glob(f"{what}-*"))) < 4:
            time.sleep(0.02)
    decoded, decode_rows = [], files.decode_rows
    files.decode_rows = lambda paths, side, reading: (decoded.extend(paths), decode_rows(paths, side, reading))[1]
    together("here")
    images = load_images(str(folder / "set"), size=64)
    int(images.pixels.sum())  # every page is in memory now
    together("read")
    blocks = re.split(r"\\n(?=[0-9a-f]+-)", Path("/proc/self/smaps").read_text())
    mine = [block for block in blocks if str(images.pixels.filename) in block.partition("\\n")[0]]
    kilobytes = [sum(int(re.search(rf"^{row}: *(\\d+)", block, re.M)[1]) for block in mine) for row in ("Rss", "Pss")]
    together("done")
    print(len(decoded), *kilobytes, images.pixels.nbytes // 1024)
"""


@pytest.mark.slow
def test_four_processes_hold_the_pixels_once(tmp_path: Path, make_images: MakeImages) -> None:
    make_images(tmp_path / "set", 250, 64)
    command = [sys.executable, "-c", FOUR, str(tmp_path)]
    runs = [subprocess.Popen([*command, str(k)], stdout=subprocess.PIPE, text=True) for k in range(4)]
    rows = [list(map(int, run.communicate(timeout=300)[0].split())) for run in runs]
    assert sum(row[0] for row in rows) == 250  # decoded by one of them
    for _, resident, _, whole in rows:
        assert resident >= 0.95 * whole
    assert sum(row[2] for row in rows) <= 1.05 * rows[0][3] + 4  # shares of the common pages add up to one copy
