"""Processes that decode: signals are the trainer's to answer."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from pathlib import Path

import pytest

from eigenview.config import LoaderConfig
from eigenview.data.batches import Batches
from eigenview.data.sources import load_images
from tests.data.conftest import MakeImages


def test_ctrl_c_in_a_terminal_reaches_workers_too_and_ends_none(tmp_path: Path, make_images: MakeImages) -> None:
    make_images(tmp_path / "set", 24, 20)
    images = load_images(str(tmp_path / "set"), size=20, loader=LoaderConfig(cache_gb=0))
    seen = 0
    for _ in Batches(images, batch_size=4, seed=0, epochs=2, workers=2):
        seen += 1
        if seen == 3:
            for worker in multiprocessing.active_children():
                os.kill(worker.pid or 0, signal.SIGINT)
            time.sleep(0.1)
    assert seen == 12


def test_a_worker_told_to_end_does_whatever_the_trainer_s_handler_is(tmp_path: Path, make_images: MakeImages) -> None:
    make_images(tmp_path / "set", 24, 20)
    images = load_images(str(tmp_path / "set"), size=20, loader=LoaderConfig(cache_gb=0))
    before = signal.signal(signal.SIGTERM, lambda number, frame: None)
    try:
        iterator = iter(Batches(images, batch_size=4, seed=0, workers=1))
        next(iterator)
        (worker,) = multiprocessing.active_children()

        def end_it() -> None:
            os.kill(worker.pid or 0, signal.SIGTERM)
            time.sleep(5)

        with pytest.raises(RuntimeError, match="DataLoader worker"):  # raised by torch wherever this process is
            end_it()
    finally:
        signal.signal(signal.SIGTERM, before)
