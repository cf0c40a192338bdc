"""W_p as a function of F: the second moment, its largest eigenvalue, and every variant of the power by hand."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from eigenview.functional.predictors import Norm, largest_eigenvalue, predictor_matrix, second_moment


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def moment(width: int, rank: int | None = None, seed: int = 0) -> Tensor:
    z = normal(2, 40, rank or width, seed=seed) @ normal(rank or width, width, seed=seed + 1)
    return second_moment(z)


def test_second_moment_is_neither_centred_nor_normalised() -> None:
    z = torch.tensor([[[3.0, 4.0]], [[1.0, 0.0]]], dtype=torch.float64)
    expected = torch.tensor([[5.0, 6.0], [6.0, 8.0]], dtype=torch.float64)
    assert torch.equal(second_moment(z), expected)


@pytest.mark.parametrize("width", [1, 2, 5, 31, 33, 90])
@pytest.mark.parametrize("rank", [None, 1])
def test_largest_eigenvalue(width: int, rank: int | None) -> None:
    F = moment(width, rank, seed=width)
    torch.testing.assert_close(largest_eigenvalue(F), torch.linalg.eigvalsh(F)[-1], rtol=1e-10, atol=0)


@pytest.mark.parametrize(
    "F",
    [torch.zeros(4, 4), torch.ones(4, 4), torch.eye(50), torch.diag(torch.tensor([1.0, 1.0, 0.999999, 0.0]))],
    ids=["zero", "ones", "identity", "near ties"],
)
def test_largest_eigenvalue_of_awkward_matrices(F: Tensor) -> None:
    F = F.double()
    torch.testing.assert_close(largest_eigenvalue(F), torch.linalg.eigvalsh(F)[-1], rtol=1e-10, atol=1e-300)


def test_largest_eigenvalue_of_a_spectrum_like_an_embeddings() -> None:
    U = torch.linalg.qr(normal(300, 300)).Q
    F = (U * torch.arange(1, 301, dtype=torch.float64) ** -1.0) @ U.T
    assert largest_eigenvalue(F).item() == pytest.approx(1.0, rel=1e-9)


@pytest.mark.parametrize("width", [2, 31, 257])
@pytest.mark.parametrize("scale", [1e-15, 1.0, 1e15])
@pytest.mark.parametrize("rank", [1, 2, 40])
def test_largest_eigenvalue_in_float32_to_the_last_digit(width: int, scale: float, rank: int) -> None:
    # squares of F's entries underflow at the first scale and overflow at the last; ranks 1 and 2 run out of directions
    F = second_moment((scale * normal(2, 40, rank, seed=rank) @ normal(rank, width, seed=1)).float())
    torch.testing.assert_close(largest_eigenvalue(F).double(), torch.linalg.eigvalsh(F.double())[-1], rtol=3e-7, atol=0)


@pytest.mark.parametrize("alpha", [0.5, 1.0])
@pytest.mark.parametrize("normalise_by", ["spectral", "frobenius"])
@pytest.mark.parametrize("scale", [1e-13, 1e13])
def test_a_normalised_predictor_does_not_see_the_scale(scale: float, normalise_by: Norm, alpha: float) -> None:
    z = normal(2, 40, 9, seed=4)
    expected = predictor_matrix(second_moment(z), alpha, 0.1, normalise_by=normalise_by).float()
    found = predictor_matrix(second_moment((scale * z).float()), alpha, 0.1, normalise_by=normalise_by)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("normalise_by", ["spectral", "frobenius", "none"])
@pytest.mark.parametrize("eps_inside", [False, True])
def test_predictor_by_eigenvalues(normalise_by: str, eps_inside: bool) -> None:
    """diag(4, 1) with alpha = 1/2: every variant by hand."""
    F = torch.diag(torch.tensor([4.0, 1.0], dtype=torch.float64))
    root5, root17 = 5**0.5, 17**0.5
    expected = {
        ("spectral", False): [1 + 0.1, 0.5 + 0.1],
        ("spectral", True): [1.1**0.5, 0.35**0.5],
        ("frobenius", False): [2 / root5 + 0.1, 1 / root5 + 0.1],
        ("frobenius", True): [(4 / root17 + 0.1) ** 0.5, (1 / root17 + 0.1) ** 0.5],
        ("none", False): [2.1, 1.1],
        ("none", True): [4.1**0.5, 1.1**0.5],
    }[normalise_by, eps_inside]
    W = predictor_matrix(F, 0.5, 0.1, normalise_by=normalise_by, eps_inside=eps_inside)  # type: ignore[arg-type]
    torch.testing.assert_close(W, torch.diag(torch.tensor(expected, dtype=torch.float64)))


@pytest.mark.parametrize("normalise_by", ["spectral", "frobenius", "none"])
def test_copying_equals_the_eigen_decomposition_at_alpha_one(normalise_by: str) -> None:
    F = moment(9, seed=3)
    copied = predictor_matrix(F, 1.0, 0.3, normalise_by=normalise_by)  # type: ignore[arg-type]
    nearly = predictor_matrix(F, 1.0 + 1e-13, 0.3, normalise_by=normalise_by)  # type: ignore[arg-type]
    torch.testing.assert_close(copied, nearly, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("alpha", [0.25, 0.5, 1.0, 2.0])
def test_rank_deficient_and_empty_moments_are_safe(alpha: float) -> None:
    for F in (moment(12, rank=2), torch.zeros(5, 5, dtype=torch.float64)):
        W = predictor_matrix(F, alpha, 0.01, floor=1e-4)
        assert W.isfinite().all()
        assert torch.equal(W, W.T) or (W - W.T).abs().max() < 1e-12
        p = torch.linalg.eigvalsh(W)
        assert p.min() >= 0.01 - 1e-7
        assert p.max() <= 1.01 + 1e-7
