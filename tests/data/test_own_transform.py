"""Transforms of one's own: named, imported, applied between the built-in operations and the normalisation, checked."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from eigenview.data.views.augment import augment
from eigenview.data.views.own import load_own, module_of, name_of
from eigenview.errors import UserError
from tests.data.test_augment import ALL, PLAIN, pictures, seeded

HERE = "tests.data.test_own_transform"
SEEN: list[torch.Tensor] = []


def same(views: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    SEEN.append(views.clone())
    return views


def negative(views: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    return 1 - views


def speckled(views: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    return views * torch.rand(views.shape, generator=generator)


def smaller(views: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    return views[:, :, 1:, 1:]


def whole_numbers(views: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    return (255 * views).long()


def no_tensor(views: torch.Tensor, generator: torch.Generator) -> Any:
    return views.tolist()


def broken(views: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    views[1, 0, 0, 0] = float("nan")
    return views


def takes_one(views: torch.Tensor) -> torch.Tensor:
    return views


class Holder:
    def method(self, views: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        return views


def own(function: Callable[..., Any]) -> str:
    return f"{HERE}:{function.__name__}"


def test_a_function_is_found_again_by_its_name() -> None:
    assert name_of(negative) == own(negative)
    assert load_own(own(negative)) is negative


def test_what_a_name_would_not_find_again_is_refused() -> None:
    def inner(views: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        return views

    for function in (inner, lambda views, generator: views, Holder().method, torch.nn.Identity()):
        with pytest.raises(UserError, match=r"augment\.own is .*top of a module.*MODULE:FUNCTION"):
            name_of(function)


@pytest.mark.parametrize("name", ["", "x", "x:", ":y", "a b:c", "../x:y", "x:y:z"])
def test_a_name_has_a_form(name: str) -> None:
    with pytest.raises(UserError, match=r"augment\.own is .*MODULE:FUNCTION"):
        module_of(name)


@pytest.mark.parametrize(
    ("name", "said"),
    [("no_such_module:f", "no_such_module"), (f"{HERE}:nothing", "nothing"), ("math:pi", "a function")],
)
def test_a_function_that_is_not_there_is_refused(name: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        load_own(name)
    with pytest.raises(UserError, match=r"a function \(views, generator\)"):
        load_own(own(takes_one))


def test_the_views_it_gets_are_pixels_and_nothing_else_moves() -> None:
    """A transform that returns its views leaves every bit as it was; it sees what is normalised afterwards."""
    images = pictures(9, 40)
    plain = augment(images, ALL, 24, seeded(1))
    SEEN.clear()
    assert torch.equal(augment(images, replace(ALL, own=own(same)), 24, seeded(1)), plain)
    (views,) = SEEN
    assert views.shape == (9, 3, 24, 24)
    assert 0 <= views.min() < 0.1
    assert 0.9 < views.max() <= 1
    bare = replace(PLAIN, own=own(negative))
    torch.testing.assert_close(augment(images, bare, 40, seeded(1)), 1 - images / 255, atol=1e-5, rtol=0)


def test_it_comes_before_erasing() -> None:
    spec = replace(PLAIN, erase=1.0, mean=(0.123,) * 3)  # which no pixel has
    images = pictures(4, 16)
    plain, inverted = (augment(images, each, 16, seeded(2)) for each in (spec, replace(spec, own=own(negative))))
    assert torch.equal(plain == 0, inverted == 0)
    assert (plain == 0).any()
    assert not torch.equal(plain, inverted)


def test_its_randomness_is_a_function_of_the_generator() -> None:
    images, spec = pictures(6, 16), replace(ALL, own=own(speckled))
    generator = seeded(3)
    first, second = augment(images, spec, 16, generator), augment(images, spec, 16, generator)
    again = seeded(3)
    assert torch.equal(augment(images, spec, 16, again), first)
    assert torch.equal(augment(images, spec, 16, again), second)
    without = seeded(3)
    for _ in range(2):
        augment(images, replace(spec, own=None), 16, without)
    assert torch.equal(without.get_state(), again.get_state())


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (smaller, r"is '\(4, 3, 15, 15\).*allowed: \(4, 3, 16, 16\)"),
        (whole_numbers, r"torch\.int64.*allowed: \(4, 3, 16, 16\) torch\.float32"),
        (no_tensor, "is 'list'.*allowed"),
        (broken, "not finite.*image 1 of 4.*allowed: finite"),
    ],
)
def test_what_it_may_return(function: Callable[..., Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        augment(pictures(4, 16), replace(PLAIN, own=own(function)), 16, seeded(4))
