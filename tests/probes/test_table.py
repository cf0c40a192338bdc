"""The probe table: schema, baselines, notes; and features from images."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
import torch

from eigenview.config import ProbeConfig
from eigenview.data.images import ImageSet
from eigenview.errors import UserError
from eigenview.probes.features import extract, raw_pixels
from eigenview.probes.protocols import TITLES
from eigenview.probes.table import probe_table, show_probes
from eigenview.terminal import Console

NAMES = ("red", "green", "blue")


def images(count: int, side: int = 8, seed: int = 0) -> ImageSet:
    """Pictures in one of three colours on noise."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 3
    pixels = rng.integers(0, 60, size=(count, 3, side, side), dtype=np.uint8)
    pixels[np.arange(count), labels] += 150
    return ImageSet(
        name="colours",
        pixels=pixels,
        paths=(),
        labels=labels,
        class_names=NAMES,
        source_size=side,
        size=side,
        size_reason="",
        side_range=(side, side),
    )


TRAIN, TEST = images(60), images(30, seed=1)


def colour_of(pixels: torch.Tensor) -> torch.Tensor:
    return pixels.float().mean(dim=(2, 3))


def table(config: ProbeConfig | None = None, **changes: object) -> dict:  # type: ignore[type-arg]
    noise = np.random.default_rng(0)
    rows = {
        "raw pixels": (raw_pixels(TRAIN), raw_pixels(TEST)),
        "noise": (noise.normal(size=(60, 4)).astype(np.float32), noise.normal(size=(30, 4)).astype(np.float32)),
        "this encoder": (extract(colour_of, TRAIN), extract(colour_of, TEST)),
    }
    given = {"train_labels": TRAIN.labels, "test_labels": TEST.labels, "class_names": NAMES, "seed": 0} | changes
    return probe_table(rows, config=config or ProbeConfig(), **given)  # type: ignore[arg-type]


def test_extract_keeps_the_order_and_batches() -> None:
    sizes: list[int] = []
    done: list[tuple[int, int]] = []

    def encode(pixels: torch.Tensor) -> torch.Tensor:
        assert pixels.dtype == torch.uint8
        assert not torch.is_grad_enabled()
        sizes.append(len(pixels))
        return colour_of(pixels).double()

    rows = extract(encode, TRAIN, batch=25, progress=lambda n, total: done.append((n, total)))
    assert rows.dtype == np.float32
    assert sizes == [25, 25, 10]
    assert done == [(25, 60), (50, 60), (60, 60)]
    assert TRAIN.pixels is not None
    np.testing.assert_allclose(rows, TRAIN.pixels.mean(axis=(2, 3)), rtol=1e-6)


def test_extract_refuses_features_that_are_not_finite() -> None:
    with pytest.raises(UserError, match=r"60 of 60 images of colours.*not finite.*--optim"):
        extract(lambda pixels: colour_of(pixels) / 0.0, TRAIN)


def test_raw_pixels_are_averaged_down() -> None:
    assert TRAIN.pixels is not None
    whole = raw_pixels(TRAIN)
    np.testing.assert_allclose(whole, TRAIN.pixels.reshape(60, -1) / 255, rtol=1e-6)
    small = raw_pixels(TRAIN, side=2)
    assert small.shape == (60, 12)
    corner = TRAIN.pixels[7, 1, 4:, :4].mean() / 255  # green, lower left quarter
    assert small[7].reshape(3, 2, 2)[1, 1, 0] == pytest.approx(corner, rel=1e-6)


def test_the_table_has_the_schema_of_probes_json() -> None:
    found = json.loads(json.dumps(table()))
    assert set(found) == {"protocols", "columns", "rows", "note", "class_names"}
    assert found["columns"] == list(TITLES) == list(found["protocols"])
    assert [row["features"] for row in found["rows"]] == ["raw pixels", "noise", "this encoder"]
    assert all(set(row) == {"features", *TITLES, "linear_few_std"} for row in found["rows"])
    assert found["note"] is None
    assert found["class_names"] == list(NAMES)
    by_name = {row["features"]: row for row in found["rows"]}
    assert [by_name["this encoder"][c] for c in TITLES] == [100, 100, 100]
    assert all(by_name["noise"][c] < 70 for c in TITLES)


def test_protocols_name_their_numbers() -> None:
    found = table(ProbeConfig(knn_k=7, knn_temperature=0.2, labels_per_class=3, few_label_draws=2))["protocols"]
    assert "k = 7" in found["knn"]
    assert "cosine / 0.2" in found["knn"]
    assert "3 labels per class" in found["linear_few"]
    assert "2 draws" in found["linear_few"]
    assert all("60 training and 30 test images" in sentence for sentence in found.values())


def test_what_labels_do_not_allow_is_null_with_the_reason() -> None:
    found = table(ProbeConfig(labels_per_class=21, knn_k=500))
    assert all(row["linear_few"] is None and row["linear"] is not None for row in found["rows"])
    assert "class 'red' has 20 training images" in found["note"]
    assert "fewer than k = 500" in found["note"]
    assert "k = 60" in found["protocols"]["knn"]
    one = table(train_labels=np.zeros(60, np.int64))
    assert all(row[c] is None for row in one["rows"] for c in TITLES)
    assert "class 'red'" in one["note"]


def test_a_class_only_the_test_part_has_is_noted() -> None:
    labels = np.array(TEST.labels)
    labels[:5] = 3
    found = table(test_labels=labels, class_names=(*NAMES, "white"))
    assert "'white'" in found["note"]
    assert found["rows"][2]["knn"] == pytest.approx(100 * 25 / 30)


def test_bad_input_is_named() -> None:
    with pytest.raises(UserError, match=r"test.*no labels.*--probe-data"):
        table(test_labels=None)
    with pytest.raises(UserError, match=r"svm.*knn, linear, linear_few"):
        table(columns=("svm",))


def test_columns_and_progress() -> None:
    messages: list[str] = []
    found = table(columns=("knn",), progress=messages.append)
    assert found["columns"] == ["knn"]
    assert messages == ["k-NN on raw pixels", "k-NN on noise", "k-NN on this encoder"]


def test_the_rendered_table_shows_numbers_protocols_and_gaps() -> None:
    console = Console(width=120, record=True, file=io.StringIO())
    found = table(ProbeConfig(labels_per_class=21))
    show_probes(found, console)
    text = console.export_text()
    line = next(line for line in text.splitlines() if line.startswith("this encoder"))
    assert line.split() == ["this", "encoder", "100.0", "100.0", "-"]
    assert "k-NN: k = 20" in text
    assert "class 'red' has 20" in text.replace("\n", " ")
