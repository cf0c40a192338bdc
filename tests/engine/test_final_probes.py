"""What a run is compared with: the encoder it started from, as it was, and with batch-norm statistics of the images."""

from __future__ import annotations

import copy
import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

from eigenview.data.images import ImageSet
from eigenview.diagnostics.baselines import MOST_FREQUENT, OURS, RAW_PIXELS, RECALIBRATED, STARTED_FROM, UNTRAINED
from eigenview.diagnostics.worth_sentence import first_sentence
from eigenview.engine.final_probes import calibrated, given_encoders, untrained_encoder, worth_of
from eigenview.runfiles import Hits

PIXELS = np.random.default_rng(0).integers(0, 256, (300, 3, 8, 8), dtype=np.uint8)
SET = ImageSet(
    name="noise",
    pixels=PIXELS,
    paths=(),
    labels=None,
    class_names=(),
    source_size=8,
    size=8,
    size_reason="",
    side_range=(8, 8),
)


def prepared(pixels: torch.Tensor) -> torch.Tensor:
    return pixels.float() / 255


def network() -> nn.Sequential:
    """Channels are averaged, normalised with statistics that do not fit them, and dropped at random in training."""
    norm = nn.BatchNorm1d(3)
    norm.running_mean = torch.full((3,), 7.0)
    norm.num_batches_tracked = torch.tensor(1000)  # a plain average would hardly move
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), norm, nn.Dropout(0.5))


def test_statistics_are_means_over_batches_of_the_images_alone() -> None:
    found = calibrated(network().eval(), SET, prepared)
    assert not found.training
    (norm,) = (part for part in found.modules() if isinstance(part, nn.BatchNorm1d))
    means = torch.from_numpy(PIXELS).float().mean(dim=(2, 3)) / 255  # one batch: 300 images are fewer than two of 256
    torch.testing.assert_close(norm.running_mean, means.mean(dim=0))
    torch.testing.assert_close(norm.running_var, means.var(dim=0))


def test_statistics_are_those_of_all_classes_in_every_batch() -> None:
    """Folders are sorted by class: the first images would be of one, and a batch of them has too small a variance."""
    pixels = np.repeat(np.arange(4, dtype=np.uint8) * 60, 1024)[:, None, None, None] * np.ones((1, 3, 8, 8), np.uint8)
    images = dataclasses.replace(SET, pixels=pixels, paths=(), labels=None)
    found = calibrated(network().eval(), images, prepared)
    (norm,) = (part for part in found.modules() if isinstance(part, nn.BatchNorm1d))
    each = torch.arange(4).repeat_interleave(64).float()[:, None] * 60 / 255  # each of eight batches of 256
    torch.testing.assert_close(norm.running_mean, each.mean().expand(3))
    torch.testing.assert_close(norm.running_var, each.var().expand(3))


def test_given_weights_have_a_row_as_they_are_and_one_with_statistics_of_the_images() -> None:
    given = network()
    before = copy.deepcopy(given.state_dict())
    rows = given_encoders(given, SET, prepared)
    assert list(rows) == [STARTED_FROM, RECALIBRATED]
    assert all(torch.equal(value, before[name]) for name, value in rows[STARTED_FROM].state_dict().items())
    x = prepared(torch.from_numpy(PIXELS[:20]))
    as_it_was, recalibrated = (rows[name](x) for name in rows)
    assert not torch.allclose(as_it_was, recalibrated)
    assert torch.equal(recalibrated, rows[RECALIBRATED](x))  # dropout is off


def test_without_batch_norm_there_is_one_row() -> None:
    rows = given_encoders(nn.Sequential(nn.Flatten(), nn.LayerNorm(192)), SET, prepared)
    assert list(rows) == [STARTED_FROM]


def test_random_weights_have_one_row_with_statistics_of_the_images() -> None:
    rows = untrained_encoder(nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.BatchNorm1d(3)), SET, prepared)
    assert list(rows) == [UNTRAINED]
    assert rows[UNTRAINED](prepared(torch.from_numpy(PIXELS))).mean().item() == pytest.approx(0, abs=1e-5)


def test_an_encoder_has_to_be_better_than_a_constant_answer() -> None:
    """Of 400 test images 360 are of one class: 330 right answers are more than raw pixels have, and fewer."""
    shares = {MOST_FREQUENT: 360, RAW_PIXELS: 280, UNTRAINED: 270, OURS: 330}
    right = {name: {"linear": np.arange(400)[None] < count} for name, count in shares.items()}
    labels, tested = (np.arange(400) >= 360).astype(int), {"linear": np.ones((1, 400), bool)}
    found = worth_of(Hits(images="0" * 32, labels=labels, tested=tested, right=right), 10)
    assert found.word == "worse"
    sentence = first_sentence("healthy", found)
    assert sentence.text.startswith(
        "Not collapsed, but worse than always answering the most frequent class: linear 82.5 %"
    )
    right[OURS] = {"linear": np.arange(400)[None] < 390}
    sentence = first_sentence("healthy", worth_of(Hits(images="0" * 32, labels=labels, tested=tested, right=right), 10))
    assert sentence.tone == "good"
    assert sentence.head == (
        "Not collapsed, and better than raw pixels, the untrained encoder and always answering the most frequent class"
    )
