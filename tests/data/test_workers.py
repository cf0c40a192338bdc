"""Processes that decode: signals are the trainer's, a dead one is one line, paths cost what they are long."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest

from eigenview.cli import run
from eigenview.config import LoaderConfig
from eigenview.data import batches
from eigenview.data.batches import Batches
from eigenview.data.load import load_images
from tests.data.conftest import MakeImages
from tests.data.test_pack import FIELDS


def new_children(others: list[BaseProcess]) -> list[BaseProcess]:
    """Child processes that are not among the `others`, which must be left in peace."""
    return [child for child in multiprocessing.active_children() if child not in others]


def test_ctrl_c_in_a_terminal_reaches_workers_too_and_ends_none(tmp_path: Path, make_images: MakeImages) -> None:
    make_images(tmp_path / "set", 24, 20)
    images = load_images(str(tmp_path / "set"), size=20, loader=LoaderConfig(cache_gb=0))
    others, seen = multiprocessing.active_children(), 0  # the pool of the distributed tests
    for _ in Batches(images, batch_size=4, seed=0, epochs=2, workers=2):
        seen += 1
        if seen == 3:
            for worker in new_children(others):
                os.kill(worker.pid or 0, signal.SIGINT)
            time.sleep(0.1)
    assert seen == 12


def test_a_worker_told_to_end_does_whatever_the_trainer_s_handler_is(tmp_path: Path, make_images: MakeImages) -> None:
    make_images(tmp_path / "set", 24, 20)
    images = load_images(str(tmp_path / "set"), size=20, loader=LoaderConfig(cache_gb=0))
    others, before = multiprocessing.active_children(), signal.signal(signal.SIGTERM, lambda number, frame: None)
    try:
        iterator = iter(Batches(images, batch_size=4, seed=0, workers=1))
        next(iterator)
        (worker,) = new_children(others)

        def end_it() -> None:
            os.kill(worker.pid or 0, signal.SIGTERM)
            time.sleep(5)

        with pytest.raises(RuntimeError, match="DataLoader worker"):  # raised by torch wherever this process is
            end_it()
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_worker_that_the_system_kills_is_one_line(
    tmp_path: Path, make_images: MakeImages, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    main, decode_rows = os.getpid(), batches.decode_rows

    def killed(*given: Any) -> object:
        if os.getpid() != main:
            os.kill(os.getpid(), signal.SIGKILL)
        return decode_rows(*given)

    make_images(tmp_path / "set", 96, 20)
    monkeypatch.setattr(batches, "decode_rows", killed)
    in_place = ["--loader.cache-gb", "0", "--loader.workers", "1"]
    assert run(["pretrain", str(tmp_path / "set"), *FIELDS, *in_place, "--out", str(tmp_path / "run")]) == 2
    error = capsys.readouterr().err
    assert "a process that decodes images has died, most often for lack of memory" in error
    assert "Traceback" not in error


def test_one_long_path_does_not_make_all_the_others_long() -> None:
    """An array of text takes four bytes for each letter of the longest, a gigabyte for a million paths of 256."""
    given = ("a" * 4000, "ä", *map(str, range(1000)), "no utf-8 \udcff", "piece\x00name\x001\x002")
    paths = batches._Paths(given)
    assert [paths[row] for row in range(len(given))] == list(given)
    assert paths.text.nbytes + paths.ends.nbytes < 20_000
