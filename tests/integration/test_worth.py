"""The second verdict of real runs: kept, shown first, and the same in terminal, report and `probe`."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from eigenview import runfiles
from eigenview.cli import run
from eigenview.config.reading import Reading
from eigenview.diagnostics.worth import NO_LABELS, from_summary, to_summary, unknown
from eigenview.engine.final_probes import worth_of
from eigenview.models.encoders import build_encoder
from eigenview.models.saved import save_encoder
from eigenview.report import worth as report_worth
from eigenview.report.read import read_run, read_runs
from eigenview.run import read_config

SMALL = ["--encoder", "conv-tiny", "--epochs", "1", "--batch-size", "64", "--monitor.images", "16"]
SMALL += ["--probe.few-label-draws", "2", "--network.projector-width", "32", "--network.projector-hidden", "32"]


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> str:
    """120 pictures in two classes."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 120, (120, 3, 16, 16)) + 130 * (np.arange(120) % 2)[:, None, None, None]
    path = tmp_path_factory.mktemp("data") / "photos.npz"
    np.savez(path, images=pixels.astype(np.uint8), labels=np.arange(120) % 2)
    return str(path)


@pytest.fixture(scope="module")
def finished(photos: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "first"
    assert run(["pretrain", photos, *SMALL, "--out", str(out)]) == 0
    return out


def test_a_run_keeps_the_answers_and_the_worth_that_follows_from_them(finished: Path) -> None:
    hits, summary = runfiles.read_hits(finished), runfiles.read_summary(finished)
    assert hits is not None
    assert list(hits.right) == ["raw pixels", "untrained encoder", "this encoder"]
    for name in ("knn", "linear", "linear_few"):
        assert summary[name] == pytest.approx(100 * hits.right["this encoder"][name].mean())
        assert summary["baselines"]["raw pixels"][name] == pytest.approx(100 * hits.right["raw pixels"][name].mean())
    worth = from_summary(summary["worth"])
    few = read_config(finished).probe.labels_per_class
    assert worth == worth_of(hits, few) == report_worth.worth_of(read_run(finished))
    linear = worth.against["raw pixels"].probes["linear"]
    assert linear.difference == pytest.approx(summary["linear"] - summary["baselines"]["raw pixels"]["linear"])
    assert linear.images == len(hits.labels) == 24
    assert "warnings" not in summary


def test_terminal_and_report_begin_with_the_same_sentence(
    finished: Path, photos: str, capsys: pytest.CaptureFixture[str]
) -> None:
    found = report_worth.sentence(read_run(finished))
    assert found is not None
    assert found.head.replace("'", "&#39;") in (finished / runfiles.REPORT).read_text()
    assert run(["probe", str(finished), "--data", photos, "--protocol", "linear"]) == 0
    assert capsys.readouterr().out.startswith(found.head)


def test_a_run_without_labels_says_what_to_do(photos: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "run"
    assert run(["pretrain", photos, *SMALL, "--labels", "none", "--out", str(out)]) == 0
    assert runfiles.read_hits(out) is None
    worth = from_summary(runfiles.read_summary(out)["worth"])
    assert (worth.word, worth.why) == ("unknown", "no labels are used (--labels none)")
    assert "Too early to tell whether it collapses. Train longer" in capsys.readouterr().out.replace("\n", " ")


def test_a_run_from_weights_is_compared_with_them(
    photos: str, finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As they are, and with batch-norm statistics of the images; `probe` finds both again."""
    out = tmp_path / "run"
    weights = ["--weights", str(finished), "--encoder", "auto"]
    assert run(["pretrain", photos, *SMALL, *weights, "--out", str(out)]) == 0
    baselines = ["raw pixels", "backbone you started from", "with batch-norm statistics of these images"]
    hits = runfiles.read_hits(out)
    assert hits is not None
    assert list(hits.right) == [*baselines, "this encoder"]
    assert list(from_summary(runfiles.read_summary(out)["worth"]).against) == baselines
    text = capsys.readouterr().out
    assert "the backbone you started from" in text
    assert "\n  with batch-norm statistics of these images" in text
    few = ["--few-label-draws", "2", "--out", str(tmp_path / "p.json")]
    assert run(["probe", str(out), str(finished), "--data", photos, *few]) == 0
    found = {row["features"]: row for row in runfiles.read_json(tmp_path / "p.json")["rows"]}
    assert list(found) == [*baselines, "untrained encoder", str(out), str(finished)]
    for name in ("knn", "linear", "linear_few"):
        assert found["backbone you started from"][name] == found[str(finished)][name]


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder of 40 pictures of 16 x 32 in two classes, which differ in their outer quarters alone."""
    root = tmp_path_factory.mktemp("wide")
    pixels = np.random.default_rng(0).integers(0, 100, (40, 16, 32, 3)).astype(np.uint8)
    pixels[::2, :, :8] += 150
    pixels[1::2, :, 24:] += 150
    for number, each in enumerate(pixels):
        place = root / "wide" / "ab"[number % 2] / f"{number:02}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(each).save(place)
    return str(root / "wide")


def encoder_with(place: Path, **reading: str) -> str:
    """An encoder that was not trained, without a run."""
    torch.manual_seed(0)
    network, width = build_encoder("conv-tiny", size=16)
    card = {"encoder": "conv-tiny", "stem": "auto", "size": 16, "source_size": 16, "width": width, "method": None}
    card |= {"mean": [0.5] * 3, "std": [0.25] * 3, "pixels": Reading(**reading).as_json(), "run": {}}  # type: ignore[arg-type]
    place.mkdir()
    save_encoder(place, network, card)
    return str(place)


def test_each_encoder_is_probed_on_images_as_it_reads_them(
    wide: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The centred crop does not show the classes. In any order the rows and the sentence are those of it alone."""
    encoders = [encoder_with(tmp_path / fit, fit=fit) for fit in ("crop", "pad")]
    rows, sentences = {}, {}

    def probed(*places: str) -> dict[str, float]:
        out = tmp_path / "p.json"
        assert run(["probe", *places, "--data", wide, "--protocol", "linear", "--out", str(out)]) == 0
        return {row["features"]: row["linear"] for row in runfiles.read_json(out)["rows"]}

    for place in encoders:
        rows[place] = probed(place)
        sentences[place] = capsys.readouterr().out.splitlines()[0]
    crop, pad = encoders
    assert rows[crop]["raw pixels"] < 80 < rows[pad]["raw pixels"] == rows[pad]["this encoder"] == 100
    for one, other in ((crop, pad), (pad, crop)):
        assert probed(one, other) == {
            "raw pixels": rows[one]["raw pixels"],
            f"raw pixels of {other}": rows[other]["raw pixels"],
            one: rows[one]["this encoder"],
            other: rows[other]["this encoder"],
        }
        lines = capsys.readouterr().out.splitlines()
        assert lines[:2] == [f"{place}: {sentences[place]}" for place in (one, other)]


def test_encoders_whose_readings_make_other_images_are_probed_one_by_one(
    wide: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    crop, tiles = (encoder_with(tmp_path / fit[:4], fit=fit) for fit in ("crop", "tiles:2"))
    assert run(["probe", crop, tiles, "--data", wide, "--protocol", "linear"]) == 2
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1
    assert f"{crop} (--fit crop) and {tiles} (--fit tiles:2) make different images of {wide}" in said[0]


def test_an_encoder_file_is_judged_as_its_run(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """All spellings of an encoder that collapsed give the same sentences."""
    broken = tmp_path / "run"
    shutil.copytree(finished, broken)
    summary = runfiles.read_summary(broken) | {"verdict": "complete collapse"}
    runfiles.write_object(broken / runfiles.SUMMARY, summary)
    said = []
    for place in (broken, broken / runfiles.ENCODER, broken / runfiles.ENCODER_CARD):
        assert run(["probe", str(place), "--protocol", "linear"]) == 0
        said.append(capsys.readouterr().out)
    assert said[0].startswith("Collapsed: all images map to nearly one point")
    assert "Do not use this encoder." in said[0]
    assert said[0] == said[1] == said[2]


@pytest.mark.parametrize("protocol", ["knn", "linear-few"])
def test_without_the_linear_probe_it_says_which_one_decides(
    finished: Path, photos: str, tmp_path: Path, protocol: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in (runfiles.ENCODER, runfiles.ENCODER_CARD):  # without its run: no first verdict
        shutil.copy(finished / name, tmp_path / name)
    options = ["--data", photos, "--protocol", protocol, "--few-label-draws", "1", "--out", str(tmp_path / "p.json")]
    assert run(["probe", str(tmp_path), *options]) == 0
    assert capsys.readouterr().out.startswith(
        "Whether it is worth using is not known: the linear probe, which decides, was not run (--protocol all)."
    )
    worth = from_summary(runfiles.read_json(tmp_path / "p.json")["worth"]["this encoder"])
    assert worth.word == "unknown"
    assert list(worth.against["raw pixels"].probes) == [protocol.replace("-", "_")]


def test_the_table_that_is_written_has_what_the_text_has(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The worth of each encoder as its summary has it, and the recommendation."""
    again, out = tmp_path / "again", tmp_path / "p.json"
    shutil.copytree(finished, again)
    runfiles.write_object(again / runfiles.SUMMARY, runfiles.read_summary(again) | {"verdict": "healthy"})
    assert run(["probe", str(again), "--few-label-draws", "2", "--out", str(out)]) == 0
    alone = runfiles.read_json(out)
    assert from_summary(alone["worth"]["this encoder"]) == from_summary(runfiles.read_summary(finished)["worth"])
    assert alone["recommendation"] is None
    capsys.readouterr()
    assert run(["probe", str(again), str(again / runfiles.ENCODER), "--protocol", "linear", "--out", str(out)]) == 0
    both = runfiles.read_json(out)
    assert list(both["worth"]) == [str(again), str(again / runfiles.ENCODER)]
    assert both["recommendation"].startswith("None of these can be recommended over the others")
    assert both["recommendation"] in capsys.readouterr().out


def test_commands_that_are_advised_can_be_copied(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of a run whose folder has a space in its name."""
    place = tmp_path / "my run"
    shutil.copytree(finished, place)
    summary = runfiles.read_summary(place) | {"verdict": "healthy", "worth": to_summary(unknown(NO_LABELS))}
    runfiles.write_object(place / runfiles.SUMMARY, summary)
    found = report_worth.sentence(read_run(place))
    assert found is not None
    assert run(["diagnose", str(place)]) == 0
    for text in (found.text, capsys.readouterr().out):
        assert f"eigenview probe '{place}' --data LABELLED." in text


def test_runs_are_compared_by_the_answers_they_kept(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two copies with another configuration: of one a third of the answers was made wrong."""
    runs = []
    hits = runfiles.read_hits(finished)
    assert hits is not None
    for name, shown in (("a", None), ("b", 8)):
        runs.append(tmp_path / name)
        shutil.copytree(finished, runs[-1])
        config = runfiles.read_json(finished / runfiles.CONFIG)
        runfiles.write_object(runs[-1] / runfiles.CONFIG, config | {"epochs": 1 if shown is None else 2})
        summary = runfiles.read_summary(finished) | {"verdict": "healthy"}
        runfiles.write_object(runs[-1] / runfiles.SUMMARY, summary)
        right = {row: {probe: each.copy() for probe, each in of.items()} for row, of in hits.right.items()}
        if shown is not None:
            right["this encoder"]["linear"][0, :shown] = False
        runfiles.write_hits(
            runs[-1], runfiles.Hits(images=hits.images, labels=hits.labels, tested=hits.tested, right=right)
        )
    assert run(["report", *map(str, runs), "--out", f"{tmp_path}/both.html"]) == 0
    sentence = capsys.readouterr().out.splitlines()[0]
    assert sentence.startswith("Take a: better than b: linear ")
    assert sentence[: len("Take a: better than b: linear")] in (tmp_path / "both.html").read_text()
    (runs[1] / runfiles.PROBE_HITS).unlink()
    assert report_worth.recommendation(read_runs(runs)).startswith(
        "None of these can be recommended: which test images were right is not known of b. Compare them with: "
        f"eigenview probe {runs[0]} {runs[1]} --data LABELLED."
    )
