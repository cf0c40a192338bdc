"""Tiles and pages: those of one file are held out and drawn together, since they show the same."""

from __future__ import annotations

import numpy as np
import pytest

from eigenview.config import ProbeConfig
from eigenview.probes import linear
from eigenview.probes.labels import Files
from eigenview.probes.linear import few_label_predictions, linear_predictions
from eigenview.probes.table import probe_table

RNG = np.random.default_rng(0)
FILES, WIDTH = 60, 30
Y = np.arange(FILES) % 3
X = (np.eye(WIDTH)[Y] + RNG.normal(size=(FILES, WIDTH))).astype(np.float32)
TEST_Y = np.arange(90) % 3
TEST_X = (np.eye(WIDTH)[TEST_Y] + RNG.normal(size=(90, WIDTH))).astype(np.float32)


def tiles(each: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Every file as often as `each`, the rows in another order: features, labels, files."""
    file = RNG.permutation(np.repeat(np.arange(FILES), each))
    return X[file], Y[file], file


def test_files_of_equal_tiles_are_probed_as_the_files_themselves() -> None:
    """Scaling, mean loss, the third that is held out and the draws are then those of the files."""
    x, y, file = tiles(4)
    whole = linear_predictions(X, Y, TEST_X, TEST_Y)
    assert np.array_equal(linear_predictions(x, y, TEST_X, TEST_Y, train_files=file), whole)
    few = few_label_predictions(X, Y, TEST_X, TEST_Y, labels_per_class=5, draws=3)
    found = few_label_predictions(x, y, TEST_X, TEST_Y, labels_per_class=5, draws=3, train_files=file)
    assert np.array_equal(found, few)
    as_images = few_label_predictions(x, y, TEST_X, TEST_Y, labels_per_class=5, draws=3)
    assert not np.array_equal(as_images, few)


@pytest.mark.parametrize("seed", range(4))
def test_a_file_is_not_held_out_from_its_own_tiles(seed: int) -> None:
    """With tiles of a file on both sides, learning files by heart looks right and a weak penalty is chosen; with files
    held out whole, features that say little about the class need a strong one."""
    rng = np.random.default_rng(seed)
    labels = np.arange(150) % 3
    features = (0.7 * np.eye(40)[labels] + rng.normal(size=(150, 40))).astype(np.float32)
    file = np.repeat(np.arange(150), 4)
    x, y = features[file], labels[file]
    as_images, as_files = (linear._choose_strength(x, y, Files(y, f), np.random.default_rng(0)) for f in (None, file))
    assert as_images <= 0.001
    assert as_files >= 0.1


@pytest.mark.parametrize("few", [5, 21])
def test_labels_per_class_are_files_in_the_table(few: int) -> None:
    x, y, file = tiles(4)
    rows = {"this encoder": (x, TEST_X)}
    config = ProbeConfig(labels_per_class=few, few_label_draws=2)
    table = probe_table(rows, y, TEST_Y, config, ("a", "b", "c"), 0, files=(file, None)).table
    if few == 5:
        assert "5 files of each class, each with all of its tiles or pages" in table["note"]
        assert table["rows"][0]["linear_few"] is not None
    else:  # 20 files a class, though 80 rows
        assert "class 'a' has 20 training images, fewer than the 21 labels asked for" in table["note"]
        assert table["rows"][0]["linear_few"] is None
