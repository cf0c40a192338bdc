"""A process that no longer answers ends the run with its number."""

from __future__ import annotations

import threading
import time
from contextlib import ExitStack

import pytest
from torch.distributed import TCPStore  # pyright: ignore[reportPrivateImportUsage]

from eigenview import distributed
from eigenview.engine import heartbeat
from eigenview.engine.agreement import check_agreement
from eigenview.engine.heartbeat import beating
from eigenview.errors import UserError
from tests.process_pool import ProcessPool


class Sentences:
    """What `beating` says, and when it is the first time."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.spoke = threading.Event()

    def __call__(self, sentence: str) -> None:
        self.said.append(sentence)
        self.spoke.set()


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> TCPStore:
    monkeypatch.setattr(heartbeat, "EVERY", 0.05)
    monkeypatch.setattr(heartbeat, "PATIENCE", 4)
    return TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)


def test_nothing_is_said_while_all_answer_or_have_left_properly(store: TCPStore) -> None:
    sentences = Sentences()
    with beating("127.0.0.1", store.port, 0, 3, sentences), beating("127.0.0.1", store.port, 1, 3, sentences):
        with beating("127.0.0.1", store.port, 2, 3, sentences):
            time.sleep(0.5)
        assert not sentences.spoke.wait(0.05 * heartbeat.PATIENCE * 3)


@pytest.mark.parametrize("silent", [0, 2])
def test_a_silent_process_is_named(store: TCPStore, silent: int) -> None:
    """The first process watches the others, and the others watch the first."""
    sentences = Sentences()
    with ExitStack() as alive:
        for number in {0, 1, 2} - {silent}:
            alive.enter_context(beating("127.0.0.1", store.port, number, 3, sentences))
        assert sentences.spoke.wait(20)
    assert all(f"process {silent} of 3 has not answered" in sentence for sentence in sentences.said)
    assert "--resume" in sentences.said[0]


def test_a_store_that_is_gone_is_the_silence_of_the_first_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heartbeat, "EVERY", 0.05)
    monkeypatch.setattr(heartbeat, "PATIENCE", 4)
    closed = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    port = closed.port
    del closed
    sentences = Sentences()
    with beating("127.0.0.1", port, 1, 2, sentences):
        assert sentences.spoke.wait(20)
    assert "process 0 of 2" in sentences.said[0]


def disagree() -> str:
    try:
        check_agreement({"step of the checkpoint": 10, "number of training images": 100 + distributed.rank()})
    except UserError as error:
        return str(error)
    return ""


@pytest.mark.ddp
def test_processes_that_see_other_data_do_not_train_together(processes: ProcessPool) -> None:
    for said in processes.run(2, disagree):
        assert "process 1 of 2 finds number of training images 101, process 0 finds 100" in said
    check_agreement({"step of the checkpoint": None})  # alone
