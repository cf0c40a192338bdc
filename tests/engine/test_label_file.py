"""Labels from a CSV file in a run: probes, --stratified, resume, and the verbs that read images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.csv
import pytest
from PIL import Image

from eigenview import runfiles
from eigenview.cli import run
from eigenview.config import RunConfig, with_fields
from eigenview.engine.data_check import changes, write_files
from eigenview.engine.plan import Plan, make_plan
from eigenview.errors import UserError

SMALL = ["--encoder", "conv-tiny", "--epochs", "1", "--batch-size", "32", "--network.projector-width", "16"]
SMALL += ["--network.projector-hidden", "16", "--probe.few-label-draws", "1", "--monitor.images", "8"]
LABELLED = 60
"""Of 90 images; two thirds of them are dark."""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """photos/, whose subfolders are no classes, and labels.csv beside it: image i is dark or bright."""
    root = tmp_path_factory.mktemp("labelled")
    for folder in ("2023", "2024"):
        (root / "photos" / folder).mkdir(parents=True)
    rows = ["path,label"]
    for i in range(90):
        name, is_bright = f"{2023 + i % 2}/{i:03}.png", i % 3 == 0
        pixels = np.random.default_rng(i).integers(0, 100, (16, 16, 3), dtype=np.uint8) + 150 * is_bright
        Image.fromarray(pixels.astype(np.uint8)).save(root / "photos" / name)
        rows += [f"{name},{'bright' if is_bright else 'dark'}"] if i < LABELLED else []
    (root / "labels.csv").write_text("\n".join(rows))
    return root


def planned(root: Path, labels: Path | str, **fields: Any) -> Plan:
    config = RunConfig(data=str(root / "photos"), labels=str(labels), batch_size=16, image_size=16)
    return make_plan(with_fields(config, fields))


def test_images_without_a_row_are_trained_on_and_not_probed(root: Path) -> None:
    plan = planned(root, root / "labels.csv")
    assert plan.probes is not None
    assert len(plan.train) == 90
    assert sum(map(len, plan.probes)) == LABELLED
    assert plan.probes[0].class_names == ("bright", "dark")
    assert plan.label_notes[0] == (
        "60 of 90 images of photos have a label in labels.csv, of 2 classes (bright, dark); the other 30 have no row "
        "and are not probed"
    )
    assert not any("subfolders are taken for classes" in note for note in plan.label_notes)


def test_a_stratified_share_has_images_without_a_row_too(root: Path) -> None:
    plan = planned(root, root / "labels.csv", data_fraction=0.5, stratified=True)
    assert plan.train.labels is not None
    assert np.bincount(plan.train.labels + 1).tolist() == [15, 10, 20]  # no label, bright, dark


def test_a_share_of_the_labels_is_noted(root: Path) -> None:
    plan = planned(root, root / "labels.csv", probe={"label_fraction": 0.25})
    assert plan.probes is not None
    assert [len(each) for each in plan.probes] == [12, 12]  # of 16 and 32 training labels; the test labels are all used
    assert any(note.startswith("probes use 12 of 48 training labels") for note in plan.label_notes)
    with pytest.raises(UserError, match=r"probe\.label_fraction is 0\.0; allowed: above 0"):
        planned(root, root / "labels.csv", probe={"label_fraction": 0.0})


def test_labels_that_were_asked_for_must_be_usable(root: Path, tmp_path: Path) -> None:
    file = tmp_path / "labels.csv"
    file.write_text("".join(f"{root}/photos/2023/{i:03}.png,dark\n" for i in (0, 2)))
    with pytest.raises(UserError, match=r"--labels: .* the class dark .*Use --labels none to train without probes"):
        planned(root, file)


def test_a_changed_file_of_labels_is_noticed(root: Path, tmp_path: Path) -> None:
    file = tmp_path / "labels.csv"
    content = (root / "labels.csv").read_text()
    file.write_text(content)
    write_files(tmp_path, planned(root, file))
    file.touch()
    assert changes(tmp_path, planned(root, file)) == []
    assert changes(tmp_path, planned(root, root / "labels.csv"), moved=("train", "probes")) == []
    file.write_text(content.replace("000.png,bright", "000.png,dark"))
    for moved in ((), ("train", "probes")):
        of_train, of_probes = changes(tmp_path, planned(root, file), moved=moved)
        assert str(of_train).startswith("1 of 91 files of the training data differ")
        assert "such as labels.csv, checksum" in str(of_probes)


def test_a_run_its_resume_and_the_other_verbs(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(root)
    out = tmp_path / "run"
    assert run(["pretrain", "photos", "--labels", "labels.csv", *SMALL, "--out", str(out)]) == 0
    assert runfiles.read_json(out / runfiles.CONFIG)["labels"] == str(root / "labels.csv")
    probes = runfiles.read_json(out / runfiles.PROBES)
    assert probes["class_names"] == ["bright", "dark"]
    raw = next(row for row in probes["rows"] if row["features"] == "raw pixels")
    assert raw["linear"] == 100  # bright images are brighter
    (tmp_path / "moved.csv").write_text((root / "labels.csv").read_text())
    monkeypatch.chdir(tmp_path)
    assert run(["pretrain", "--out", str(out), "--resume"]) == 0
    assert run(["pretrain", "--out", str(out), "--resume", "--labels", "none"]) == 2
    assert run(["pretrain", str(root / "photos"), "--out", str(out), "--resume", "--labels", "gone.csv"]) == 2
    capsys.readouterr()
    for images in ([], ["--data", str(root / "photos"), "--labels", str(root / "labels.csv")]):
        table = tmp_path / "probe.json"
        assert run(["probe", str(out), *images, "--protocol", "knn", "--out", str(table)]) == 0
        assert runfiles.read_json(table)["class_names"] == ["bright", "dark"]
    assert run(["probe", str(out), "--labels", "none"]) == 2
    assert "--labels is 'none'; allowed: auto, or a CSV file: a probe needs labels" in capsys.readouterr().err
    embedded = ["embed", str(out), str(root / "photos"), "--out", "h.csv", "--labels"]
    assert run([*embedded, str(root / "labels.csv")]) == 0
    column = pyarrow.csv.read_csv("h.csv").column("label").to_pylist()
    assert [column.count(label) for label in ("bright", "dark", "")] == [20, 40, 30]
    assert run([*embedded, "none"]) == 0
    assert "label" not in pyarrow.csv.read_csv("h.csv").column_names
