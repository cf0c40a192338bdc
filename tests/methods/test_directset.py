"""DirectSet, DirectPred, DirectCopy: when W_p is computed, which batches it knows, what is refused."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import Tensor

from eigenview.errors import NonFiniteError, UserError
from eigenview.functional.predictors import predictor_matrix, second_moment
from eigenview.methods.byol import BYOL
from eigenview.methods.directcopy import DirectCopy, DirectCopyConfig
from eigenview.methods.directpred import DirectPred, DirectPredConfig
from eigenview.methods.directset import DirectSet, DirectSetConfig
from eigenview.methods.parts.closed_form import ClosedFormPredictor
from eigenview.views import Views
from tests.methods.stepping import update


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_a_refresh_comes_every_few_steps_and_gradient_trains_it_in_between() -> None:
    objective = DirectPred(DirectPredConfig(refresh_every=3), width=4).double()
    W = objective.predictor.W
    assert W.requires_grad
    seen = []
    for k in range(7):
        z = normal(2, 6, 4, seed=k)
        objective(Views(z=z, z_target=z.flip(0))).total.backward()
        assert W.grad is not None
        assert W.grad.abs().max() > 1e-6
        update(objective, Views(z=z, z_target=z))
        seen.append(W.detach().clone())
    changed = [not torch.equal(a, b) for a, b in pairwise(seen)]
    assert changed == [False, False, True, False, False, True]  # updates 0, 3, 6 refresh
    assert not DirectCopy(width=4).predictor.W.requires_grad


def test_a_batch_is_predicted_with_the_matrix_of_the_batches_before_it() -> None:
    objective = DirectCopy(width=4).double()
    z = normal(2, 6, 4)
    views = Views(z=z, z_target=z.flip(0))
    drawn = objective.predictor.W.detach().clone()
    reference = BYOL()(Views(p=z @ drawn.T, z_target=z.flip(0))).total
    torch.testing.assert_close(objective(views).total, reference)
    update(objective, views)
    made = predictor_matrix(second_moment(z), 1.0, 0.3)
    torch.testing.assert_close(objective.predictor.W.detach(), made)
    torch.testing.assert_close(objective(views).total, BYOL()(Views(p=z @ made, z_target=z.flip(0))).total)


def test_the_resumed_counter_keeps_the_rhythm_of_refreshes() -> None:
    config = DirectPredConfig(refresh_every=3)
    whole, first = (DirectPred(config, width=4).double() for _ in range(2))
    first.load_state_dict(whole.state_dict())
    batches = [Views(z=normal(2, 6, 4, seed=k), z_target=normal(2, 6, 4)) for k in range(5)]
    for views in batches[:2]:
        update(whole, views)
        update(first, views)
    second = DirectPred(config, width=4).double()
    second.load_state_dict(first.state_dict())
    for views in batches[2:]:
        update(whole, views)
        update(second, views)
    assert torch.equal(whole.predictor.W, second.predictor.W)
    assert second.predictor.updates == 5


@pytest.mark.parametrize(
    ("field", "value"),
    [("alpha", 0.0), ("alpha", -1.0), ("rho", 1.0), ("rho", -0.1), ("eps", -0.01), ("refresh_every", 0)],
)
def test_bad_options_are_refused_by_name(field: str, value: float) -> None:
    with pytest.raises(UserError, match=rf"method\.{field} is {value}"):
        DirectSetConfig(**{field: value})


@pytest.mark.parametrize("alpha", [1.0, 0.5])
@pytest.mark.parametrize("bad", [torch.nan, 1e30])
def test_a_moment_that_is_not_finite_stops(alpha: float, bad: float) -> None:
    objective = DirectSet(DirectSetConfig(alpha=alpha), width=3)
    z = normal(2, 4, 3).float()
    z[0, 0, 0] = bad
    with pytest.raises(NonFiniteError, match="second moment F"):
        update(objective, Views(z=z, z_target=z))


def test_other_widths_are_refused() -> None:
    objective = DirectCopy(width=4)
    with pytest.raises(ValueError, match=r"width 5.*4"):
        objective(Views(z=torch.zeros(2, 3, 5), z_target=torch.zeros(2, 3, 5)))


def test_a_ready_predictor_takes_the_place_of_the_one_by_the_config() -> None:
    """How the options of other programs are used: they are arguments of the predictor, not of a run."""
    config, z = DirectSetConfig(alpha=0.5, eps=0.1, floor=0.0), normal(2, 6, 4)
    predictor = ClosedFormPredictor(config, 4, eps_inside=True, normalise_by="frobenius")
    objective = DirectSet(config, predictor=predictor).double()
    assert objective.predictor is predictor
    views = Views(z=z, z_target=z.flip(0))
    update(objective, views)
    made = predictor_matrix(second_moment(z), 0.5, 0.1, eps_inside=True, normalise_by="frobenius")
    torch.testing.assert_close(objective(views).total, BYOL()(Views(p=z @ made, z_target=z.flip(0))).total)
    with pytest.raises(ValueError, match="width=D"):
        DirectSet(config)


@pytest.mark.parametrize(("objective", "config"), [(DirectPred, DirectPredConfig), (DirectCopy, DirectCopyConfig)])
def test_directpred_and_directcopy_are_directset_with_other_defaults(objective, config) -> None:
    given, views = config(), Views(z=normal(2, 6, 4), z_target=normal(2, 6, 4, seed=1))
    same = {name: getattr(given, name) for name in ("alpha", "rho", "eps", "refresh_every", "normalise")}
    ours, plain = objective(width=4).double(), DirectSet(DirectSetConfig(**same), width=4).double()
    for _ in range(3):
        update(ours, views)
        update(plain, views)
    assert torch.equal(ours(views).total, plain(views).total)
    assert (given.alpha, given.rho, given.eps) == ((0.5, 0.3, 0.01) if objective is DirectPred else (1.0, 0.5, 0.3))
