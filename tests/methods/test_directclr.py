"""DirectCLR where its value is known: the part that is seen, cross-view negatives, the ways of choosing the part."""

from __future__ import annotations

import math
from itertools import combinations

import pytest
import torch
from torch import Tensor

from eigenview.errors import UserError
from eigenview.functional.similarity import info_nce
from eigenview.methods.directclr import DirectCLR, DirectCLRConfig, random_coordinates, random_directions
from eigenview.records import Clock
from eigenview.views import Views
from tests.contract.building import objective_of
from tests.draws import random


def loss(h: Tensor, width: int | None = None, **options: object) -> Tensor:
    return DirectCLR(DirectCLRConfig(**options), representation=width)(Views(h=h)).total  # type: ignore[arg-type]


def test_equal_rows() -> None:
    for views in (2, 3):
        assert loss(torch.ones(views, 8, 5), d0=4).item() == pytest.approx(math.log(8))


def test_aligned_orthogonal_pairs_have_one_negative_per_other_image() -> None:
    n, tau = 6, 0.5
    h = torch.eye(n, dtype=torch.float64).expand(2, n, n)
    value = loss(h, d0=n, temperature=tau).item()
    assert value == pytest.approx(math.log(1 + (n - 1) * math.exp(-1 / tau)), rel=1e-14)


def test_exchanged_views_by_hand() -> None:
    """The wrong image matches exactly: log(1 + e^(1/tau)). Negatives of the same view would add e^0."""
    h = torch.tensor([[[1.0, 0], [0, 1]], [[0, 1], [1, 0]]])
    assert loss(h, d0=2, temperature=0.5).item() == pytest.approx(math.log(1 + math.exp(2)))


def test_info_nce_is_one_way() -> None:
    a, b = torch.tensor([[1.0, 0], [1, 0]]), torch.tensor([[2.0, 0], [0, 1]])
    assert info_nce(a, b, 1.0).item() == pytest.approx((math.log1p(math.exp(-2)) + math.log1p(math.exp(2))) / 2)
    assert info_nce(b, a, 1.0).item() == pytest.approx(math.log(2))


def test_coordinates_beyond_d0_are_neither_seen_nor_moved() -> None:
    h = random(2, 6, 8).requires_grad_()
    value = loss(h, d0=3)
    value.backward()
    assert h.grad is not None
    assert torch.equal(h.grad[..., 3:], torch.zeros(2, 6, 5, dtype=h.dtype))
    assert (h.grad[..., :3].abs().amax((0, 1)) > 0).all()
    assert torch.equal(loss(torch.cat([h[..., :3], 1e6 * random(2, 6, 2)], dim=-1), d0=3), value)


def test_rows_are_normalised_after_the_slice() -> None:
    h = random(2, 6, 8)
    lengths = random(2, 6, 1, seed=1).exp()
    torch.testing.assert_close(loss(h * lengths, d0=3), loss(h, d0=3), rtol=1e-12, atol=0)


def test_three_views_are_the_mean_of_their_pairs() -> None:
    h = random(3, 5, 6)
    pairs = [loss(h[list(pair)], d0=4) for pair in combinations(range(3), 2)]
    torch.testing.assert_close(loss(h, d0=4), torch.stack(pairs).mean(), rtol=1e-13, atol=0)


def test_the_embedding_is_seen_whole() -> None:
    h, config = random(2, 5, 6), DirectCLRConfig(site="embedding", d0=100)
    objective = DirectCLR(config, representation=3)
    assert config.needs.reads == {"z"}
    assert DirectCLRConfig().needs.reads == {"h"}
    assert torch.equal(objective(Views(z=h)).total, loss(h, d0=6))


def test_d0_wider_than_the_representation_is_refused_early_and_late() -> None:
    message = r"method\.d0 is 64.*1 to 48"
    with pytest.raises(UserError, match=message):
        objective_of("directclr", 48, d0=64)
    with pytest.raises(UserError, match=message):
        DirectCLR(representation=48)
    with pytest.raises(UserError, match=message):
        DirectCLR()(Views(h=random(2, 4, 48)))
    with pytest.raises(UserError, match=r"method\.d0 is 0.*between 1"):
        DirectCLRConfig(d0=0)


def test_a_fixed_subset_is_a_permuted_first_one() -> None:
    h = random(2, 6, 8).requires_grad_()
    chosen = random_coordinates(8, 3, seed=4)
    assert len(set(chosen.tolist())) == 3
    value = loss(h, width=8, d0=3, subset="fixed", seed=4)
    torch.testing.assert_close(value, loss(h[..., chosen], d0=3), rtol=1e-14, atol=0)
    assert torch.equal(torch.autograd.grad(value, h)[0].abs().amax((0, 1)).nonzero().flatten(), chosen)
    assert loss(h, width=8, d0=3, subset="fixed", seed=5) != value


def test_low_rank_equals_the_papers_fixed_projector() -> None:
    """U diag(1 d0 times, then 0) V^T, for any orthogonal U."""
    h = random(2, 6, 8)
    directions = random_directions(8, 3, seed=2).double()
    torch.testing.assert_close(directions.T @ directions, torch.eye(3, dtype=torch.float64), rtol=0, atol=1e-6)
    v, u = torch.linalg.qr(torch.cat([directions, random(8, 5)], dim=1)).Q, torch.linalg.qr(random(8, 8, seed=1)).Q
    projector = u @ torch.diag(torch.tensor([1.0] * 3 + [0] * 5, dtype=torch.float64)) @ v.T
    ours = loss(h, width=8, d0=3, subset="low-rank", seed=2)
    torch.testing.assert_close(ours, loss(h @ projector.T, d0=8), rtol=1e-5, atol=0)  # directions are float32


def test_all_directions_are_the_whole_representation() -> None:
    h = random(2, 6, 8)
    torch.testing.assert_close(loss(h, width=8, d0=8, subset="low-rank"), loss(h, d0=8), rtol=1e-5, atol=0)


@pytest.mark.parametrize("subset", ["random", "fixed", "low-rank"])
def test_what_was_drawn_comes_back_in_a_resumed_run(subset: str) -> None:
    """Coordinates by the config's seed alone, directions by the state that is loaded, whatever the seed."""
    views = Views(h=random(2, 6, 8))
    drawn, again, other = (
        DirectCLR(DirectCLRConfig(d0=3, subset=subset, seed=seed), representation=8)  # type: ignore[arg-type]
        for seed in (0, 0, 1)
    )
    assert other(views).total != drawn(views).total
    again.load_state_dict(drawn.state_dict(), strict=True)
    assert torch.equal(again(views).total, drawn(views).total)
    other.load_state_dict(drawn.state_dict(), strict=True)
    assert torch.equal(other(views).total, drawn(views).total) == (subset == "low-rank")
    with pytest.raises(UserError, match=rf"method\.subset.*{subset}.*representation=H"):
        DirectCLR(drawn.config)


def test_one_sample_is_refused() -> None:
    with pytest.raises(UserError, match=r"samples in the batch is 1.*2 or more"):
        loss(random(2, 1, 4), d0=2)


def test_bad_options_are_named() -> None:
    bad = {"temperature": 0.0, "site": "middle", "subset": "last", "seed": -1}
    for option, value in bad.items():
        with pytest.raises((UserError, TypeError), match=option):
            DirectCLRConfig(**{option: value})  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"method\.subset is 'random'.*first.*embedding"):
        DirectCLRConfig(site="embedding", subset="random")


def test_the_random_subset_is_a_function_of_seed_and_step() -> None:
    """So a resumed run needs no state, and all processes draw the same coordinates."""
    h = random(2, 6, 30)

    def seen(step: int, seed: int = 0) -> list[int]:
        objective = DirectCLR(DirectCLRConfig(d0=5, subset="random", seed=seed), representation=30)
        x = h.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(objective(Views(h=x), Clock(step=step)).total, x)
        return gradient.abs().amax((0, 1)).nonzero().flatten().tolist()

    drawn = [seen(step) for step in range(4)]
    assert all(len(set(each)) == 5 for each in drawn)
    assert len({tuple(each) for each in drawn}) == 4
    assert drawn[2] == seen(2)  # of another instance
    assert drawn[2] == random_coordinates(30, 5, 0, draw=3).tolist()
    assert drawn[2] != seen(2, seed=1)
