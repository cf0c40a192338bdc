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
from eigenview.probes.features import RAW_SIDE, extract, pooled_to
from eigenview.probes.protocols import TITLES
from eigenview.probes.table import Probed, probe_table, show_probes
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
    return probed(config, **changes).table


def probed(config: ProbeConfig | None = None, **changes: object) -> Probed:
    noise = np.random.default_rng(0)
    rows = {
        "raw pixels": (extract(pooled_to(RAW_SIDE), TRAIN), extract(pooled_to(RAW_SIDE), TEST)),
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
    whole = extract(pooled_to(RAW_SIDE), TRAIN)
    np.testing.assert_allclose(whole, TRAIN.pixels.reshape(60, -1) / 255, rtol=1e-6)
    small = extract(pooled_to(2), TRAIN)
    assert small.shape == (60, 12)
    corner = TRAIN.pixels[7, 1, 4:, :4].mean() / 255  # green, lower left quarter
    assert small[7].reshape(3, 2, 2)[1, 1, 0] == pytest.approx(corner, rel=1e-6)


def test_the_table_has_the_schema_of_probes_json() -> None:
    found = json.loads(json.dumps(table()))
    assert set(found) == {"protocols", "columns", "rows", "per_class", "note", "class_names"}
    assert found["columns"] == list(TITLES) == list(found["protocols"])
    assert [row["features"] for row in found["rows"]] == ["raw pixels", "noise", "this encoder"]
    keys = {"features", *TITLES, *(f"{name}_per_class" for name in TITLES), "linear_few_std"}
    assert all(set(row) == keys for row in found["rows"])
    assert found["per_class"] is False
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


def test_a_class_with_few_images_is_left_out_of_the_few_label_probe_alone() -> None:
    train, test = np.array(TRAIN.labels), np.array(TEST.labels)
    train[np.flatnonzero(train == 2)[4:]] = 0  # four blue images are left; the others are called red
    found = table(ProbeConfig(labels_per_class=5), train_labels=train)
    assert all(row["linear_few"] is not None for row in found["rows"])
    few = found["protocols"]["linear_few"]
    assert "56 training and 20 test images" in few  # neither fitted nor tested
    assert "60 training and 30 test images" in found["protocols"]["linear"]
    assert "fewer than 5 training images, neither fitted nor tested: 'blue' with 4." in found["note"]
    without = [np.flatnonzero(labels < 2) for labels in (train, test)]
    x = {name: (extract(colour_of, TRAIN)[without[0]], extract(colour_of, TEST)[without[1]]) for name in ("this",)}
    alone = probe_table(x, train[without[0]], test[without[1]], ProbeConfig(labels_per_class=5), NAMES, 0).table
    assert alone["rows"][0]["linear_few"] == found["rows"][-1]["linear_few"]


def test_unequal_classes_have_the_most_frequent_class_as_baseline_and_means_of_classes() -> None:
    labels = np.where(np.arange(30) < 27, 0, 1)  # 90 % are red, whatever their colour
    found = table(test_labels=labels)
    assert found["per_class"] is True
    always, *_, ours = found["rows"]
    assert always["features"] == "most frequent class"
    assert (always["knn"], always["knn_per_class"]) == (pytest.approx(90), pytest.approx(50))
    # colours repeat red, green, blue: 9 of the 27 are red; of the last three, numbers 27 to 29, one is green
    assert ours["knn"] == pytest.approx(100 * 10 / 30)
    assert ours["knn_per_class"] == pytest.approx(100 * (9 / 27 + 1 / 3) / 2)
    assert "'red' is the class of 90.0 % of the test images" in found["note"]
    file = io.StringIO()
    show_probes(found, Console(file=file))
    line = next(line for line in file.getvalue().splitlines() if line.startswith("most frequent class"))
    assert line.split()[3:] == ["90.0", "50.0"] * 3


def test_notes_on_the_labels_come_first() -> None:
    assert table(notes=["3 images left out"])["note"] == "3 images left out."


def test_a_class_only_the_test_part_has_is_noted() -> None:
    labels = np.array(TEST.labels)
    labels[:5] = 3
    found = table(test_labels=labels, class_names=(*NAMES, "white"))
    assert "'white'" in found["note"]
    assert found["rows"][2]["knn"] == pytest.approx(100 * 25 / 30)


def test_every_accuracy_is_the_mean_of_the_answers_that_are_kept() -> None:
    """Also that of few labels, whose classes with too few images are left out."""
    train, test = np.array(TRAIN.labels), np.array(TEST.labels)
    train[np.flatnonzero(train == 2)[4:]] = 0
    found = probed(ProbeConfig(labels_per_class=5, few_label_draws=3), train_labels=train, test_labels=test)
    assert found.hits is not None
    np.testing.assert_array_equal(found.hits.labels, test)
    assert found.hits.tested["linear"].all()
    np.testing.assert_array_equal(found.hits.tested["linear_few"][0], test != 2)
    for row in found.table["rows"]:
        right = found.hits.right[row["features"]]
        assert {name: each.shape for name, each in right.items()} == {
            "knn": (1, 30),
            "linear": (1, 30),
            "linear_few": (3, 20),
        }
        for name, each in right.items():
            assert row[name] == pytest.approx(100 * each.mean())
        assert row["linear_few_std"] == pytest.approx(np.std(100 * right["linear_few"].mean(axis=1), ddof=1))


def test_the_most_frequent_class_has_answers_too() -> None:
    labels = np.where(np.arange(30) < 27, 0, 1)
    found = probed(test_labels=labels)
    assert found.hits is not None
    np.testing.assert_array_equal(found.hits.right["most frequent class"]["linear_few"], [labels == 0] * 5)


def test_the_test_images_are_known_by_their_files_or_by_their_pixels() -> None:
    hashes = [
        each.hits.images
        for each in (probed(), probed(), probed(test_images=["a"] * 30), probed(test_images=["b"] * 30))
        if each.hits is not None
    ]
    assert hashes[0] == hashes[1]
    assert len(set(hashes)) == 3


def test_without_a_probe_nothing_is_kept() -> None:
    assert probed(train_labels=np.zeros(60, np.int64)).hits is None


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
