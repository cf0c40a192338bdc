"""Spectral measures of spectra known in advance."""

from __future__ import annotations

import math

import pytest
import torch

from eigenview.functional import spectrum
from tests.draws import random


@pytest.mark.parametrize("shape", [(12, 5), (5, 12)])
def test_covariance_eigenvalues_equal_the_formed_covariance(shape: tuple[int, int]) -> None:
    z = random(*shape) + 3
    formed = torch.linalg.eigvalsh(torch.cov(z.T)).flip(0)[: min(shape)]
    torch.testing.assert_close(spectrum.covariance_eigenvalues(z), formed, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("measure", [spectrum.effective_rank, spectrum.participation_ratio])
def test_ranks_count_equal_eigenvalues(measure) -> None:
    values = torch.tensor([2.0, 2, 2, 0, 0, 0])
    assert measure(values).item() == pytest.approx(3)
    assert measure(1e6 * values).item() == pytest.approx(3)
    assert measure(torch.zeros(5)).item() == 1


def test_ranks_of_a_spectrum_by_hand() -> None:
    values = torch.tensor([3.0, 1.0])
    assert spectrum.participation_ratio(values).item() == pytest.approx(1.6)
    entropy = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    assert spectrum.effective_rank(values).item() == pytest.approx(math.exp(entropy))


def test_rankme_sees_the_mean_unless_centred() -> None:
    z = random(400, 10)
    assert spectrum.rankme(z).item() == pytest.approx(10, rel=0.02)
    far = z + 1000
    assert spectrum.rankme(far).item() < 1.2
    torch.testing.assert_close(spectrum.rankme(far, centre=True), spectrum.rankme(z, centre=True))
    orthogonal = torch.linalg.qr(random(8, 3)).Q
    assert spectrum.rankme(orthogonal, eps=0.0).item() == pytest.approx(3, rel=1e-12)


@pytest.mark.parametrize("alpha", [0.5, 1.0, 2.3])
@pytest.mark.parametrize("weighted", [True, False])
def test_an_exact_power_law_is_recovered(alpha: float, weighted: bool) -> None:
    values = 7 * torch.arange(1, 81, dtype=torch.float64) ** -alpha
    law = spectrum.power_law(values, weighted=weighted)
    assert law.alpha == pytest.approx(alpha, rel=1e-12)
    assert law.intercept == pytest.approx(math.log(7), rel=1e-12)
    assert spectrum.power_law_r2(values, law, 1, 80) == pytest.approx(1)


def test_weights_favour_the_first_ranks() -> None:
    """A knee at rank 20: slope 1 before, 3 after. Weighted by 1/rank the fit stays nearer to 1."""
    k = torch.arange(1, 61, dtype=torch.float64)
    values = torch.where(k <= 20, k**-1, 20**2 * k**-3)
    weighted, plain = (spectrum.power_law(values, weighted=w).alpha for w in (True, False))
    assert 1 < weighted < plain < 3
    assert spectrum.power_law_r2(values, spectrum.power_law(values)) < 0.99


def test_noise_and_short_spectra_are_left_out_of_the_fit() -> None:
    values = torch.arange(1, 31, dtype=torch.float64) ** -1.5
    noisy = torch.cat([values, torch.full((30,), 1e-33, dtype=torch.float64)])
    assert spectrum.power_law(noisy).alpha == pytest.approx(1.5)
    for short in (values[:4], torch.zeros(60)):
        assert math.isnan(spectrum.power_law(short).alpha)
        assert math.isnan(spectrum.power_law_r2(short, spectrum.power_law(values)))
