"""The Hugging Face hub is asked once, and not at all where the setting forbids it."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator

import huggingface_hub.constants as settings
import pytest

from eigenview.errors import UserError
from eigenview.hub import cache_only, from_cache_or_hub, why_unreachable


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[socket.socket, list[bytes]]]:
    """A hub on this machine that answers one request, and the requests it has seen."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    seen: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listening:
        monkeypatch.setattr(settings, "ENDPOINT", f"http://127.0.0.1:{listening.getsockname()[1]}")
        monkeypatch.setattr(settings, "HF_HUB_OFFLINE", False)

        def answer() -> None:
            with contextlib.suppress(OSError), listening.accept()[0] as connection:
                if request := connection.recv(1000):
                    seen.append(request)
                connection.sendall(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        yield listening, seen
        with contextlib.suppress(OSError):  # the thread that nobody asked still waits
            socket.create_connection(listening.getsockname(), timeout=5).close()
        thread.join(10)
        assert not thread.is_alive()


def test_any_answer_is_one(server: tuple[socket.socket, list[bytes]]) -> None:
    assert why_unreachable() == ""
    assert [request.split()[0] for request in server[1]] == [b"HEAD"]


def test_the_setting_of_the_library_is_kept(server: tuple[socket.socket, list[bytes]]) -> None:
    with cache_only():
        assert why_unreachable() == "HF_HUB_OFFLINE is set"
    assert not settings.HF_HUB_OFFLINE
    assert not server[1]


def test_where_nobody_answers_one_attempt_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        address = f"http://127.0.0.1:{closed.getsockname()[1]}"
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(settings, "ENDPOINT", address)
    monkeypatch.setattr(settings, "HF_HUB_OFFLINE", False)
    assert why_unreachable() == f"{address} does not answer"


def test_the_cache_comes_first_and_the_hub_is_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    state = {"cached": True, "silent": "nobody answers"}
    calls: list[bool] = []

    def load() -> str:
        from huggingface_hub import constants

        calls.append(constants.HF_HUB_OFFLINE)
        if constants.HF_HUB_OFFLINE and not state["cached"]:
            raise OSError("not in the cache")
        return "found"

    def found() -> str:
        calls.clear()
        return from_cache_or_hub("hf:a/b", "its files", load, "a file")

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("eigenview.hub.why_unreachable", lambda: state["silent"])
    assert (found(), calls) == ("found", [True])
    state["cached"] = False
    with pytest.raises(UserError, match=r"hf:a/b: its files are not in this machine's cache, and nobody answers"):
        found()
    state["silent"] = ""
    assert (found(), calls) == ("found", [True, False])
