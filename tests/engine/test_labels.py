"""Labels that probes cannot use never stop a run that needs none; what was left out is written down."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from eigenview import runfiles
from eigenview.cli import run
from eigenview.config import RunConfig, with_fields
from eigenview.data.images import evenly_spaced
from eigenview.engine.plan import Plan, make_plan
from eigenview.errors import UserError

PIXELS = np.random.default_rng(0).integers(0, 256, (100, 3, 16, 16), dtype=np.uint8)
Save = Callable[..., str]


@pytest.fixture
def save(tmp_path: Path) -> Save:
    """save(labels): a .npz of 100 images with these labels, and its path."""

    def write(labels: np.ndarray, name: str = "set.npz") -> str:
        np.savez(tmp_path / name, images=PIXELS, labels=labels)
        return str(tmp_path / name)

    return write


def planned(data: str, **fields: Any) -> Plan:
    return make_plan(with_fields(RunConfig(data=data, batch_size=32), fields))


EACH_ITS_OWN = np.arange(100)
TWO = np.arange(100) % 2


@pytest.mark.parametrize("labels", [EACH_ITS_OWN, np.zeros((100, 14)), np.zeros(100, int)], ids=["own", "14", "one"])
def test_labels_of_the_images_are_never_required(save: Save, labels: np.ndarray) -> None:
    plan = planned(save(labels))
    assert plan.probes is None
    assert plan.probe_note.startswith("none: ")
    assert "set" in plan.probe_note
    assert plan.probe_note == f"none: {plan.no_probes}."
    assert plan.label_notes == ()  # the note has the reason already
    assert len(plan.train) + len(plan.held_out) == 100


@pytest.mark.parametrize("labels", [EACH_ITS_OWN, np.zeros((100, 14))], ids=["own", "14"])
def test_labels_of_probe_data_are(save: Save, labels: np.ndarray) -> None:
    with pytest.raises(UserError, match=r"--probe-data: .*Leave --probe-data out to train without probes"):
        planned(save(TWO), probe_data=save(labels, "other.npz"))


def test_labels_none(save: Save) -> None:
    data = save(TWO)
    assert planned(data).probes is not None
    assert planned(data).no_probes == ""
    plan = planned(data, labels="none")
    assert plan.probes is None
    assert plan.train.labels is None
    assert "--labels none" in plan.probe_note
    assert plan.no_probes == "no labels are used (--labels none)"
    assert planned(data, labels="none", probe_data=data).probes is not None
    with pytest.raises(UserError, match="--stratified"):
        planned(data, labels="none", data_fraction=0.5, stratified=True)


def test_a_run_says_what_was_left_out(save: Save, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """97 images of two unequal classes, and three classes of one image."""
    data = save(np.array([0] * 80 + [1] * 17 + [2, 3, 4]))
    small = ["--encoder", "conv-tiny", "--epochs", "1", "--batch-size", "32", "--network.projector-width", "32"]
    small += ["--network.projector-hidden", "32", "--probe.few-label-draws", "1", "--monitor.images", "16"]
    out = tmp_path / "run"
    assert run(["pretrain", data, *small, "--out", str(out)]) == 0
    probes = runfiles.read_json(out / runfiles.PROBES)
    left_out = "3 classes of a single image left out of the probes: 2, 3, 4"
    assert left_out in probes["note"]
    assert left_out in capsys.readouterr().out
    assert probes["per_class"] is True
    assert [row["features"] for row in probes["rows"]][:2] == ["most frequent class", "raw pixels"]
    assert probes["rows"][0]["knn"] == pytest.approx(100 * 16 / 19)
    assert runfiles.read_json(out / runfiles.SUMMARY)["baselines"]["most frequent class"]["linear"] == pytest.approx(
        100 * 16 / 19
    )
    assert left_out in (out / runfiles.REPORT).read_text()


def test_rows_of_the_gallery_come_from_all_parts_of_a_set() -> None:
    assert evenly_spaced(100, 4).tolist() == [0, 25, 50, 75]
    assert evenly_spaced(3, 8).tolist() == [0, 1, 2]
