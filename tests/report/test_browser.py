"""The report in headless Chromium: every figure drawn, nothing on the console, no injected script run."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from eigenview import runfiles
from eigenview.report.page import write_report
from tests.report.chromium import dump_dom, find_chromium, screenshot
from tests.report.synthetic_run import write_run

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(find_chromium() is None, reason="no Chromium on this machine"),
]
SVGS_PER_PLOT = 3  # Plotly draws each plot in three layers


def root_of(dom: str) -> str:
    match = re.search(r"<html[^>]*>", dom)
    assert match
    return match.group()


def test_figures_are_drawn_and_the_console_is_silent(tmp_path: Path) -> None:
    hostile = "<img src=x onerror=\"document.documentElement.dataset.stranger='was here'\">"
    run = write_run(tmp_path / "run", class_names=[hostile] * 3)
    runfiles.append_row(run / runfiles.METRICS, {"step": 700, "epoch": 14.0, "loss": None, "terms": {hostile: 1.0}})
    page = dump_dom(write_report([run], tmp_path / "report.html"))
    root = root_of(page.dom)
    assert page.console == []
    assert "data-errors" not in root
    assert 'data-ready="yes"' in root
    assert "data-stranger" not in root
    plots = re.findall(r'<div class="plot[^"]*" id="plot-[^"]+"', page.dom)
    assert len(plots) == 9
    assert page.dom.count('class="main-svg"') == SVGS_PER_PLOT * len(plots)
    assert page.dom.count('class="trace scatter') >= len(plots)


def test_an_error_would_be_noticed(tmp_path: Path) -> None:
    page = write_report([write_run(tmp_path / "run")], tmp_path / "report.html")
    page.write_text(page.read_text().replace("Plotly.newPlot(", "Plotly.noSuchThing("))
    broken = dump_dom(page)
    assert "data-errors" in root_of(broken.dom)
    assert any("noSuchThing" in line for line in broken.console)


def test_several_runs_fit_a_phone_and_their_comparison_a_window_of_1280_px(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / f"a-run-with-a-rather-long-name-{i}", seed=i) for i in range(2)]
    runs.append(write_run(tmp_path / "shapes-byol-1", verdict="dimensional collapse"))
    page = write_report(runs, tmp_path / "report.html")
    # the page itself says how wide its window is, how much wider it is, and how much of its first table is cut
    script = "const e = document.documentElement, t = document.querySelector('.scroll');"
    script += "console.log(`${innerWidth} + ${e.scrollWidth - innerWidth}, ${t.scrollWidth - t.clientWidth} cut`);"
    page.write_text(page.read_text().replace("</body>", f"<script>{script}</script></body>"))
    frame = tmp_path / "frame.html"  # a window is never narrower than 500 px; a frame in it can be
    frames = [f"<iframe src='{page.as_uri()}' style='width:{w}px;height:800px;border:0'></iframe>" for w in (375, 1280)]
    frame.write_text(f"<!DOCTYPE html>{''.join(frames)}")
    console = dump_dom(frame, "--window-size=1800,900").console
    assert any(line.startswith('"375 + 0, ') for line in console), console
    assert any(line.startswith('"1280 + 0, 0 cut') for line in console), console


def test_the_dark_theme_is_dark(tmp_path: Path) -> None:
    page = write_report([write_run(tmp_path / "run")], tmp_path / "report.html")
    screenshot(page, tmp_path / "page.png", 400, 300, dark=True)
    corner = np.asarray(Image.open(tmp_path / "page.png").convert("L"))[:4, :4]
    assert corner.max() < 40
