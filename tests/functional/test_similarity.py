"""Similarities with answers known by hand."""

from __future__ import annotations

import math

import pytest
import torch

from eigenview.functional import similarity
from tests.draws import random
from tests.functional import naive


def test_unit_rows_and_zero_rows() -> None:
    x = torch.tensor([[3.0, 4.0], [0.0, 0.0], [0.0, -1e-9]], requires_grad=True)
    torch.testing.assert_close(similarity.unit(x), torch.tensor([[0.6, 0.8], [0, 0], [0, -1]]))
    similarity.unit(x)[1].sum().backward()
    assert x.grad is not None
    assert torch.equal(x.grad, torch.zeros_like(x))


def test_cosine_matches_torch() -> None:
    a, b = random(7, 5), random(7, 5, seed=1)
    torch.testing.assert_close(similarity.cosine(a, b), torch.cosine_similarity(a, b))


@pytest.mark.parametrize("positives", ["outside", "inside"])
@pytest.mark.parametrize("views", [2, 3, 5])
def test_nt_xent_of_equal_embeddings(views: int, positives: str) -> None:
    """Every other row is equally likely: log(VN - 1), and log of the share of positives when they are summed inside."""
    samples = 6
    z = random(1, 1, 4).expand(views, samples, 4)
    loss = sum(naive.nt_xent_terms(z, 0.3, positives))  # type: ignore[arg-type]
    others, own = views * samples - 1, 1 if positives == "outside" else views - 1
    assert float(loss) == pytest.approx(math.log(others / own), rel=1e-12)


def test_nt_xent_of_aligned_orthogonal_pairs() -> None:
    n, tau = 5, 0.5
    z = torch.eye(n, dtype=torch.float64).expand(2, n, n)
    loss = sum(naive.nt_xent_terms(z, tau))
    assert float(loss) == pytest.approx(math.log(1 + (2 * n - 2) * math.exp(-1 / tau)), rel=1e-12)


def test_nt_xent_outside_is_the_mean_over_ordered_pairs_of_views() -> None:
    z, tau = random(3, 4, 5), 0.4
    u = torch.nn.functional.normalize(z, dim=-1)
    losses = []
    for a in range(3):
        for b in range(3):
            for i in range(4):
                if a == b:
                    continue
                others = [u[a, i] @ u[c, k] / tau for c in range(3) for k in range(4) if (c, k) != (a, i)]
                losses.append(torch.stack(others).logsumexp(0) - u[a, i] @ u[b, i] / tau)
    torch.testing.assert_close(sum(naive.nt_xent_terms(z, tau)), torch.stack(losses).mean())


def test_alignment_is_the_mean_squared_distance_of_pairs() -> None:
    z = random(3, 6, 4)
    u = torch.nn.functional.normalize(z, dim=-1)
    pairs = [(u[a] - u[b]).square().sum(-1).mean() for a in range(3) for b in range(a)]
    torch.testing.assert_close(similarity.alignment(z), torch.stack(pairs).mean())
    opposite = torch.stack([z[0], -z[0]])
    assert similarity.alignment(opposite).item() == pytest.approx(4)


def test_uniformity_known_values() -> None:
    assert similarity.uniformity(random(1, 3).expand(5, 3)).item() == pytest.approx(0, abs=1e-12)
    assert similarity.uniformity(torch.tensor([[1.0, 0], [-1, 0]])).item() == pytest.approx(-8)
    z = random(20, 6)
    distances = torch.pdist(torch.nn.functional.normalize(z, dim=1))
    torch.testing.assert_close(similarity.uniformity(z), (-2 * distances**2).exp().mean().log())


def test_correlation_matches_torch_and_guards_constant_features() -> None:
    z = random(9, 4) * 3 + 10
    torch.testing.assert_close(similarity.correlation(z), torch.corrcoef(z.T))
    z[:, 2] = 1e6 / 3
    c = similarity.correlation(z)
    assert torch.equal(c[2], torch.zeros(4, dtype=z.dtype))
    kept = [0, 1, 3]
    torch.testing.assert_close(c[kept][:, kept], torch.corrcoef(z[:, kept].T))


def test_off_diagonal_correlation_by_hand() -> None:
    x = torch.tensor([1.0, -1, 1, -1])
    y = torch.tensor([1.0, 1, -1, -1])
    absolute, rms = similarity.off_diagonal_correlation(torch.stack([x, -x, y], dim=1))
    assert absolute.item() == pytest.approx(1 / 3)
    assert rms.item() == pytest.approx(math.sqrt(1 / 3))


def test_unit_standard_deviation_limits() -> None:
    assert similarity.unit_standard_deviation(random(1, 8).expand(6, 8)).item() == pytest.approx(0, abs=1e-12)
    isotropic = similarity.unit_standard_deviation(random(4000, 16)).item()
    assert isotropic == pytest.approx(1 / 4, rel=0.01)
