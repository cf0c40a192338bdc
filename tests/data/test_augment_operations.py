"""Flips, turns, rotation, noise and erasing against torchvision; their draws; images with other numbers of channels."""

from dataclasses import fields, replace

import pytest
import torch
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from eigenview.data.views.augment import apply, augment, prepare, to_uint8
from eigenview.data.views.draw import Params, draw
from eigenview.data.views.geometry import rotate
from eigenview.data.views.specs import ViewSpec
from tests.data.test_augment import ALL, PLAIN, ROUNDING, pictures, seeded, torchvision_view

# operation -> what turns it on, and the fields of Params that it draws
NAMED = {
    "vertical_flip": ({"vertical_flip": 0.5}, {"vertical_flip"}),
    "quarter_turn": ({"quarter_turn": 0.75}, {"quarter_turns"}),
    "rotate": ({"rotate": 0.6, "rotate_angle": 90.0}, {"rotate", "angle"}),
    "noise": ({"noise": 0.6, "noise_sigma": (0.02, 0.3)}, {"noise", "noise_sigma", "noise_field"}),
    "erase": ({"erase": 0.6}, {"erase", "erase_box"}),
}
ONLY_NEW = {name for _, drawn in NAMED.values() for name in drawn}


def values(params: Params) -> dict[str, torch.Tensor]:
    return {f.name: getattr(params, f.name) for f in fields(params) if getattr(params, f.name) is not None}


@pytest.mark.parametrize("name", NAMED)
@pytest.mark.parametrize(("source", "size"), [(32, 32), (120, 96)])
def test_each_operation_is_torchvisions(name: str, source: int, size: int) -> None:
    """Exactly, but for a rotation: positions between pixels are rounded, by up to 1e-5 of a pixel."""
    spec = replace(PLAIN, **NAMED[name][0])
    images = pictures(16, source)
    params = draw(16, spec, source, seeded(3), size=size)
    ours = apply(images, params, spec, size)
    theirs = torch.stack([torchvision_view(x, params, i, spec, size) for i, x in enumerate(images)])
    changed = (ours - prepare(images, size, spec.mean, spec.std)).abs().amax((1, 2, 3)) > 0.01
    assert changed.any()
    assert not changed.all()
    atol = 5e-5 if name == "rotate" else ROUNDING
    torch.testing.assert_close(ours, theirs, atol=atol, rtol=0, check_stride=False)


def test_a_quarter_turn_moves_pixels_and_changes_none() -> None:
    spec = replace(PLAIN, quarter_turn=1.0)
    images = pictures(24, 20)
    params = draw(24, spec, 20, seeded(4))
    assert params.quarter_turns is not None
    ours, still = (apply(images, each, spec, 20) for each in (params, replace(params, quarter_turns=None)))
    assert set(params.quarter_turns.tolist()) == {1, 2, 3}
    for i, turns in enumerate(params.quarter_turns.tolist()):
        assert torch.equal(ours[i], torch.rot90(still[i], turns, (1, 2)))


@pytest.mark.parametrize("turns", [-1, 0, 1, 2])
def test_a_rotation_by_right_angles_is_a_quarter_turn(turns: int) -> None:
    images = torch.rand(3, 2, 17, 17, generator=seeded(5))
    turned = rotate(images, torch.full((3,), 90.0 * turns))
    torch.testing.assert_close(turned, torch.rot90(images, turns, (2, 3)), atol=1e-5, rtol=0)


def test_a_rotated_constant_image_stays_constant() -> None:
    """No empty corner gives the angle away."""
    images = torch.full((8, 3, 24, 24), 0.3)
    torch.testing.assert_close(rotate(images, torch.arange(8) * 20.0), images, atol=1e-6, rtol=0)


def test_erased_pixels_are_zero_after_normalisation_and_no_others_change() -> None:
    spec = replace(ALL, noise=0.0, erase=1.0)
    images, off = pictures(12, 32), replace(ALL, noise=0.0, erase=0.0)
    ours, kept = (augment(images, each, 24, seeded(6)) for each in (spec, off))
    params = draw(12, spec, 32, seeded(6), size=24)
    assert params.erase is not None
    assert params.erase_box is not None
    assert params.erase.all()
    for view, before, box in zip(ours, kept, params.erase_box.int().tolist(), strict=True):
        top, left, height, width = box
        inside = torch.zeros(24, 24, dtype=torch.bool)
        inside[top : top + height, left : left + width] = True
        assert inside.sum() == height * width > 0
        assert (view[:, inside] == 0).all()
        assert torch.equal(view[:, ~inside], before[:, ~inside])


@pytest.mark.parametrize("name", NAMED)
def test_an_operation_moves_no_number_of_the_others(name: str) -> None:
    """All other draws of this view and of the next one are the same bits with it and without it."""
    others = replace(ALL, **{name: 0.0})
    on = replace(ALL, **NAMED[name][0])
    first, second = seeded(7), seeded(7)
    for _ in range(2):
        with_it, without = draw(9, on, 32, first, size=16), draw(9, others, 32, second, size=16)
        assert set(values(with_it)) - set(values(without)) == NAMED[name][1]
        for field, value in values(without).items():
            assert torch.equal(value, values(with_it)[field]), field
    assert torch.equal(first.get_state(), second.get_state())


def test_what_is_not_used_draws_nothing() -> None:
    generator = seeded(8)
    params = draw(4, replace(PLAIN, flip=0.5), 32, generator)
    assert not set(values(params)) & ONLY_NEW
    expected = seeded(8)
    torch.rand(36, 4, generator=expected)  # what every view drew before there were further operations
    assert torch.equal(generator.get_state(), expected.get_state())


def test_views_and_operations_draw_different_numbers() -> None:
    spec = replace(PLAIN, vertical_flip=0.5, rotate=0.5, noise=0.5, erase=0.5)
    generator = seeded(9)
    first, second = draw(64, spec, 32, generator, size=8), draw(64, spec, 32, generator, size=8)
    names = ("vertical_flip", "rotate", "noise", "erase")
    masks = [getattr(each, name) for each in (first, second) for name in names]
    assert len({tuple(mask.tolist()) for mask in masks}) == len(masks)
    assert first.noise_field is not None
    assert second.noise_field is not None
    assert not torch.equal(first.noise_field, second.noise_field)


def test_laws_of_the_new_draws() -> None:
    """Rates within five standard errors; bounds reached to a hundredth of the range."""
    n = 20000
    spec = replace(PLAIN, vertical_flip=0.3, quarter_turn=0.6, rotate=0.2, rotate_angle=30.0, noise=0.4, erase=0.7)
    params = draw(n, spec, 32, seeded(10), size=4)
    assert params.quarter_turns is not None
    assert params.noise_field is not None
    assert params.angle is not None
    rates = {name: (getattr(params, name), getattr(spec, name)) for name in ("vertical_flip", "rotate", "noise")}
    rates |= {f"{turns} turns": (params.quarter_turns == turns, 0.2) for turns in (1, 2, 3)}
    for name, (drawn, p) in rates.items():
        assert abs(drawn.float().mean().item() - p) < 5 * (p * (1 - p) / n) ** 0.5, name
    assert params.angle.min().item() == pytest.approx(-30, abs=0.6)
    assert params.angle.max().item() == pytest.approx(30, abs=0.6)
    field = params.noise_field[:2000].flatten()
    assert abs(field.mean().item()) < 5 / len(field) ** 0.5
    assert abs(field.var().item() - 1) < 5 * (2 / len(field)) ** 0.5


@pytest.mark.parametrize("scale", [(0.02, 0.33), (0.7, 1.0)])
def test_the_law_of_erasing_is_torchvisions(scale: tuple[float, float]) -> None:
    """Means within five standard errors over 3000 draws. With the second law many images have no box that fits."""
    n = 3000
    spec = replace(PLAIN, erase=1.0, erase_scale=scale)
    params = draw(n, spec, 20, seeded(11))
    assert params.erase is not None
    assert params.erase_box is not None
    theirs = v2.RandomErasing(1.0, scale)
    with torch.random.fork_rng():
        torch.manual_seed(12)
        drawn = [theirs.make_params([torch.empty(3, 20, 20)]) for _ in range(n)]
    boxes = torch.tensor([[d[name] for name in "ijhw"] for d in drawn if d["v"] is not None], dtype=torch.float32)
    share = len(boxes) / n
    assert abs(params.erase.float().mean().item() - share) <= 5 * (2 * share * (1 - share) / n) ** 0.5
    ours = params.erase_box[params.erase]
    for a, b in zip(ours.T, boxes.T, strict=True):
        error = (a.var() / len(a) + b.var() / len(b)).sqrt().item() + 1e-9
        assert abs(a.mean() - b.mean()).item() < 5 * error
    assert (ours[:, 0] + ours[:, 2] <= 20).all()
    assert (ours[:, 1] + ours[:, 3] <= 20).all()


COLOURLESS = replace(ALL, saturation=0.0, hue=0.0, grayscale=0.0, noise=0.0, mean=(0.5,), std=(0.25,))


@pytest.mark.parametrize("channels", [1, 2, 4, 5])
@pytest.mark.parametrize(("source", "size"), [(32, 32), (120, 40)])
def test_without_three_channels_each_is_treated_as_if_it_were_alone(channels: int, source: int, size: int) -> None:
    images = torch.cat([pictures(12, source, seed=2 * c)[:, :1] for c in range(channels)], 1)
    together = augment(images, COLOURLESS, size, seeded(13))
    assert together.shape == (12, channels, size, size)
    assert together.is_contiguous(memory_format=torch.channels_last)
    alone = [augment(images[:, c : c + 1], COLOURLESS, size, seeded(13)) for c in range(channels)]
    torch.testing.assert_close(together, torch.cat(alone, 1), atol=1e-5, rtol=0, check_stride=False)
    for dense in (True, False):
        params = draw(12, COLOURLESS, source, seeded(13), size=size, channels=channels)
        again = apply(images, params, COLOURLESS, size, dense=dense)
        torch.testing.assert_close(again, together, atol=1e-4, rtol=0)


def test_one_channel_is_torchvisions_gray_image() -> None:
    """Brightness and contrast; torchvision has no other colour operation for one channel."""
    spec = replace(PLAIN, jitter=1.0, brightness=0.8, contrast=0.8, mean=(0.0,), std=(1.0,))
    images = pictures(16, 12)[:, :1]
    params = draw(16, spec, 12, seeded(14), channels=1)
    ours = apply(images, params, spec, 12)
    for i, image in enumerate(images):
        x = image.float() / 255
        for operation in params.order[i].tolist():
            if operation < 2:
                x = (F.adjust_brightness, F.adjust_contrast)[operation](x, float(params.factors[i, operation]))
        torch.testing.assert_close(ours[i], x, atol=ROUNDING, rtol=0, check_stride=False)


@pytest.mark.parametrize("channels", [1, 2, 4])
def test_colour_operations_leave_other_channels_alone(channels: int) -> None:
    strong = {"jitter": 1.0, "brightness": 0.0, "contrast": 0.0, "saturation": 1.0, "hue": 0.5, "grayscale": 1.0}
    images = pictures(10, 16).repeat(1, 2, 1, 1)[:, :channels]
    ours = augment(images, replace(PLAIN, **strong, mean=(0.0,), std=(1.0,)), 16, seeded(15))
    torch.testing.assert_close(ours, images / 255, atol=ROUNDING, rtol=0, check_stride=False)


def test_means_for_another_number_of_channels_are_averaged() -> None:
    images = pictures(3, 8)[:, :2]
    ours = prepare(images, 8, (0.2, 0.4, 0.6), (0.1, 0.2, 0.6))
    torch.testing.assert_close(ours, (images / 255 - 0.4) / 0.3, atol=1e-5, rtol=0, check_stride=False)
    spec = ViewSpec(mean=(0.2, 0.4, 0.6), std=(0.1, 0.2, 0.6))
    assert torch.equal(to_uint8(ours, spec), images)
    five = prepare(pictures(3, 8).repeat(1, 2, 1, 1)[:, :5], 8, (0.0, 0.1, 0.2, 0.3, 0.4), (1.0,) * 5)
    assert five.shape == (3, 5, 8, 8)
