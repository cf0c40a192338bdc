"""The views of a run: the specification of each, and how a step makes them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from eigenview.config import RunConfig
from eigenview.data.images import ImageSet
from eigenview.data.views.augment import augment
from eigenview.data.views.own import load_own
from eigenview.data.views.presets import preset_for_size, require_preset, view_specs
from eigenview.data.views.specs import ViewSpec, per_channel
from eigenview.errors import require

TRIED = 8
"""Images on which transforms of one's own are tried before anything is written."""


def check_augmentation(config: RunConfig[Any]) -> None:
    """Raises UserError for a preset or a transform of one's own that is not there. Needs no images."""
    require_preset(config.augmentation)
    for name in config.augment.transforms():
        load_own(name)


def try_transforms(images: ImageSet, specs: tuple[ViewSpec, ...], size: int, device: torch.device) -> None:
    """Raises UserError if a transform of one's own returns another shape or values that are not finite."""
    if all(spec.own is None for spec in specs):
        return
    tried = torch.from_numpy(images.read(np.arange(min(TRIED, len(images))))).to(device)
    for spec, view in zip(specs, make_views(tried, specs, size, seed=0), strict=True):
        require(bool(view.isfinite().all()), f"the result of augment.own {spec.own}", "not finite", "finite numbers")


def run_specs(
    config: RunConfig[Any], size: int, channels: int = 3, start: Callable[[ViewSpec], ViewSpec] | None = None
) -> tuple[ViewSpec, ...]:
    """The ViewSpec of each view of a run whose views have `size` pixels, then those of the local crops.

    `start` changes what the preset has, before the options of `augment` do: what weights ask of their images. Means and
    deviations are those of `channels` channels, so that all that uses the encoder has one for each.

    Raises: UserError for a local crop that is not smaller than a view, or a blur whose kernel is too wide for its view.
    """
    small = config.local_size or size // 2
    require(small < size or not config.local_views, "--local-size", small, f"below the views' {size} px")
    natural = preset_for_size(config.method.card.augmentation, size)
    preset = "digits" if (config.augmentation, config.data) == ("auto", "digits") else config.augmentation

    def changed(count: int) -> list[ViewSpec]:
        specs = view_specs(preset, count, natural=natural) if count else ()
        begun = specs if start is None else map(start, specs)
        return [replace(spec, **config.augment.changes(view)) for view, spec in enumerate(begun)]

    local = [replace(spec, size=small, crop_scale=config.local_scale) for spec in changed(config.local_views)]
    specs = tuple(
        replace(spec, mean=per_channel(spec.mean, channels), std=per_channel(spec.std, channels))
        for spec in (*changed(config.views), *local)
    )
    for spec in specs:
        if spec.blur > 0:
            spec.kernel_width(spec.size or size)
    return specs


def make_views(
    images: Tensor, specs: tuple[ViewSpec, ...], size: int, seed: int, *, is_compiled: bool = False
) -> tuple[Tensor, ...]:
    """The augmented views of a uint8 batch (N C S S), on its device: a function of images, specs and seed alone.

    `size`: side of the views whose spec has none.
    """
    generator = torch.Generator(device=images.device).manual_seed(seed)
    return tuple(augment(images, spec, spec.size or size, generator, is_compiled=is_compiled) for spec in specs)
