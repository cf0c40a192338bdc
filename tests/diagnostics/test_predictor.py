"""W_p and F where the answers are known: shared eigenvectors, rotations, antisymmetry, linear and other predictors."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from eigenview.diagnostics.predictor import PREDICTOR_MEASURES, diagnose_predictor, linear_map, predictor_measures
from eigenview.errors import UserError
from eigenview.functional.predictors import second_moment


def gaussian(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def basis(width: int, seed: int = 0) -> torch.Tensor:
    return torch.linalg.qr(gaussian(width, width, seed=seed))[0]


def with_eigenvalues(values: list[float], seed: int = 0) -> torch.Tensor:
    u = basis(len(values), seed)
    return u * torch.tensor(values, dtype=torch.float64) @ u.T


def naive(z: torch.Tensor) -> torch.Tensor:
    return sum(torch.outer(row, row) for view in z for row in view) / (z.shape[0] * z.shape[1])  # type: ignore[return-value]


S = [4.0, 2.0, 1.0, 0.5]


@pytest.mark.parametrize("alpha", [0.25, 0.5, 1.0, 2.0])
def test_a_power_of_f_shares_its_eigenvectors(alpha: float) -> None:
    row, spectra = predictor_measures(with_eigenvalues(S), with_eigenvalues([s**alpha for s in S]))
    assert row["commutator"] == pytest.approx(0, abs=1e-14)
    assert row["asymmetry"] == pytest.approx(0, abs=1e-14)
    assert row["alignment"] == pytest.approx(1)
    assert row["alignment_min"] == pytest.approx(1)
    assert (row["negative"], row["modes"]) == (0, 4)
    assert row["largest_F"] == pytest.approx(4)
    assert row["largest_W_p"] == pytest.approx(4**alpha)
    np.testing.assert_allclose(spectra["F"], S)
    np.testing.assert_allclose(spectra["W_p"], [s**alpha for s in S])
    np.testing.assert_allclose(spectra["alignment"], 1)


@pytest.mark.parametrize("degrees", [0, 30, 60, 90, 150, 180])
def test_a_rotation_is_aligned_by_its_cosine(degrees: int) -> None:
    """W_p = R(angle): cos(v, R v) = cos(angle), symmetric part cos(angle) I, and the commutator by hand."""
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    row, spectra = predictor_measures(torch.diag(torch.tensor([3.0, 1.0])), torch.tensor([[c, -s], [s, c]]))
    np.testing.assert_allclose(spectra["alignment"], c, atol=1e-7)  # the matrix is float32
    assert row["alignment"] == pytest.approx(c, abs=1e-7)
    assert row["alignment_min"] == pytest.approx(c, abs=1e-7)
    assert row["asymmetry"] == pytest.approx(2 * abs(s), abs=1e-7)
    # [F, R] has the entries +-(3 - 1) s off the diagonal; the norms are sqrt(10) and sqrt(2)
    assert row["commutator"] == pytest.approx(2 * abs(s) * math.sqrt(2) / math.sqrt(20), abs=1e-7)
    assert row["negative"] == (2 if degrees > 90 else 0)


def test_an_antisymmetric_predictor_has_asymmetry_two() -> None:
    x = gaussian(5, 5)
    row, spectra = predictor_measures(with_eigenvalues([5.0, 4.0, 3.0, 2.0, 1.0]), x - x.T)
    assert row["asymmetry"] == pytest.approx(2)
    assert row["negative"] == 0
    np.testing.assert_allclose(spectra["W_p"], 0, atol=1e-14)
    assert row["alignment"] == pytest.approx(0, abs=1e-14)


def test_the_definitions_written_out() -> None:
    F, W = second_moment(gaussian(2, 40, 6)), gaussian(6, 6, seed=1)
    row, spectra = predictor_measures(F, W)
    s, v = torch.linalg.eigh(F)
    s, v = s.flip(0), v.flip(1)
    cosines = [(v[:, j] @ W @ v[:, j] / (W @ v[:, j]).norm()).item() for j in range(6)]
    held = s.cumsum(0) / s.sum()
    assert row["commutator"] == pytest.approx(((F @ W - W @ F).norm() / F.norm() / W.norm()).item())
    assert row["asymmetry"] == pytest.approx(((W - W.T).norm() / W.norm()).item())
    assert row["alignment"] == pytest.approx((s @ torch.tensor(cosines, dtype=s.dtype) / s.sum()).item())
    assert held[4] < 0.99  # so that all six are looked at
    assert row["alignment_min"] == pytest.approx(min(cosines))
    symmetric = torch.linalg.eigvalsh((W + W.T) / 2)
    assert row["negative"] == (symmetric < 0).sum()
    assert row["largest_W_p"] == pytest.approx(symmetric[-1].item())
    np.testing.assert_allclose(spectra["alignment"], cosines)
    np.testing.assert_allclose(spectra["W_p"], [v[:, j] @ W @ v[:, j] for j in range(6)])
    assert all(values.dtype == np.float64 for values in spectra.values())


def test_the_least_aligned_mode_is_looked_for_in_99_percent_of_f() -> None:
    F, W = torch.diag(torch.tensor([80.0, 19.5, 0.5])).double(), torch.diag(torch.tensor([1.0, 1.0, -1.0])).double()
    W[2, 1] = 1.0  # the second mode is mapped to itself and as much of the third
    row, spectra = predictor_measures(F, W)
    np.testing.assert_allclose(spectra["alignment"], [1, math.sqrt(0.5), -1])
    assert row["alignment_min"] == pytest.approx(math.sqrt(0.5))  # not -1: the third holds 0.5 %
    assert row["alignment"] == pytest.approx(0.8 + 0.195 * math.sqrt(0.5) - 0.005)
    assert row["negative"] == 1


def test_relative_measures_do_not_see_the_scale() -> None:
    F, W = second_moment(gaussian(2, 40, 6)), gaussian(6, 6, seed=1)
    one, other = predictor_measures(F, W)[0], predictor_measures(F * 1e-20, W * 1e10)[0]
    for name in ("commutator", "asymmetry", "alignment", "alignment_min", "negative"):
        assert other[name] == pytest.approx(one[name]), name


def test_zeros_are_safe() -> None:
    F, W, nothing = with_eigenvalues(S), gaussian(4, 4), torch.zeros(4, 4)
    for row, spectra in (predictor_measures(nothing, W), predictor_measures(F, nothing), predictor_measures(F, F * 0)):
        assert row["commutator"] == row["alignment"] == row["alignment_min"] == 0
        assert all(np.isfinite(values).all() for values in spectra.values())
    row, spectra = predictor_measures(F, nothing)
    assert row["asymmetry"] == row["negative"] == row["largest_W_p"] == 0
    np.testing.assert_array_equal(spectra["alignment"], 0)
    z = gaussian(2, 10, 4)
    for given in ((z * 0, z * 0), (z, z * 0), (z * 0, z)):
        row, spectra = diagnose_predictor(*given)
        assert all(value is not None for value in row.values())
        assert np.isfinite(spectra["F"]).all()
    assert diagnose_predictor(z * 0, z)[0]["modes"] == 0
    assert diagnose_predictor(z, z * 0)[0]["modes"] == 4


def test_the_second_moment_is_not_centred() -> None:
    z = gaussian(3, 7, 4) + 2
    np.testing.assert_allclose(second_moment(z), naive(z))


def test_a_linear_predictor_is_found_exactly() -> None:
    z, W = gaussian(2, 30, 8) + 0.5, gaussian(8, 8, seed=1)
    found, share = linear_map(z, z @ W.T)
    np.testing.assert_allclose(found, W, atol=1e-12)
    assert share == pytest.approx(1)
    row, spectra = diagnose_predictor(z, z @ W.T)
    expected_row, expected = predictor_measures(second_moment(z), W)
    assert row == pytest.approx(expected_row)
    for name, values in expected.items():
        np.testing.assert_allclose(spectra[name], values, rtol=1e-9, atol=1e-12)


def test_a_linear_predictor_on_few_directions_is_found_there() -> None:
    """z in 3 of 8 dimensions: W_p is known on their span and 0 beyond; its symmetry is judged there."""
    span = basis(8)[:, :3]
    z, W = gaussian(2, 30, 3) @ span.T, with_eigenvalues([8.0, 7.0, 6.0, 5.0, 4.0, 3.0, 2.0, 1.0], seed=5)
    found, share = linear_map(z, z @ W.T)
    np.testing.assert_allclose(found, W @ span @ span.T, atol=1e-12)
    assert share == pytest.approx(1)
    row, spectra = diagnose_predictor(z, z @ W.T)
    assert row["modes"] == 3
    assert row["asymmetry"] == pytest.approx(0, abs=1e-12)
    assert row["negative"] == 0
    assert row["commutator"] > 0.01  # W_p leads out of the span
    assert (
        np.isfinite(spectra["W_p"]).tolist() == np.isfinite(spectra["alignment"]).tolist() == [True] * 3 + [False] * 5
    )
    np.testing.assert_allclose(spectra["F"][3:], 0, atol=1e-14)
    v = torch.linalg.eigh(second_moment(z))[1].flip(1)[:, :3]
    np.testing.assert_allclose(spectra["W_p"][:3], (v.T @ W @ v).diagonal(), rtol=1e-9)


def test_the_share_of_an_offset() -> None:
    """p = z + b with z of mean 0: the map is I, and b is what it does not explain."""
    z = torch.cat([gaussian(1, 20, 3), -gaussian(1, 20, 3)])
    b = torch.tensor([1.0, 2.0, 2.0], dtype=torch.float64)
    found, share = linear_map(z, z + b)
    np.testing.assert_allclose(found, torch.eye(3), atol=1e-12)
    power = z.square().sum(dim=2).mean().item()
    assert share == pytest.approx(power / (power + 9))


def test_chance_does_not_fill_the_small_modes() -> None:
    """Two layers, W2 relu(W1 z), on z normal over 4 decades of eigenvalues: E[p z^T] F^-1 = W2 W1 / 2 (Stein)."""
    width, u = 64, basis(64)
    z = gaussian(2, 400, width) * torch.logspace(0, -2, width, dtype=torch.float64) @ u.T
    layer = gaussian(128, width, seed=1) / math.sqrt(width)
    p, W = (z @ layer.T).relu() @ layer, layer.T @ layer / 2
    row, spectra = diagnose_predictor(z, p)
    num = row["modes"]
    assert 10 < num < 50
    assert 0.6 < row["linear_share"] < 0.99
    F, fitted = second_moment(z), linear_map(z, p)[0]
    truth, everywhere = predictor_measures(F, W)[1]["W_p"], predictor_measures(F, fitted)[1]["W_p"]
    known = np.isfinite(spectra["W_p"])
    np.testing.assert_array_equal(np.isfinite(spectra["alignment"]), np.arange(width) < num)
    assert num < known.sum() < width  # W_p v is moved in every direction, v^T W_p v in one
    np.testing.assert_allclose(spectra["W_p"][known], everywhere[known])
    assert np.sqrt(np.square(everywhere - truth)[known].mean()) < 0.25 * truth.mean()
    assert np.sqrt(np.square(everywhere - truth)[~known].mean()) > 0.5 * truth.mean()  # what was left out


def test_more_directions_than_rows() -> None:
    """A fit through every row says nothing: half of the rows' directions are kept, or fewer."""
    z = gaussian(2, 20, 64) * torch.logspace(0, -2, 64, dtype=torch.float64)
    assert linear_map(z, gaussian(2, 20, 64, seed=1))[1] == pytest.approx(1)
    row, _ = diagnose_predictor(z, z)
    assert row["modes"] == 20
    assert row["alignment"] == pytest.approx(1)
    assert 0.95 < row["linear_share"] < 1
    row, _ = diagnose_predictor(z, gaussian(2, 20, 64, seed=1))
    assert row["modes"] < 5
    assert row["linear_share"] < 0.2


def test_the_rounding_of_float32_does_not_count() -> None:
    """F^0.5 applied in float32 to embeddings over 8 decades: every mode is there, none is negative."""
    width, u = 32, basis(32)
    s = torch.logspace(0, -8, width, dtype=torch.float64)
    z = (gaussian(2, 200, width) * s.sqrt() @ u.T).float()
    row, spectra = diagnose_predictor(z, z @ (u * s.sqrt() @ u.T).float())
    assert (row["modes"], row["negative"]) == (width, 0)
    assert row["linear_share"] == pytest.approx(1)
    assert row["alignment"] > 0.95
    assert (spectra["W_p"] > 0).all()


def test_what_is_not_finite_is_none() -> None:
    z = gaussian(2, 10, 4)
    z[0, 1, 2] = math.inf
    for given in ((z, gaussian(2, 10, 4)), (gaussian(2, 10, 4), z)):
        row, spectra = diagnose_predictor(*given)
        assert tuple(row) == PREDICTOR_MEASURES
        assert set(row.values()) == {None}
        assert all(np.isnan(values).all() and values.shape == (4,) for values in spectra.values())
    assert tuple(diagnose_predictor(gaussian(2, 10, 4), gaussian(2, 10, 4))[0]) == PREDICTOR_MEASURES


def test_wrong_shapes_are_named() -> None:
    with pytest.raises(UserError, match=r"z is.*three axes"):
        diagnose_predictor(gaussian(10, 4), gaussian(10, 4))
    with pytest.raises(UserError, match=r"the shape of z, \(2, 10, 4\)"):
        diagnose_predictor(gaussian(2, 10, 4), gaussian(2, 10, 3))
    with pytest.raises(UserError, match=r"F is.*square"):
        predictor_measures(gaussian(3, 4), gaussian(3, 4))
    with pytest.raises(UserError, match=r"W_p is.*shape of F"):
        predictor_measures(gaussian(4, 4), gaussian(3, 3))


def test_the_views_noise_and_the_target_along_the_modes_written_out() -> None:
    """noise: unbiased variance over the views of an image along v_j, mean over images; target: a regression on z."""
    z = gaussian(3, 50, 4) + 2 * gaussian(1, 50, 4, seed=1)
    target = 0.6 * z
    _, spectra = diagnose_predictor(z, z, target)
    _, v = torch.linalg.eigh(naive(z))
    for j in range(4):
        along = z @ v[:, 3 - j]
        variances = [sum((x - float(image.mean())) ** 2 for x in image.tolist()) / 2 for image in along.T]
        assert spectra["noise"][j] == pytest.approx(sum(variances) / 50)
    np.testing.assert_allclose(spectra["target"], 0.6)
    assert spectra["noise"].shape == spectra["target"].shape == spectra["F"].shape
    without = diagnose_predictor(z, z)[1]
    assert "target" not in without
    np.testing.assert_array_equal(without["noise"], spectra["noise"])


def test_a_known_noise_and_a_known_target_are_found() -> None:
    """Views x + n of unit x with noise variances 0.5 and 0.1: F = 1 + noise, and a target of other weights per mode."""
    x = gaussian(1, 40000, 2) + torch.tensor([0.5, 0.1], dtype=torch.float64).sqrt() * gaussian(2, 40000, 2, seed=2)
    _, spectra = diagnose_predictor(x, x, x * torch.tensor([0.7, 1.2], dtype=torch.float64))
    np.testing.assert_allclose(spectra["F"], [1.5, 1.1], rtol=0.03)
    np.testing.assert_allclose(spectra["noise"], [0.5, 0.1], rtol=0.03)
    np.testing.assert_allclose(spectra["target"], [0.7, 1.2], rtol=0.01)


def test_noise_and_target_of_views_that_are_not_finite_or_absent() -> None:
    z = gaussian(2, 20, 3)
    _, spectra = diagnose_predictor(z * math.inf, z, z)
    assert np.isnan(spectra["noise"]).all()
    assert np.isnan(spectra["target"]).all()
    flat = z * torch.tensor([1.0, 1.0, 0.0], dtype=torch.float64)
    _, spectra = diagnose_predictor(flat, flat, flat)
    np.testing.assert_array_equal(np.isnan(spectra["target"]), [False, False, True])
    with pytest.raises(UserError, match=r"z_target is.*shape of z"):
        diagnose_predictor(z, z, z[:1])
