from __future__ import annotations

import base64
import io
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from eigenview import runfiles
from eigenview.config import RunConfig, to_dict
from eigenview.errors import UserError
from eigenview.report.page import render, write_report
from eigenview.report.pictures import MAX_SIDE, data_uri
from eigenview.report.read import read_run
from tests.report.synthetic_run import write_run

HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>"


def page_of(*runs: Path, default: dict[str, object] | None = None) -> str:
    """The page without Plotly's own source."""
    text = render([read_run(run) for run in runs], default)
    return re.sub(r"<script>/\*\*\n\* plotly\.js.*?</script>", "", text, flags=re.DOTALL)


def headings(page: str) -> list[str]:
    return re.findall(r"<h2[^>]*>(.*?)</h2>", page)


def test_one_run_in_the_promised_order(tmp_path: Path) -> None:
    page = page_of(write_run(tmp_path / "shapes-vicreg-1"), default=to_dict(RunConfig(data="shapes/", epochs=40)))
    assert headings(page) == [
        "Verdict",
        "Probes on frozen features",
        "Loss, term by term",
        "Measures of collapse",
        "Quality without labels",
        "Views as the network saw them",
        "Nearest neighbours",
        "What was run",
    ]
    for text in ("Every dimension varies, effective rank 71 of 128", "<code>--batch-size</code> 512", "8,412 images"):
        assert text in page
    for text in ("cosine, k = 20, weighted", "71.2", "8 min 12 s", "listed in skipped.csv"):
        assert text in page
    assert "eigenview pretrain &#39;my shapes/&#39; --method vicreg --seed 0" in page
    assert "71.23456789" not in page
    assert page.count('<div class="plot"') == 8
    changed = page[page.index("Changed from the defaults") : page.index("All options")]
    assert re.findall(r'<th scope="row">(.*?)</th>', changed) == ["epochs"]


def test_every_image_has_words(tmp_path: Path) -> None:
    page = page_of(write_run(tmp_path / "run"))
    images = re.findall(r'<img src="data:image/png;base64,[^"]+" alt="([^"]+)">', page)
    assert len(images) == page.count("<img") == 8 * 3 + 6 * 8
    assert images[:3] == ["image 1, original", "image 1, view 1", "image 1, view 2"]
    assert "query 2, class square" in images
    assert re.fullmatch(r"neighbour 1 of query 1, cosine 0\.\d\d, (same|other) class: \w+", images[25])
    gallery = runfiles.read_arrays(tmp_path / "run" / runfiles.GALLERY)
    same = gallery["neighbour_labels"] == gallery["query_labels"][:, None]
    assert page.count('class="tick"') == same.sum()
    assert page.count('class="cross"') == (~same).sum()


def test_without_labels_it_says_how_to_get_them(tmp_path: Path) -> None:
    page = page_of(write_run(tmp_path / "run", labels=False))
    assert "No labels were found. Point <code>--probe-data</code> at a labelled folder" in page
    assert 'class="tick"' not in page
    assert "Nearest neighbours" in headings(page)


def test_a_run_still_going_has_a_page(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    for name in (runfiles.SUMMARY, runfiles.PROBES, runfiles.GALLERY, runfiles.SKIPPED):
        (run / name).unlink()
    page = page_of(run)
    assert "Healthy, so far" in page
    assert "Not finished: 12 of 12 epochs so far" in page
    assert "Probes come at the end of the run." in page
    assert "Loss, term by term" in headings(page)
    for name in (runfiles.METRICS, runfiles.DIAGNOSTICS, runfiles.SPECTRA, runfiles.ENVIRONMENT):
        (run / name).unlink()
    page = page_of(run)
    assert "No verdict yet" in page
    assert 'class="plot"' not in page


def test_names_of_strangers_are_text(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run<script>alert(3)<", class_names=[HOSTILE] * 3)
    for name, field in ((runfiles.SUMMARY, "reason"), (runfiles.SUMMARY, "data"), (runfiles.PROBES, "note")):
        runfiles.write_json(run / name, runfiles.read_json(run / name) | {field: HOSTILE})
    summary = runfiles.read_json(run / runfiles.SUMMARY)
    lists = {"remedies": [f"--x {HOSTILE}"], "quality": {HOSTILE: 1.5}, "baselines": {HOSTILE: {"knn": 1}}}
    runfiles.write_json(run / runfiles.SUMMARY, summary | lists)
    runfiles.append_row(run / runfiles.METRICS, {"step": 1, "epoch": 1.0, "loss": 1.0, "terms": {HOSTILE: 1.0}})
    environment = runfiles.read_json(run / runfiles.ENVIRONMENT) | {"command": ["eigenview", HOSTILE], HOSTILE: HOSTILE}
    runfiles.write_json(run / runfiles.ENVIRONMENT, environment)
    page = page_of(run)
    assert "<script>alert" not in page
    assert "<img src=x" not in page
    assert page.count("&lt;script&gt;alert(1)") > 10
    # in the plots' data too, where Plotly would read tags in a name
    assert "&amp;lt;script" in page or "\\u0026lt;script" in page


def test_several_runs_side_by_side(tmp_path: Path) -> None:
    first = write_run(tmp_path / "a")
    second = write_run(tmp_path / "b", method="byol", seed=1, verdict="complete collapse")
    page = page_of(first, second)
    assert headings(page)[:4] == [
        "Comparison of the runs",
        "Differences in configuration",
        "Verdicts",
        "Probes on frozen features",
    ]
    assert page.count('class="verdict open"') == 1  # of a run without a second verdict
    assert page.count('class="verdict bad"') == 1
    assert page.count("cosine, k = 20, weighted") == 1  # equal descriptions are shown once
    differences = page[page.index("Differences in configuration") : page.index("Verdicts")]
    options = re.findall(r'<th scope="row">(.*?)</th>', differences)
    assert [name for name in options if not name.startswith("method.")] == ["method", "seed"]
    assert page.count('<div class="plot"') == 4 + 6


def test_the_page_needs_nothing_from_elsewhere(tmp_path: Path) -> None:
    page = page_of(write_run(tmp_path / "run"))
    sources = re.findall(r'(?:src|href)="([^"]*)"', page)
    assert sources
    assert all(source.startswith("data:") for source in sources)
    assert "default-src 'none'" in page
    assert "@import" not in page
    assert "url(" not in page


def test_plotly_is_there_once_and_the_file_whole(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / "a"), write_run(tmp_path / "b", seed=1)]
    out = write_report(runs, tmp_path / "new folder" / "compared.html")
    text = out.read_text()
    assert text.count("* plotly.js v") == 1
    assert text.rstrip().endswith("</html>")
    assert len(text) < 6e6
    assert [p.name for p in out.parent.iterdir()] == ["compared.html"]


def test_a_folder_that_is_no_run_writes_nothing(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=runfiles.CONFIG):
        write_report([tmp_path], tmp_path / "report.html")
    assert list(tmp_path.iterdir()) == []


def test_small_images_keep_their_pixels_and_large_ones_shrink() -> None:
    def decoded(image: np.ndarray) -> np.ndarray:
        return np.asarray(Image.open(io.BytesIO(base64.b64decode(data_uri(image).partition(",")[2]))))

    small = np.random.default_rng(0).integers(0, 256, (3, 8, 8), dtype=np.uint8)
    assert (decoded(small) == small.transpose(1, 2, 0)).all()
    assert decoded(np.zeros((3, 224, 224), dtype=np.uint8)).shape == (MAX_SIDE, MAX_SIDE, 3)


def test_a_report_does_not_import_torch() -> None:
    code = "import sys, eigenview.report.page; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_a_name_whose_bytes_are_no_text_can_be_written(tmp_path: Path) -> None:
    """Python reads such bytes as lone surrogates, which UTF-8 cannot hold."""
    run = write_run(tmp_path / "run")
    config = runfiles.read_json(run / runfiles.CONFIG)
    runfiles.write_json(run / runfiles.CONFIG, {**config, "data": "photos/\udcff"})
    assert r"photos/\udcff" in write_report([run], tmp_path / "page.html").read_text(encoding="utf-8")
