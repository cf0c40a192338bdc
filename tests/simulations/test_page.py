"""The page of a simulation in headless Chromium: every plot is drawn, and the console is empty."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from eigenview.cli import run
from tests.report.chromium import dump_dom, find_chromium

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(find_chromium() is None, reason="no Chromium on this machine"),
]


def test_plots_are_drawn_and_the_console_is_silent(tmp_path: Path) -> None:
    args = ["spectral", "--width", "3", "--sweep", "orthogonality=0.1,1"]
    assert run(["simulate", *args, "--out", str(tmp_path / "out")]) == 0
    # for both values the energies of 3 features, and 2 lines at the end; one exact and two learned functions
    plots, traces = 2 + 3, 2 * (3 + 2) + 3
    page = dump_dom(tmp_path / "out" / "figure.html")
    assert page.console == []
    root = re.search(r"<html[^>]*>", page.dom)
    assert root
    assert "data-errors" not in root.group()
    assert 'data-ready="yes"' in root.group()
    assert len(re.findall(r'<div class="plot[^"]*" id="plot-[^"]+"', page.dom)) == plots
    assert page.dom.count('class="trace scatter') == traces
