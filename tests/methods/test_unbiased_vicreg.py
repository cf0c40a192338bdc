"""The unbiased VICReg: independence of the batch size, the hinge's choices, refusals."""

from __future__ import annotations

import re
from itertools import combinations, product

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from eigenview import distributed
from eigenview.distributed import Pretend
from eigenview.errors import UserError
from eigenview.functional.batch_moments import BatchMoments
from eigenview.functional.moments import variances
from eigenview.methods.unbiased_vicreg import (
    COUPLED_BELOW,
    UnbiasedVICReg,
    UnbiasedVICRegConfig,
    hinge_tangent,
    hinge_value,
)
from eigenview.methods.vicreg import VICReg
from eigenview.records import Batch, Clock
from eigenview.views import Views
from tests.contract.building import method_of
from tests.contract.step import SAMPLES, global_views
from tests.methods.stepping import update
from tests.process_pool import ProcessPool


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def mean_over_batches(options: dict, n: int) -> dict[str, float]:
    """Exact mean of each term over all batches of n rows of a law with three equally likely points in 2 x 2 views."""
    law = normal(3, 2, 2, seed=1)  # point, view, dimension
    objective = UnbiasedVICReg(UnbiasedVICRegConfig(**options), width=2).double()
    sums: dict[str, float] = {}
    batches = list(product(range(3), repeat=n))
    for index in batches:
        terms = objective(Views(z=law[list(index)].transpose(0, 1))).terms
        for name, term in terms.items():
            sums[name] = sums.get(name, 0.0) + term.item() / len(batches)
    return sums


@pytest.mark.parametrize("form", ["off-diagonal", "identity"])
def test_every_exact_term_is_the_same_at_every_batch_size(form: str) -> None:
    small, larger = (mean_over_batches({"hinge": "square", "form": form}, n) for n in (4, 6))
    assert small == pytest.approx(larger, rel=1e-12)


def test_vicregs_own_terms_are_not() -> None:
    law = normal(3, 2, 2, seed=1)
    means = []
    for n in (4, 6):
        batches = list(product(range(3), repeat=n))
        values = [VICReg()(Views(z=law[list(i)].transpose(0, 1))).terms["covariance"].item() for i in batches]
        means.append(sum(values) / len(values))
    assert means[0] > 1.1 * means[1]


def test_square_by_hand_on_the_population() -> None:
    """The mean of the square penalty over all batches is (Var - gamma^2)^2 of the law."""
    law = normal(3, 2, 2, seed=1)
    variance = law.var(dim=0, correction=0)
    expected = 25 * (variance - 0.49).square().mean()
    found = mean_over_batches({"hinge": "square", "gamma": 0.7}, 4)["variance"]
    assert found == pytest.approx(expected.item(), rel=1e-12)


def test_the_tangent_touches_the_hinge_from_below() -> None:
    variance = torch.linspace(0, 3, 61, dtype=torch.float64)
    for at in (0.01, 0.3, 0.9, 1.5):
        a = torch.full_like(variance, at)
        line = hinge_tangent(variance, a, 1.0, 1e-4)
        assert (line <= hinge_value(variance, 1.0, 1e-4) + 1e-12).all()
        torch.testing.assert_close(hinge_tangent(a, a, 1.0, 1e-4), hinge_value(a, 1.0, 1e-4))


def test_dual_takes_its_slope_from_earlier_batches_only() -> None:
    objective = UnbiasedVICReg(UnbiasedVICRegConfig(hinge="dual", rho=0.5), width=3).double()
    first, second, third = (0.5 * normal(2, 8, 3, seed=k) for k in range(3))
    plugin = UnbiasedVICReg()
    for views in (Views(z=first),):
        torch.testing.assert_close(objective(views).terms["variance"], plugin(views).terms["variance"])
        update(objective, views)
    torch.testing.assert_close(objective.running, first.var(dim=1))
    update(objective, Views(z=second))
    torch.testing.assert_close(objective.running, (first.var(dim=1) + second.var(dim=1)) / 2)
    z = third.clone().requires_grad_()
    term = objective(Views(z=z)).terms["variance"]
    at = objective.running
    slope = torch.where(at + 1e-4 < 1, -0.5 * (at + 1e-4).rsqrt(), 0.0)
    expected = torch.autograd.grad((25 * slope * z.var(dim=1)).mean(), z)[0]
    torch.testing.assert_close(torch.autograd.grad(term, z)[0], expected, rtol=1e-10, atol=1e-12)


def test_the_gradient_of_dual_is_that_of_the_population_once_its_estimate_is() -> None:
    """z = s x with Var x = 1: the hinge's derivative is -s / sqrt(s^2 + eps). Four standard errors, 20,000 batches."""
    for n in (4, 16):
        s = torch.full((20_000, 1, 1, 1), 0.6, dtype=torch.float64, requires_grad=True)
        z = s * normal(20_000, 2, n, 1, seed=n)
        terms = hinge_tangent(z.var(dim=2), torch.full((20_000, 2, 1), 0.36, dtype=torch.float64), 1.0, 1e-4)
        gradient = torch.autograd.grad(terms.mean(dim=(1, 2)).sum(), s)[0].flatten()
        truth = -0.6 / (0.36 + 1e-4) ** 0.5
        assert abs(gradient.mean().item() - truth) < 4 * gradient.std().item() / 20_000**0.5
        plug_in = torch.autograd.grad(
            hinge_value((s * normal(20_000, 2, n, 1, seed=n)).var(dim=2), 1.0, 1e-4).mean(dim=(1, 2)).sum(), s
        )[0].flatten()
        assert abs(plug_in.mean().item() - truth) > 4 * plug_in.std().item() / 20_000**0.5


def test_the_running_variance_survives_a_resume() -> None:
    make = lambda: UnbiasedVICReg(UnbiasedVICRegConfig(hinge="dual"), width=3)  # noqa: E731
    whole, resumed = make(), make()
    batches = [Views(z=normal(2, 8, 3, seed=k).float()) for k in range(4)]
    for views in batches[:2]:
        update(whole, views)
    resumed.load_state_dict(whole.state_dict())
    for views in batches[2:]:
        update(whole, views)
        update(resumed, views)
    assert torch.equal(whole.running, resumed.running)
    assert torch.equal(whole(batches[0]).total, resumed(batches[0]).total)


def test_three_samples_are_refused_with_what_to_do() -> None:
    with pytest.raises(UserError, match=r"samples in the batch is 3.*4 or more.*larger batch"):
        UnbiasedVICReg()(Views(z=normal(2, 3, 5)))
    with pytest.raises(ValueError, match=r"dual.*width=D"):
        UnbiasedVICReg(UnbiasedVICRegConfig(hinge="dual"))


@pytest.mark.parametrize("hinge", ["plugin", "dual", "square"])
def test_a_constant_feature_has_a_finite_gradient(hinge: str) -> None:
    z = normal(2, 8, 3)
    z[..., 1] = 4.0
    z.requires_grad_()
    objective = UnbiasedVICReg(UnbiasedVICRegConfig(hinge=hinge), width=3)  # type: ignore[arg-type]
    objective(Views(z=z)).total.backward()
    assert z.grad is not None
    assert z.grad.isfinite().all()


class Silent:
    """One of two processes, between which nothing may be sent."""

    rank, size = 0, 2

    def sum(self, x: Tensor) -> Tensor:
        raise AssertionError("local statistics were sent")

    gather = max = sum

    def check_shape(self, x: Tensor) -> None:
        """Sends nothing."""


def local_step() -> tuple[float, dict[str, np.ndarray]]:
    """Loss of this process's rows, and the gradients after DDP's average, with local statistics."""
    torch.manual_seed(5)
    method = method_of("unbiased-vicreg", 5, statistics="local", hinge="square").double()
    ranks = distributed.processes()
    wrapped = DistributedDataParallel(method) if ranks.size > 1 else method
    n = SAMPLES // ranks.size
    views = tuple(global_views(0, 2)[:, ranks.rank * n : (ranks.rank + 1) * n])
    loss = wrapped(Batch(views=views, whole=2, start=ranks.rank * n, total=SAMPLES), Clock(processes=ranks)).total
    loss.backward()
    return loss.item(), {name: p.grad.numpy() for name, p in method.named_parameters() if p.grad is not None}


@pytest.mark.ddp
def test_local_statistics_are_the_mean_over_shards_without_a_gather(processes: ProcessPool) -> None:
    """Two processes of four images: DDP's gradient is the mean of the two shards' own."""
    answers = processes.run(2, local_step)
    alone = processes.run(1, local_step)
    (first, grads), (second, others) = answers
    assert first != pytest.approx(second)  # each its own images
    for name, gradient in grads.items():
        np.testing.assert_allclose(gradient, others[name], rtol=1e-12)
    assert any(not np.allclose(grads[name], alone[0][1][name], rtol=1e-3) for name in grads)


def test_the_mean_over_all_shardings_is_the_gradient_of_the_global_batch() -> None:
    """Eight images in two shards of four, in all 35 ways: the shards' mean loss and gradient are the global batch's."""
    config = UnbiasedVICRegConfig(hinge="square", statistics="local")
    objective, clock = UnbiasedVICReg(config), Clock(processes=Silent())
    assert config.needs.local_statistics
    z = normal(2, 8, 3).requires_grad_()
    whole = objective(Views(z=z)).total
    expected = torch.autograd.grad(whole, z)[0]
    losses = []
    for rest in combinations(range(1, 8), 3):
        first = [0, *rest]
        second = [i for i in range(8) if i not in first]
        losses += [objective(Views(z=z[:, part]), clock).total for part in (first, second)]
    mean = torch.stack(losses).mean()
    torch.testing.assert_close(mean, whole, rtol=1e-12, atol=0)
    torch.testing.assert_close(torch.autograd.grad(mean, z)[0], expected, rtol=1e-10, atol=1e-12)


def test_global_statistics_are_those_of_all_processes() -> None:
    objective, z = UnbiasedVICReg(), normal(2, 8, 3)
    with pytest.raises(AssertionError, match="were sent"):
        objective(Views(z=z), Clock(processes=Silent()))
    shared = objective(Views(z=z), Clock(processes=Pretend(2))).total
    torch.testing.assert_close(shared, objective(Views(z=torch.cat([z, z], dim=1))).total)


def test_parts_of_a_batch_have_its_gradient_in_expectation_unless_the_hinge_is_biased() -> None:
    assert UnbiasedVICRegConfig().needs.parts == "no"
    assert "--method.hinge" in UnbiasedVICRegConfig().needs.parts_why
    for options in ({"hinge": "dual"}, {"hinge": "square"}, {"variance": 0.0}):
        assert UnbiasedVICRegConfig(**options).needs.parts == "expected"  # type: ignore[arg-type]


def test_small_passes_of_batch_norm_are_warned_of() -> None:
    warn = UnbiasedVICRegConfig().needs.warn
    told = warn(16, True)
    assert told is not None
    assert re.search(r"16 images.*--network\.encoder-norm group --network\.head-norm layer", told)
    assert warn(16, False) is None
    assert warn(COUPLED_BELOW, True) is None


def test_forward_carries_the_variances_of_the_batch() -> None:
    z = normal(3, 8, 4).requires_grad_()
    found = UnbiasedVICReg(UnbiasedVICRegConfig(hinge="dual"), width=4, views=3)(Views(z=z)).carry
    assert not found["variances"].requires_grad
    torch.testing.assert_close(found["variances"], variances(z.detach())[None])
    assert not UnbiasedVICReg()(Views(z=z)).carry


STD = torch.tensor([0.3, 0.6, 0.9, 1.2], dtype=torch.float64)


def variance_term(objective: UnbiasedVICReg, z: Tensor) -> Tensor:
    nothing = torch.zeros((), dtype=z.dtype)
    return objective.variance_penalty(z, BatchMoments(nothing, variances(z), nothing.expand(len(z)))).mean()


def dual_gradient_bias(rho: float, updates: int) -> tuple[Tensor, Tensor]:
    """On a stationary Gaussian law with batches of 8: the bias of the gradient of `dual` after so many updates relative
    to that of the hinge at the population, by dimension, and the mean distance of its slope from the right one, on the
    same scale. 1,500 views stand for as many independent histories."""
    histories, n = 1500, 8
    objective = UnbiasedVICReg(UnbiasedVICRegConfig(hinge="dual", rho=rho), width=4, views=histories).double()
    generator = torch.Generator().manual_seed(0)

    def batch() -> Tensor:
        return torch.randn(histories, n, 4, generator=generator, dtype=torch.float64)

    for _ in range(updates):  # what forward carries, without its loop over views
        objective.update({"variances": variances(STD * batch())[None]}, Clock())
    scale = STD.clone().requires_grad_()
    torch.stack([variance_term(objective, scale * batch()) for _ in range(40)]).mean().backward()
    truth = STD.clone().requires_grad_()
    hinge_value(truth.square(), 1.0, 1e-4).mean().backward()
    assert scale.grad is not None
    assert truth.grad is not None
    at = objective.running.clone().requires_grad_()
    hinge_value(at, 1.0, 1e-4).sum().backward()
    assert at.grad is not None
    slope = torch.where(STD < 1, -0.5 * (STD.square() + 1e-4).rsqrt(), 0.0)
    size = truth.grad.abs().max()  # one scale for all: above gamma the true gradient is 0
    apart = (at.grad - slope).abs().mean(dim=0) * 2 * STD / 4
    return (scale.grad - truth.grad).abs() / size, apart / size


def test_on_a_stationary_law_the_gradient_bias_of_dual_falls_to_zero_within_its_bound() -> None:
    """The bound: the bias is at most the mean distance between the slope at the running variance and the true slope."""
    chance = 0.012  # four standard errors of 40 x 1,500 batches of 8
    worst = []
    for rho, updates in ((0.0, 2), (0.9, 40), (0.99, 400)):
        bias, bound = dual_gradient_bias(rho, updates)
        assert (bias <= bound + chance).all(), rho
        worst.append(bias.max().item())
    assert worst[0] > 0.1
    assert worst[1] < 0.06
    assert worst[2] < chance
