"""What a terminal shows of a wait, and what a file or another rank does not."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from eigenview.progress import loading


def shown(*, terminal: bool) -> str:
    out = io.StringIO()
    with loading(Console(file=out, force_terminal=terminal, width=60), "PyTorch"):
        pass
    return out.getvalue()


def test_loading_is_seen_in_a_terminal_and_taken_away() -> None:
    text = shown(terminal=True)
    assert "loading PyTorch" in text
    assert text.rstrip().endswith("\x1b[2K")  # the line is erased, the cursor back where it was


def test_loading_is_silent_in_a_file_and_on_other_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    assert shown(terminal=False) == ""
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert shown(terminal=True) == ""
