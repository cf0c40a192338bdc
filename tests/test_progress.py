"""What a terminal shows of a wait, and what a file or another rank does not."""

from __future__ import annotations

import io

import pytest

from eigenview import progress
from eigenview.progress import counting, loading
from eigenview.terminal import Console


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
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert shown(terminal=True) == ""


@pytest.mark.parametrize("terminal", [True, False])
@pytest.mark.parametrize("silent_seconds", [0.0, 60.0])
def test_counted_work_is_shown_only_in_a_terminal_and_only_if_it_takes_long(
    monkeypatch: pytest.MonkeyPatch, *, terminal: bool, silent_seconds: float
) -> None:
    monkeypatch.setattr(progress, "SILENT_SECONDS", silent_seconds)
    out = io.StringIO()
    with counting(Console(file=out, force_terminal=terminal, width=80), "decoding images") as update:
        update(1, 3)
        update(3, 3)
    is_shown = terminal and silent_seconds == 0
    assert ("decoding images" in out.getvalue()) == is_shown
    assert (out.getvalue() == "") == (not is_shown)
