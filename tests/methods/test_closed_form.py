"""The running second moment and the predictor made from it, with the options that reproduce other programs."""

from __future__ import annotations

import re

import pytest
import torch
from torch import Tensor

from eigenview.errors import NonFiniteError, UserError
from eigenview.functional.predictors import predictor_matrix, second_moment
from eigenview.methods.directcopy import DirectCopyConfig
from eigenview.methods.directpred import DirectPredConfig
from eigenview.methods.isoloss import IsoLossConfig
from eigenview.methods.parts.closed_form import ClosedFormPredictor
from eigenview.methods.parts.options import ClosedFormConfig
from tests.draws import random


def move(predictor: ClosedFormPredictor, z: Tensor) -> None:
    """One update by the moments of this batch alone."""
    predictor.update(**{name: value[0] for name, value in predictor.moments(z).items()})


def test_moments_are_those_of_all_rows_of_all_views() -> None:
    predictor, z = ClosedFormPredictor(ClosedFormConfig(), 4).double(), random(3, 5, 4).requires_grad_()
    found = predictor.moments(z)
    assert {name: tuple(value.shape) for name, value in found.items()} == {"moment": (1, 4, 4), "mean": (1, 4)}
    torch.testing.assert_close(found["moment"][0], second_moment(z.detach()))
    torch.testing.assert_close(found["mean"][0], z.detach().flatten(0, 1).mean(dim=0))
    assert not any(value.requires_grad for value in found.values())


def test_the_mean_can_be_taken_out_of_the_moment() -> None:
    z = random(2, 500, 4) + 3
    raw = ClosedFormConfig(eps=0.0, floor=0.0)  # with normalise_by "none" W_p is the moment itself
    plain, centred = (
        ClosedFormPredictor(raw, 4, centre=centre, normalise_by="none").double() for centre in (False, True)
    )
    for predictor in (plain, centred):
        move(predictor, z)
    rows = z.flatten(0, 1)
    torch.testing.assert_close(plain.W.detach(), rows.T @ rows / len(rows))
    torch.testing.assert_close(centred.W.detach(), torch.cov(rows.T, correction=0))


def test_moving_average_weights_the_past() -> None:
    predictor = ClosedFormPredictor(ClosedFormConfig(rho=0.8), 3).double()
    batches = [random(2, 5, 3, seed=k) for k in range(3)]
    expected, mean = second_moment(batches[0]), batches[0].mean(dim=(0, 1))
    move(predictor, batches[0])
    for z in batches[1:]:
        expected = 0.8 * expected + 0.2 * second_moment(z)
        mean = 0.8 * mean + 0.2 * z.mean(dim=(0, 1))
        move(predictor, z)
    torch.testing.assert_close(predictor.F, expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(predictor.mean, mean, rtol=1e-12, atol=1e-12)


def test_starting_from_zero_keeps_the_weights_of_the_later_batches() -> None:
    predictor = ClosedFormPredictor(ClosedFormConfig(rho=0.8), 3, initial="zero").double()
    z = random(2, 5, 3)
    move(predictor, z)
    torch.testing.assert_close(predictor.F, 0.2 * second_moment(z))


@pytest.mark.parametrize("normalise_by", ["spectral", "frobenius", "none"])
@pytest.mark.parametrize("eps_inside", [False, True])
@pytest.mark.parametrize("floor", [0.0, 0.4])
def test_the_matrix_has_the_options_asked_for(normalise_by: str, eps_inside: bool, floor: float) -> None:
    options = {"normalise_by": normalise_by, "eps_inside": eps_inside}
    config = ClosedFormConfig(alpha=0.5, eps=0.1, floor=floor)
    predictor = ClosedFormPredictor(config, 4, **options).double()  # type: ignore[arg-type]
    z = random(2, 9, 4)
    move(predictor, z)
    expected = predictor_matrix(second_moment(z), 0.5, 0.1, floor=floor, **options)  # type: ignore[arg-type]
    torch.testing.assert_close(predictor.W.detach(), expected)
    torch.testing.assert_close(predictor.predict(z).detach(), z @ expected.T)


def test_view_by_view_before_the_prediction_is_two_updates() -> None:
    """The order of IsoLoss's authors: F moves by one view, that view is predicted, then the next."""
    z, expected = random(2, 9, 4), torch.zeros(4, 4, dtype=torch.float64)
    predictor = ClosedFormPredictor(ClosedFormConfig(alpha=0.5, rho=0.5, eps=0.0), 4, initial="zero").double()
    for view in z:
        move(predictor, view[None])
        expected = 0.5 * expected + 0.5 * second_moment(view[None])
        torch.testing.assert_close(predictor.F, expected)
        matrix = predictor_matrix(expected, 0.5, 0.0, floor=1e-4)
        torch.testing.assert_close(predictor.predict(view[None]).detach(), view[None] @ matrix.T)


def test_the_first_matrix_is_random_or_the_identity() -> None:
    drawn = ClosedFormPredictor(ClosedFormConfig(), 5).W
    assert 0 < drawn.abs().max() <= 1 / 5**0.5  # as of a linear layer
    assert torch.equal(ClosedFormPredictor(ClosedFormConfig(), 5, start="identity").W, torch.eye(5))


@pytest.mark.parametrize("floor", [-1.0, float("nan"), float("inf")])
def test_a_bad_floor_is_refused(floor: float) -> None:
    with pytest.raises(UserError, match=f"method.floor is {floor}.*0 or more"):
        ClosedFormConfig(floor=floor)


def test_a_width_of_zero_is_refused() -> None:
    with pytest.raises(UserError, match=r"width is 0.*1 or more"):
        ClosedFormPredictor(ClosedFormConfig(), 0)


@pytest.mark.parametrize("alpha", [1.0, 0.5])
@pytest.mark.parametrize("bad", [torch.nan, 1e30])
def test_a_moment_that_is_not_finite_stops(alpha: float, bad: float) -> None:
    predictor = ClosedFormPredictor(ClosedFormConfig(alpha=alpha), 3)
    z = random(2, 4, 3).float()
    z[0, 0, 0] = bad
    with pytest.raises(NonFiniteError, match="second moment F"):
        move(predictor, z)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (DirectPredConfig(), r"4,096 x 4,096.*--method\.refresh-every 10.*--network\.projector-width"),
        (IsoLossConfig(), r"4,096 x 4,096.*--method\.alpha 1 needs none"),
        (DirectPredConfig(refresh_every=10), None),
        (DirectCopyConfig(), None),
        (IsoLossConfig(alpha=1.0), None),
    ],
    ids=str,
)
def test_a_wide_decomposition_is_announced(config: ClosedFormConfig, message: str | None) -> None:
    assert config.needs.weight_note(256) is None
    note = config.needs.weight_note(4096)
    assert note is None if message is None else re.search(message, note or "")
