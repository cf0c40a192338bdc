"""The random parameters of one view of a batch.

The operations of the published presets (crop, flip, colour jitter, grayscale, blur, solarisation) share one block of
uniform numbers of constant size. Every other operation has its own generator, whose seed is made from the operation's
name and the state of the view's generator before the view. It draws only if the view uses the operation, so that using
one never moves the numbers of another, of this view or a later one.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from eigenview.data.views.specs import ViewSpec

CROP_TRIES = 10  # proposals of RandomResizedCrop before it falls back to the centre
ERASE_TRIES = 10  # proposals of RandomErasing before it leaves the image as it is


@dataclass(frozen=True, kw_only=True)
class Params:
    """Everything random about one view of N images. Each field has N rows; boxes are in source pixels, as floats.

    The fields that may be None belong to operations that the view does not use.
    """

    top: Tensor
    left: Tensor
    height: Tensor
    width: Tensor
    flip: Tensor  # bool
    jitter: Tensor  # bool
    order: Tensor  # (N 4) operation at each place: 0 brightness, 1 contrast, 2 saturation, 3 hue
    factors: Tensor  # (N 3) of brightness, contrast, saturation
    hue: Tensor  # turns
    grayscale: Tensor  # bool
    blur: Tensor  # bool
    sigma: Tensor  # pixels of the view
    solarize: Tensor  # bool
    vertical_flip: Tensor | None = None  # bool
    quarter_turns: Tensor | None = None  # 0 to 3, counter-clockwise
    rotate: Tensor | None = None  # bool
    angle: Tensor | None = None  # degrees, counter-clockwise
    noise: Tensor | None = None  # bool
    noise_sigma: Tensor | None = None  # of pixel values between 0 and 1
    noise_field: Tensor | None = None  # (N C size size) standard normal
    erase: Tensor | None = None  # bool
    erase_box: Tensor | None = None  # (N 4) top, left, height, width in pixels of the view

    def mapped(self, function: Callable[[Tensor], Tensor]) -> Params:
        """The parameters with `function` applied to each field that is not None."""
        values: dict[str, Any] = {f.name: getattr(self, f.name) for f in fields(self)}
        return Params(**{name: function(value) for name, value in values.items() if value is not None})

    def rows(self, part: slice) -> Params:
        """The parameters of some of the images."""
        return self.mapped(lambda value: value[part])


def own_generator(state: bytes, name: str, device: torch.device) -> torch.Generator:
    """A generator whose seed is a function of `name` and of `state`, which `state_of` returned."""
    key = hashlib.blake2b(state + name.encode(), digest_size=8).digest()
    return torch.Generator(device=device).manual_seed(int.from_bytes(key, "little") >> 1)


def state_of(generator: torch.Generator) -> bytes:
    """The state of a generator; a GPU's is kept on the host, so that nothing waits for the device."""
    return generator.get_state().numpy().tobytes()


def draw(
    n: int, spec: ViewSpec, source: int, generator: torch.Generator, *, size: int | None = None, channels: int = 3
) -> Params:
    """Parameters of one view for `n` square images of side `source`, on the generator's device.

    `size` and `channels` of the view are needed for noise and erasing; `size` defaults to `source`.

    Law: that of torchvision's RandomResizedCrop, RandomHorizontalFlip, RandomVerticalFlip, RandomApply(RandomRotation),
    RandomApply(ColorJitter), RandomGrayscale, RandomApply(GaussianBlur), RandomSolarize, RandomApply(GaussianNoise) and
    RandomErasing; a quarter turn is by 90, 180 or 270 degrees with equal probability. A call always takes the same
    count of uniform numbers from `generator`, whatever the probabilities, so that two specs that differ in one
    probability share everything else.
    """
    more = _drawn_by_name(n, spec, generator, source if size is None else size, channels)
    uniform = torch.rand(2 * CROP_TRIES + 16, n, device=generator.device, generator=generator)
    area, ratio, position, chance, factor, place, last = uniform.split([CROP_TRIES, CROP_TRIES, 2, 5, 4, 4, 1])
    height, width, proper = _box(area, ratio, spec, source)
    top = torch.where(proper, (position[0] * (source - height + 1)).floor(), ((source - height) / 2).floor())
    left = torch.where(proper, (position[1] * (source - width + 1)).floor(), ((source - width) / 2).floor())
    amounts = (spec.brightness, spec.contrast, spec.saturation)
    factors = [_between(u, max(0.0, 1 - v), 1 + v) for u, v in zip(factor, amounts, strict=False)]
    return Params(
        top=torch.minimum(top, source - height),  # u (m + 1) can round up to m + 1 for the largest u
        left=torch.minimum(left, source - width),
        height=height,
        width=width,
        flip=chance[0] < spec.flip,
        jitter=chance[1] < spec.jitter,
        order=place.argsort(0).T,
        factors=torch.stack(factors, 1),
        hue=_between(factor[3], -spec.hue, spec.hue),
        grayscale=chance[2] < spec.grayscale,
        blur=chance[3] < spec.blur,
        sigma=_between(last[0], *spec.blur_sigma),
        solarize=chance[4] < spec.solarize,
        **more,
    )


def _between(u: Tensor, low: float, high: float) -> Tensor:
    return low + (high - low) * u


def _box(area: Tensor, ratio: Tensor, spec: ViewSpec, source: int) -> tuple[Tensor, Tensor, Tensor]:
    """Height, width and whether a proposal fitted: the first of the proposals (tries N) that lies inside the image.

    Where none does, torchvision takes the largest central box whose ratio is allowed: for a square image the
    whole of it, unless every allowed ratio is on one side of 1.
    """
    pixels = _between(area, *spec.crop_scale) * source**2
    shape = _between(ratio, math.log(spec.crop_ratio[0]), math.log(spec.crop_ratio[1])).exp()
    width, height = (pixels * shape).sqrt().round(), (pixels / shape).sqrt().round()
    fits = (width > 0) & (width <= source) & (height > 0) & (height <= source)
    first = fits.long().argmax(0, keepdim=True)  # ties resolve to the first
    proper = fits.any(0)
    low, high = spec.crop_ratio
    central_height = round(source / low) if low > 1 else source
    central_width = round(source * high) if high < 1 else source
    height = torch.where(proper, height.gather(0, first)[0], float(central_height))
    width = torch.where(proper, width.gather(0, first)[0], float(central_width))
    return height, width, proper


def _drawn_by_name(n: int, spec: ViewSpec, generator: torch.Generator, size: int, channels: int) -> dict[str, Tensor]:
    """Parameters of the operations with a generator of their own, for those that the view uses."""
    if not any((spec.vertical_flip, spec.quarter_turn, spec.rotate, spec.noise, spec.erase)):
        return {}
    device, state, found = generator.device, state_of(generator), {}

    def uniform(rows: int, own: torch.Generator) -> Tensor:
        return torch.rand(rows, n, device=device, generator=own)

    if spec.vertical_flip > 0:
        u = uniform(1, own_generator(state, "vertical_flip", device))
        found["vertical_flip"] = u[0] < spec.vertical_flip
    if spec.quarter_turn > 0:
        u = uniform(2, own_generator(state, "quarter_turn", device))
        turns = (3 * u[1]).long().clamp_(max=2) + 1  # 3 u can round up to 3
        found["quarter_turns"] = torch.where(u[0] < spec.quarter_turn, turns, 0)
    if spec.rotate > 0:
        u = uniform(2, own_generator(state, "rotate", device))
        found["rotate"] = u[0] < spec.rotate
        found["angle"] = _between(u[1], -spec.rotate_angle, spec.rotate_angle)
    if spec.noise > 0:
        own = own_generator(state, "noise", device)
        u = uniform(2, own)
        found["noise"], found["noise_sigma"] = u[0] < spec.noise, _between(u[1], *spec.noise_sigma)
        found["noise_field"] = torch.randn(n, channels, size, size, device=device, generator=own)
    if spec.erase > 0:
        u = uniform(2 * ERASE_TRIES + 3, own_generator(state, "erase", device))
        box, fits = _erased(u[1:], spec, size)
        found["erase"], found["erase_box"] = (u[0] < spec.erase) & fits, box
    return found


def _erased(u: Tensor, spec: ViewSpec, size: int) -> tuple[Tensor, Tensor]:
    """Box (N 4: top, left, height, width) of the first proposal that is smaller than the view, and whether one was."""
    area, ratio, position = u.split([ERASE_TRIES, ERASE_TRIES, 2])
    pixels = _between(area, *spec.erase_scale) * size**2
    shape = _between(ratio, math.log(spec.erase_ratio[0]), math.log(spec.erase_ratio[1])).exp()
    height, width = (pixels * shape).sqrt().round(), (pixels / shape).sqrt().round()
    fits = (height < size) & (width < size)
    first = fits.long().argmax(0, keepdim=True)
    height, width = height.gather(0, first)[0], width.gather(0, first)[0]
    top = torch.minimum((position[0] * (size - height + 1)).floor(), size - height)
    left = torch.minimum((position[1] * (size - width + 1)).floor(), size - width)
    return torch.stack([top, left, height, width], 1), fits.any(0)
