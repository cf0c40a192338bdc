"""k-NN and linear probes on features whose accuracies are known: separable, unrelated to the labels, hand-sized."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from eigenview.errors import UserError
from eigenview.probes import knn
from eigenview.probes.knn import knn_accuracy
from eigenview.probes.labels import count_classes, label_shortage
from eigenview.probes.linear import few_label_accuracy, linear_accuracy

CLASSES, WIDTH = 5, 20


def clusters(per_class: int, seed: int, size: float = 0.3) -> tuple[np.ndarray, np.ndarray]:
    """Clusters around the first unit vectors, far apart next to their size."""
    rng = np.random.default_rng(seed)
    y = np.repeat(np.arange(CLASSES), per_class)
    x = 3 * np.eye(WIDTH)[y] + size * rng.normal(size=(len(y), WIDTH))
    order = rng.permutation(len(y))
    return x[order].astype(np.float32), y[order]


TRAIN_X, TRAIN_Y = clusters(40, seed=0)
TEST_X, TEST_Y = clusters(30, seed=1)


def knn_of(train_x: np.ndarray, train_y: np.ndarray, test_x: np.ndarray, test_y: np.ndarray, k: int = 20) -> float:
    return knn_accuracy(train_x, train_y, test_x, test_y, k=k, temperature=0.07, num_classes=CLASSES)


def test_separable_features_are_classified_without_error() -> None:
    assert knn_of(TRAIN_X, TRAIN_Y, TEST_X, TEST_Y) == 100
    assert linear_accuracy(TRAIN_X, TRAIN_Y, TEST_X, TEST_Y) == 100
    # standardising by the train rows would blow up features that hold noise alone: these have none
    few = few_label_accuracy(TRAIN_X[:, :CLASSES], TRAIN_Y, TEST_X[:, :CLASSES], TEST_Y, labels_per_class=5, draws=3)
    assert few == (100, 0)


def test_labels_unrelated_to_the_features_give_chance() -> None:
    rng = np.random.default_rng(3)
    train_x, test_x = (rng.normal(size=(n, WIDTH)).astype(np.float32) for n in (600, 1000))
    train_y, test_y = (rng.integers(0, CLASSES, size=n) for n in (600, 1000))
    # chance is 20%; the standard error of 1000 test rows is 1.3 points
    assert knn_of(train_x, train_y, test_x, test_y) == pytest.approx(20, abs=5)
    assert linear_accuracy(train_x, train_y, test_x, test_y) == pytest.approx(20, abs=5)
    mean, std = few_label_accuracy(train_x, train_y, test_x, test_y, labels_per_class=10, draws=5)
    assert mean == pytest.approx(20, abs=5)
    assert 0 < std < 5


def test_knn_by_hand() -> None:
    """Query (1, 0): cosines 1, 0.8, 0.8, 0 with the bank, whatever the lengths. Weights exp(cosine / temperature)."""
    bank = np.array([[5, 0], [4, 3], [0.8, -0.6], [0, 9]], np.float32)
    labels = np.array([0, 1, 1, 2])
    query = np.array([[0.01, 0]], np.float32)

    def winner(k: int, temperature: float) -> list[float]:
        return [
            knn_accuracy(bank, labels, query, np.array([c]), k=k, temperature=temperature, num_classes=3)
            for c in range(3)
        ]

    assert winner(1, 0.07) == [100, 0, 0]
    # e^(1/0.07) > 2 e^(0.8/0.07), but e^1 < 2 e^0.8
    assert winner(3, 0.07) == [100, 0, 0]
    assert winner(3, 1.0) == [0, 100, 0]


def test_knn_with_a_small_bank_uses_all_of_it() -> None:
    assert knn_of(TRAIN_X[:7], TRAIN_Y[:7], TRAIN_X[:7], TRAIN_Y[:7], k=500) >= knn_of(
        TRAIN_X[:7], TRAIN_Y[:7], TRAIN_X[:7], TRAIN_Y[:7][::-1].copy(), k=500
    )


def test_knn_in_chunks_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(90, WIDTH)).astype(np.float32), rng.integers(0, CLASSES, 90)
    whole = knn_of(TRAIN_X, TRAIN_Y, x, y)
    shapes = []
    search = knn.nearest

    def recorded(cosines: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        shapes.append(tuple(cosines.shape))
        return search(cosines, *args, **kwargs)

    monkeypatch.setattr(knn, "nearest", recorded)
    monkeypatch.setattr(knn, "BANK_ROWS", 70)
    monkeypatch.setattr(knn, "QUERY_ROWS", 40)
    assert knn_of(TRAIN_X, TRAIN_Y, x, y) == whole
    assert 0 < whole < 100
    assert set(shapes) == {(q, n) for q in (40, 10) for n in (70, 60)}, "no more cosines at a time than a block"


def test_each_train_row_is_brought_to_unit_length_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many blocks of test rows there are."""
    rows = []
    bring = knn._unit_rows

    def recorded(x: np.ndarray, device: torch.device) -> torch.Tensor:
        rows.append(len(x))
        return bring(x, device)

    monkeypatch.setattr(knn, "_unit_rows", recorded)
    monkeypatch.setattr(knn, "QUERY_ROWS", 1)
    knn_of(TRAIN_X, TRAIN_Y, TEST_X, TEST_Y)
    assert [n for n in rows if n > 1] == [len(TRAIN_X)]


def test_knn_is_the_vote_of_a_loop_over_the_rows_with_ties(monkeypatch: pytest.MonkeyPatch) -> None:
    """Features of a few whole numbers: many train rows lie at the very same angle, and some appear several times."""
    rng = np.random.default_rng(5)
    x, y = rng.integers(0, 2, (150, 4)).astype(np.float32), rng.integers(0, 3, 150)
    train_x, train_y, test_x = x[:100], y[:100], x[100:]
    k, temperature = 7, 0.07
    cosines = (
        torch.nn.functional.normalize(torch.from_numpy(test_x))
        @ torch.nn.functional.normalize(torch.from_numpy(train_x)).T
    )
    expected = []
    for row in cosines.numpy():
        near = sorted(range(100), key=lambda j, row=row: (-row[j], j))[:k]
        votes = [sum(np.exp(row[j] / temperature) for j in near if train_y[j] == c) for c in range(3)]
        expected.append(int(np.argmax(votes)))
    for block in (100, 33):
        monkeypatch.setattr(knn, "BANK_ROWS", block)
        found = knn.knn_predictions(train_x, train_y, test_x, y[100:], k=k, temperature=temperature, num_classes=3)
        assert found.tolist() == expected


def test_classes_are_counted_over_train_and_test() -> None:
    """A class that the test part lacks must not shift the others, nor one that the training part lacks."""
    assert count_classes(np.array([0, 1, 4]), np.array([0, 1])) == 5
    assert count_classes(np.array([0]), np.array([2])) == 3
    assert count_classes(np.array([0]), np.array([2]), ["a", "b", "c", "d"]) == 4
    with pytest.raises(UserError, match=r"label.*2.*0 to 1"):
        count_classes(np.array([0]), np.array([2]), ["a", "b"])
    some = TEST_Y != 4
    assert knn_of(TRAIN_X, TRAIN_Y, TEST_X[some], TEST_Y[some]) == 100
    assert linear_accuracy(TRAIN_X, TRAIN_Y, TEST_X[some], TEST_Y[some]) == 100
    some = TRAIN_Y != 2
    assert knn_of(TRAIN_X[some], TRAIN_Y[some], TEST_X, TEST_Y) == 80
    assert linear_accuracy(TRAIN_X[some], TRAIN_Y[some], TEST_X, TEST_Y) == 80


def test_the_scale_of_features_does_not_matter_and_constant_ones_do_no_harm() -> None:
    rng = np.random.default_rng(1)
    scale = 10.0 ** rng.uniform(-4, 4, WIDTH)
    pad = np.full((len(TRAIN_X), 1), 1e4, np.float32)

    def changed(x: np.ndarray) -> np.ndarray:
        return np.concatenate([(x * scale).astype(np.float32), pad[: len(x)]], axis=1)

    assert linear_accuracy(changed(TRAIN_X), TRAIN_Y, changed(TEST_X), TEST_Y) == 100


def test_the_strength_is_not_chosen_on_the_test_part(monkeypatch: pytest.MonkeyPatch) -> None:
    """Training never depends on the test rows: the same fits are made whatever they are."""
    from eigenview.probes import linear

    seen: list[float] = []
    fit = linear._fit

    def recorded(x: np.ndarray, y: np.ndarray, strength: float) -> object:
        seen.append(strength)
        return fit(x, y, strength)

    monkeypatch.setattr(linear, "_fit", recorded)
    rng = np.random.default_rng(0)
    linear_accuracy(TRAIN_X, TRAIN_Y, TEST_X, TEST_Y)
    linear_accuracy(TRAIN_X, TRAIN_Y, rng.normal(size=TEST_X.shape).astype(np.float32), TEST_Y[::-1].copy())
    half = len(seen) // 2
    assert seen[:half] == seen[half:]
    assert half == len(linear.STRENGTHS) + 1
    assert seen[half - 1] in linear.STRENGTHS


def test_the_chosen_strength_beats_the_weakest_on_noisy_labels(monkeypatch: pytest.MonkeyPatch) -> None:
    """200 features of which one is informative, 300 rows: a weak penalty fits the noise."""
    from eigenview.probes import linear

    chosen, weakest = [], []
    for seed in range(4):
        rng = np.random.default_rng(seed)
        x = rng.normal(size=(1200, 200)).astype(np.float32)
        y = (x[:, 0] + rng.normal(size=1200) > 0).astype(np.int64)
        with monkeypatch.context() as patch:
            chosen.append(linear_accuracy(x[:300], y[:300], x[300:], y[300:]))
            patch.setattr(linear, "STRENGTHS", (min(linear.STRENGTHS),))
            weakest.append(linear_accuracy(x[:300], y[:300], x[300:], y[300:]))
    assert np.mean(chosen) > np.mean(weakest) + 0.5


def test_few_label_draws_are_repeatable_and_shared_between_features() -> None:
    rng = np.random.default_rng(0)
    noisy = TRAIN_X + 2 * rng.normal(size=TRAIN_X.shape).astype(np.float32)
    test = TEST_X + 2 * rng.normal(size=TEST_X.shape).astype(np.float32)

    def few(scale: float, seed: int) -> tuple[float, float]:
        return few_label_accuracy(noisy * scale, TRAIN_Y, test * scale, TEST_Y, labels_per_class=3, draws=4, seed=seed)

    assert few(1, 0) == few(1, 0)
    assert few(1, 0) == pytest.approx(few(2, 0))  # the same labelled rows, the same standardised features
    assert few(1, 0) != few(1, 1)


def test_a_class_with_too_few_images_is_named() -> None:
    y = np.array([0] * 12 + [1] * 4)
    assert label_shortage(y, 4) is None
    assert "class 'cat' has 4" in (label_shortage(y, 10, ["dog", "cat"]) or "")
    x = np.random.default_rng(0).normal(size=(16, 3)).astype(np.float32)
    with pytest.raises(UserError, match=r"class 1.*4.*10.*--probe.labels-per-class 4"):
        few_label_accuracy(x, y, x, y, labels_per_class=10, draws=1)


def test_bad_labels_are_refused() -> None:
    with pytest.raises(UserError, match=r"train.*no labels.*--probe-data"):
        knn_of(TRAIN_X, None, TEST_X, TEST_Y)  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"train labels.*\(199,\).*200"):
        linear_accuracy(TRAIN_X, TRAIN_Y[:-1], TEST_X, TEST_Y)
    with pytest.raises(UserError, match=r"train labels.*-1"):
        linear_accuracy(TRAIN_X, TRAIN_Y - 1, TEST_X, TEST_Y)
    with pytest.raises(UserError, match=r"train labels.*0.*two classes"):
        linear_accuracy(TRAIN_X, np.zeros_like(TRAIN_Y), TEST_X, TEST_Y)
    with pytest.raises(UserError, match=r"label.*4.*0 to 3"):
        knn_accuracy(TRAIN_X, TRAIN_Y, TEST_X, TEST_Y, k=5, temperature=0.1, num_classes=4)


def test_tiny_training_parts_work() -> None:
    """Two images a class leave nothing to validate a strength on."""
    rows = np.concatenate([np.flatnonzero(c == TRAIN_Y)[:2] for c in range(CLASSES)])
    few = TRAIN_X[rows, :CLASSES]
    assert linear_accuracy(few, TRAIN_Y[rows], TEST_X[:, :CLASSES], TEST_Y) == 100


def test_blocks_of_rows_change_no_digit_of_the_linear_probes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Statistics and standardised rows equal those of the whole array in one go; so do the predictions."""
    from eigenview.probes import linear

    rng = np.random.default_rng(2)
    x = (rng.normal(size=(1000, 30)) * 10.0 ** rng.uniform(-3, 3, 30) + rng.normal(size=30)).astype(np.float32)
    x[:, 7] = 0.1
    mean, std = x.mean(axis=0, dtype=np.float64), x.std(axis=0, dtype=np.float64)
    scale = np.where(std > 1e-6 * np.abs(mean), 1 / np.where(std == 0, 1.0, std), 0.0)
    whole = linear.linear_predictions(TRAIN_X, TRAIN_Y, TEST_X, TEST_Y)
    few = linear.few_label_predictions(TRAIN_X, TRAIN_Y, TEST_X, TEST_Y, labels_per_class=5, draws=2)
    for rows in (1000, 64, 7):
        monkeypatch.setattr(linear, "FLOAT64_ROWS", rows)
        monkeypatch.setattr(linear, "BLOCK_ROWS", rows)
        scaling = linear._scaling(x)
        assert np.array_equal(scaling.mean, mean)
        assert np.array_equal(scaling.scale, scale)
        assert np.array_equal(linear._standardised(x, scaling), ((x - mean) * scale).astype(np.float32))
        assert np.array_equal(linear.linear_predictions(TRAIN_X, TRAIN_Y, TEST_X, TEST_Y), whole)
        again = linear.few_label_predictions(TRAIN_X, TRAIN_Y, TEST_X, TEST_Y, labels_per_class=5, draws=2)
        assert np.array_equal(again, few)


def test_the_linear_probes_hold_one_copy_of_the_features_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    """With few labels none: the mean and the deviation need no copy, and only the rows drawn are standardised."""
    from eigenview.probes import linear

    class Answers:
        def predict(self, x: np.ndarray) -> np.ndarray:
            return np.zeros(len(x), np.int64)

    monkeypatch.setattr(linear, "_fit", lambda *_: Answers())
    monkeypatch.setattr(linear, "_choose_strength", lambda *_: 1.0)
    monkeypatch.setattr(linear, "FLOAT64_ROWS", 256)
    monkeypatch.setattr(linear, "BLOCK_ROWS", 1024)
    x = np.random.default_rng(0).normal(size=(20_000, 64)).astype(np.float32)
    y = np.arange(20_000) % 2

    def peak(of: Callable[[], object]) -> float:
        tracemalloc.start()
        try:
            of()
            return tracemalloc.get_traced_memory()[1] / x.nbytes
        finally:
            tracemalloc.stop()

    # beside the features: labels in int64 (0.06 twice) and blocks
    assert peak(lambda: linear.linear_predictions(x, y, x, y)) < 1.4
    assert peak(lambda: linear.few_label_predictions(x, y, x, y, labels_per_class=10, draws=1)) < 0.4
