"""SimCLR where its value is known: equal embeddings, rescaled ones, the two places of the positives."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from eigenview.errors import UserError
from eigenview.functional.contrast import contrast
from eigenview.methods.simclr import SimCLR, SimCLRConfig
from eigenview.views import Views
from tests.draws import random


def test_identical_embeddings() -> None:
    z = torch.ones(2, 8, 3)
    assert SimCLR()(Views(z=z)).total.item() == pytest.approx(math.log(15))


def test_scale_of_the_embeddings_is_irrelevant() -> None:
    z = random(2, 6, 4)
    scaled = z * torch.rand(2, 6, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).add(0.1)
    torch.testing.assert_close(SimCLR()(Views(z=scaled)).total, SimCLR()(Views(z=z)).total)


def test_both_places_of_the_positives_agree_for_two_views_only() -> None:
    """The provider's `positives="inside"` is solo-learn's loss for more than two views."""

    def inside(z: Tensor) -> Tensor:
        found = contrast(z, 0.5, positives="inside")
        return found.log_denominator - found.positive

    two, three = random(2, 5, 4), random(3, 5, 4)
    torch.testing.assert_close(inside(two), SimCLR()(Views(z=two)).total, rtol=1e-13, atol=0)
    # by Jensen, a mean of logs is below the log of the mean, and the sum is log 2 above that mean
    assert SimCLR()(Views(z=three)).total > inside(three) + math.log(2)


def test_one_sample_is_refused() -> None:
    with pytest.raises(UserError, match=r"samples in the batch is 1.*2 or more"):
        SimCLR()(Views(z=random(2, 1, 4)))


@pytest.mark.parametrize("temperature", [0.0, -1.0])
def test_bad_temperature(temperature: float) -> None:
    with pytest.raises(UserError, match=rf"method\.temperature is {temperature}.*above 0"):
        SimCLRConfig(temperature=temperature)
