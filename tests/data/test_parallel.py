"""Work in chunks: results in order, errors passed on, a progress bar only when it takes long."""

from __future__ import annotations

import io
import time
from collections.abc import Generator, Sequence

import numpy as np
import pytest

from eigenview import progress
from eigenview.data.pixels import parallel
from eigenview.data.pixels.parallel import map_chunks
from eigenview.terminal import Console


def late_first(items: Sequence[int]) -> parallel.Rows:
    """Early chunks take longest."""
    time.sleep(0.02 if items[0] < 10 else 0)
    return np.array(items), {0: str(items[0])}


def test_results_in_order() -> None:
    parts = list(map_chunks(late_first, range(103), chunk=5))
    assert np.concatenate([rows for rows, _ in parts]).tolist() == list(range(103))
    assert [reasons[0] for _, reasons in parts] == [str(i) for i in range(0, 103, 5)]
    assert list(map_chunks(late_first, range(0), chunk=5)) == []


def test_errors_reach_the_caller() -> None:
    def fail(items: Sequence[int]) -> parallel.Rows:
        raise ZeroDivisionError(items[0])

    with pytest.raises(ZeroDivisionError, match="0"):
        list(map_chunks(fail, range(100), chunk=5))


def test_ctrl_c_waits_for_no_more_than_an_item() -> None:
    """Chunks of 1,000 photos that take a while each: the running ones break off, the others do not begin."""
    begun: list[int] = []

    def slow(items: Sequence[int]) -> parallel.Rows:
        if items[0] > 0:
            for item in items:
                begun.append(item)
                time.sleep(0.01)
        return np.array(items), {}

    parts = map_chunks(slow, range(100_000), chunk=1000)
    next(parts)
    assert isinstance(parts, Generator)
    with pytest.raises(KeyboardInterrupt):
        parts.throw(KeyboardInterrupt())
    assert len(begun) < 500


@pytest.mark.parametrize("silent_seconds", [0.0, 60.0])
def test_progress_only_when_it_takes_long(monkeypatch: pytest.MonkeyPatch, silent_seconds: float) -> None:
    monkeypatch.setattr(progress, "SILENT_SECONDS", silent_seconds)
    out = io.StringIO()
    console = Console(file=out, force_terminal=True)
    list(map_chunks(late_first, range(100), chunk=5, title="decoding images", console=console))
    shown = out.getvalue()
    assert ("decoding images" in shown) == (silent_seconds == 0)
    assert ("a second" in shown) == (silent_seconds == 0)
    assert ("100/100" in shown) == (silent_seconds == 0)
