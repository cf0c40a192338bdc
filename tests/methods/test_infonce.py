"""InfoNCE where its value is known: two samples by hand, its limits, the pair weights and the exact linear gradient."""

from __future__ import annotations

import math
from itertools import permutations

import pytest
import torch
from torch import Tensor

from eigenview.errors import UserError
from eigenview.methods.infonce import InfoNCE, InfoNCEConfig, info_nce_terms, pair_weights
from eigenview.views import Views
from tests.draws import random

EPS = [0.0, 1.0, 3.0]


def loss(z: Tensor, **options: object) -> Tensor:
    return InfoNCE(InfoNCEConfig(**options))(Views(z=z)).total  # type: ignore[arg-type]


def summed(z: Tensor, eps: float) -> Tensor:
    """The theory's sum over anchors, from the function that has it; the mean over ordered pairs of views."""
    pairs = permutations(range(len(z)), 2)
    return torch.stack([info_nce_terms(z[a], z[b], eps).sum() for a, b in pairs]).mean()


@pytest.mark.parametrize("eps", EPS)
def test_two_samples_by_hand(eps: float) -> None:
    """On a line at 0 and 2, their other views at 1 and 2: d_1^2 = 1/2, d_2^2 = 0, d_12^2 = 2."""
    z, other = torch.tensor([[0.0], [2]]), torch.tensor([[1.0], [2]])
    first = 0.5 + math.log(eps * math.exp(-0.5) + math.exp(-2))
    second = math.log(eps + math.exp(-2))
    assert info_nce_terms(z, other, eps).tolist() == pytest.approx([first, second], rel=1e-6)
    # anchored in the other view the negative is at distance 1: d_12^2 = 1/2
    third, fourth = 0.5 + math.log(eps * math.exp(-0.5) + math.exp(-0.5)), math.log(eps + math.exp(-0.5))
    expected = (first + second + third + fourth) / 2
    both = torch.stack([z, other])
    assert summed(both, eps).item() == pytest.approx(expected, rel=1e-6)
    assert loss(both, eps=eps).item() == pytest.approx(expected / 2, rel=1e-6)


@pytest.mark.parametrize("eps", EPS)
@pytest.mark.parametrize("views", [2, 3])
def test_equal_embeddings(eps: float, views: int) -> None:
    z = torch.full((views, 6, 3), 4.2, requires_grad=True)
    value = loss(z, eps=eps)
    assert value.item() == pytest.approx(math.log(5 + eps), rel=1e-6)
    assert torch.equal(torch.autograd.grad(value, z)[0], torch.zeros_like(z))


@pytest.mark.parametrize("eps", EPS)
def test_gradient_of_a_linear_network_is_a_difference_of_covariances(eps: float) -> None:
    """-dL/dW = W (Sigma_0 - Sigma_aug) with the weights of the present W, exactly and for every eps."""
    x, W = random(12, 5), random(4, 5, seed=2).requires_grad_()
    x_prime = x + 0.5 * random(12, 5, seed=1)
    (gradient,) = torch.autograd.grad(info_nce_terms(x @ W.T, x_prime @ W.T, eps).sum(), W)
    alpha = pair_weights(x @ W.T, x_prime @ W.T, eps)
    between, within = x[:, None] - x, x - x_prime
    sigma_0 = torch.einsum("ij,ijk,ijl->kl", alpha, between, between)
    sigma_aug = torch.einsum("i,ik,il->kl", alpha.sum(dim=1), within, within)
    torch.testing.assert_close(-gradient, W @ (sigma_0 - sigma_aug), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("eps", EPS)
def test_pair_weights_sum_to_what_the_positive_leaves(eps: float) -> None:
    z = random(9, 4)
    z_prime = z + 0.5 * random(9, 4, seed=1)
    alpha = pair_weights(z, z_prime, eps)
    positive = (-(z - z_prime).square().sum(1) / 2).exp()
    negatives = (-(z[:, None] - z).square().sum(2) / 2).exp().fill_diagonal_(0)
    denominator = eps * positive + negatives.sum(1)
    torch.testing.assert_close(alpha, negatives / denominator[:, None], rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(alpha.sum(1), 1 - eps * positive / denominator, rtol=1e-12, atol=1e-14)
    if eps == 0:
        torch.testing.assert_close(alpha.sum(1), torch.ones(9, dtype=z.dtype), rtol=1e-14, atol=0)


def test_temperature_divides_squared_distances() -> None:
    z = random(2, 6, 4)
    torch.testing.assert_close(loss(z, temperature=4.0), loss(z / 2), rtol=1e-13, atol=0)


def test_a_common_shift_is_irrelevant() -> None:
    z = random(2, 6, 4)
    torch.testing.assert_close(loss(z + 1e4), loss(z), rtol=1e-10, atol=0)
    torch.testing.assert_close(loss(z.float() + 1e3), loss(z).float(), rtol=1e-3, atol=0)  # the shift rounds z itself


def test_exponentials_that_underflow_do_no_harm() -> None:
    """Images 1000 apart, so that every e^{-d^2} is 0: only the nearest negative remains, and the positive's eps."""
    z = 1000 * torch.arange(4.0)[:, None].expand(4, 2)
    nearest = 1000.0**2
    for eps, expected in ((1.0, 0.0), (3.0, math.log(3)), (0.0, -nearest + math.log(2) / 2)):
        both = torch.stack([z, z]).requires_grad_()
        value = loss(both, eps=eps)
        assert value.item() == pytest.approx(expected, rel=1e-6, abs=1e-6)
        assert torch.autograd.grad(value, both)[0].isfinite().all()
    apart = torch.stack([z, z + torch.tensor([200.0, 0.0])])
    assert loss(apart, eps=1.0).item() == pytest.approx(0.0, abs=1e-6)  # the positive is still the nearest


def test_only_a_positive_in_the_denominator_bounds_the_loss() -> None:
    z = random(2, 6, 4) * 0.3 + random(1, 6, 4, seed=1)
    assert [loss(scale * z, eps=0.0).item() < -(scale**2) / 10 for scale in (10, 100)] == [True, True]
    for eps in (1.0, 3.0):
        assert loss(100 * z, eps=eps).item() >= math.log(eps)


def test_views_are_averaged_over_ordered_pairs() -> None:
    z = random(3, 5, 4)
    torch.testing.assert_close(loss(z), summed(z, 1.0) / 5, rtol=1e-13, atol=0)


def test_one_sample_is_refused() -> None:
    with pytest.raises(UserError, match=r"samples in the batch is 1.*2 or more"):
        loss(random(2, 1, 4))


def test_bad_options_are_named() -> None:
    for option, values in {"eps": (-1.0, math.inf), "temperature": (0.0, -1.0)}.items():
        for value in values:
            with pytest.raises(UserError, match=rf"method\.{option} is {value}"):
                InfoNCEConfig(**{option: value})
