"""Measures of features whose answers are known: exact spectra, one point, independent features, views that agree."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
import torch

from eigenview.diagnostics.diagnose import MOST_ROWS, diagnose, diagnose_embeddings
from eigenview.diagnostics.measures import MEASURES, measure, spectrum
from eigenview.errors import UserError


def gaussian(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def with_covariance(eigenvalues: list[float], images: int, seed: int = 0) -> torch.Tensor:
    """(images, width) with mean zero and exactly these covariance eigenvalues, in random directions."""
    width = len(eigenvalues)
    y = gaussian(images, width, seed=seed)
    q, _ = torch.linalg.qr(y - y.mean(dim=0))  # columns orthonormal and orthogonal to the constant
    r, _ = torch.linalg.qr(gaussian(width, width, seed=seed + 1))
    return q * torch.tensor(eigenvalues, dtype=torch.float64).mul(images - 1).sqrt() @ r


def test_measures_of_an_exact_spectrum() -> None:
    eigenvalues = [8.0, 4.0, 2.0, 1.0, 1.0, 0.0]
    x = with_covariance(eigenvalues, images=50)[None]
    np.testing.assert_allclose(spectrum(x), eigenvalues, atol=1e-10)
    found = measure(x)
    p = np.array([8, 4, 2, 1, 1]) / 16
    s = np.sqrt([8, 4, 2, 1, 1]) / np.sqrt([8, 4, 2, 1, 1]).sum()
    assert found["participation_ratio"] == pytest.approx(16**2 / 86)
    assert found["bias_ratio"] == pytest.approx(16**2 / 86 / 49)
    assert found["effective_rank"] == pytest.approx(math.exp(-(p * np.log(p)).sum()))
    # eps of the paper, 1e-7, moves the sixth digit
    assert found["rankme_centred"] == pytest.approx(math.exp(-(s * np.log(s)).sum()), rel=1e-4)
    assert found["rankme"] == pytest.approx(found["rankme_centred"])  # the mean is zero
    assert found["mean_to_spread"] == pytest.approx(0, abs=1e-10)
    assert found["rms"] ** 2 * 6 == pytest.approx(16 * 49 / 50)


def test_a_power_law_gives_its_exponent() -> None:
    x = with_covariance([k**-1.3 for k in range(1, 61)], images=200)[None]
    assert measure(x)["alpha"] == pytest.approx(1.3, abs=1e-6)


def test_views_are_averaged_not_pooled() -> None:
    """A constant shift between views is no variation between images; a view repeated changes nothing."""
    view = gaussian(30, 5)
    one, both = measure(view[None]), measure(torch.stack([view, view + 7]))
    for name in ("std", "std_min", "participation_ratio", "rankme_centred", "correlation", "alpha"):
        assert both[name] == pytest.approx(one[name], nan_ok=True), name
    np.testing.assert_allclose(spectrum(torch.stack([view, view + 7])), spectrum(view[None]))


def test_cosines_against_a_loop() -> None:
    x = gaussian(3, 6, 4)
    u = (x / x.norm(dim=2, keepdim=True)).numpy()
    same = [u[a, i] @ u[b, i] for a in range(3) for b in range(3) if a != b for i in range(6)]
    others = [u[a, i] @ u[b, j] for a in range(3) for b in range(3) for i in range(6) for j in range(6) if i != j]
    found = measure(x)
    assert found["cosine_views"] == pytest.approx(np.mean(same))
    assert found["cosine_others"] == pytest.approx(np.mean(others))
    assert found["spread"] == pytest.approx(math.sqrt(1 - np.mean(others)))
    assert found["alignment"] == pytest.approx(2 - 2 * np.mean(same))


def test_independent_features_have_spread_one() -> None:
    found = measure(gaussian(2, 2000, 64))
    # 2000 samples: deviations of a few hundredths
    assert found["spread"] == pytest.approx(1, abs=0.02)
    assert found["std_l2"] == pytest.approx(1, abs=0.02)
    assert found["std"] == pytest.approx(1, abs=0.02)
    assert found["cosine_views"] == pytest.approx(0, abs=0.02)  # the two views were drawn independently
    assert found["rankme_centred"] > 60


@pytest.mark.parametrize("value", [0.0, 3.0], ids=["all zero", "all equal"])
def test_one_point_has_no_spread(value: float) -> None:
    found = measure(torch.full((2, 10, 4), value))
    assert found["spread"] == pytest.approx(0, abs=1e-7)
    assert found["std"] == 0
    assert found["participation_ratio"] == 1
    assert found["rankme_centred"] == pytest.approx(1, abs=1e-4)  # the eps of 1e-7 counts


def test_dimensionless_measures_do_not_see_the_scale() -> None:
    x = gaussian(2, 40, 12) + 0.3
    small, large = measure(x * 1e-6), measure(x * 1e6)
    for name in MEASURES:
        if name in ("std", "std_min", "rms"):
            assert large[name] == pytest.approx(small[name] * 1e12), name
        else:
            assert large[name] == pytest.approx(small[name], rel=1e-9, nan_ok=True), name


def test_features_that_are_not_finite_are_measured_as_nan() -> None:
    x = gaussian(2, 10, 4)
    x[1, 3, 2] = math.inf
    assert all(math.isnan(value) for value in measure(x).values())
    assert np.isnan(spectrum(x)).all()
    row, spectra = diagnose(x, gaussian(2, 10, 3), 7, 0.5)
    assert set(row["h"].values()) == {None}
    assert row["z"]["rms"] is not None
    assert spectra["z"].shape == (3,)


def test_huge_float32_features_are_measured() -> None:
    found = measure((gaussian(2, 10, 4) * 1e30).float())
    assert found["rms"] > 1e29
    assert math.isfinite(found["rankme"])


def test_a_row_has_the_keys_of_the_log() -> None:
    h, z = gaussian(2, 20, 6), gaussian(2, 20, 30)
    row, spectra = diagnose(h, z, 12, 1.5)
    assert (row["step"], row["epoch"]) == (12, 1.5)
    assert tuple(row["h"]) == tuple(row["z"]) == MEASURES
    assert spectra["h"].shape == (6,)
    assert spectra["z"].shape == (30,)
    assert (spectra["z"][19:] < 1e-12).all()  # 20 images span 19 directions


def test_wrong_shapes_are_named() -> None:
    with pytest.raises(UserError, match=r"features.*\(10, 4\)"):
        measure(gaussian(10, 4))
    with pytest.raises(UserError, match=r"images.*1.*2"):
        measure(gaussian(2, 1, 4))
    with pytest.raises(UserError, match=r"h and z.*\(2, 10, 4\).*\(2, 9, 4\)"):
        diagnose(gaussian(2, 10, 4), gaussian(2, 9, 4), 0, 0.0)
    with pytest.raises(UserError, match=r"embeddings.*\(2, 10, 4\)"):
        diagnose_embeddings(gaussian(2, 10, 4))
    with pytest.raises(UserError, match=r"embeddings.*1 row.*2 rows"):
        diagnose_embeddings(gaussian(1, 10))


def test_embeddings_of_any_origin() -> None:
    measures, verdict = diagnose_embeddings(gaussian(300, 32).float())
    assert verdict.label == "healthy"
    assert "cosine_views" not in measures
    shifted, far = diagnose_embeddings(gaussian(300, 32) + 1)
    assert shifted["mean_to_spread"] == pytest.approx(1, abs=0.1)
    assert far.label == "healthy"
    low_rank = gaussian(300, 2) @ gaussian(2, 64, seed=1)
    assert diagnose_embeddings(low_rank)[1].label == "dimensional collapse"
    point = torch.ones(300, 32) + 1e-3 * gaussian(300, 32)
    verdict = diagnose_embeddings(point)[1]
    assert verdict.label == "complete collapse"
    assert any("mean" in note for note in verdict.notes)
    point[5] = math.nan
    measures, verdict = diagnose_embeddings(point)
    assert verdict.label == "diverged"
    assert len(verdict.notes) == 1
    assert re.search("1 of 300 rows.*nan", verdict.notes[0])
    assert measures["rms"] is None


def test_many_embeddings_are_sampled_and_a_note_says_so() -> None:
    _, verdict = diagnose_embeddings(gaussian(MOST_ROWS + 500, 8))
    assert len(verdict.notes) == 1
    assert "4,096 of 4,596 rows" in verdict.notes[0]
