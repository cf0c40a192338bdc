"""Recipes: plain functions that return a RunConfig. `RECIPES` is what `eigenview list recipes` shows; `default` is what
`eigenview pretrain` starts from when no recipe is named.

A recipe of your own is any function without arguments: `eigenview pretrain --recipe my_module:my_recipe`.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from eigenview.config import RunConfig
from eigenview.errors import UserError, nearest

# name -> module, function, one line (importing them imports torch, listing them does not)
RECIPES: dict[str, tuple[str, str, str]] = {
    "small-simclr": ("small", "simclr", "small images on a CPU or one GPU"),
    "small-directclr": ("small", "directclr", "small images on a CPU or one GPU"),
    "small-infonce": ("small", "infonce", "small images on a CPU or one GPU"),
    "small-vicreg": ("small", "vicreg", "small images on a CPU or one GPU"),
    "small-unbiased-vicreg": ("small", "unbiased_vicreg", "small images on a CPU or one GPU"),
    "small-barlow-twins": ("small", "barlow_twins", "small images on a CPU or one GPU"),
    "small-byol": ("small", "byol", "small images on a CPU or one GPU"),
    "small-simsiam": ("small", "simsiam", "small images on a CPU or one GPU"),
    "small-directcopy": ("small", "directcopy", "small images on a CPU or one GPU"),
    "small-directpred": ("small", "directpred", "small images on a CPU or one GPU"),
    "small-directset": ("small", "directset", "small images on a CPU or one GPU"),
    "small-isoloss": ("small", "isoloss", "small images on a CPU or one GPU"),
    "imagenet-simclr": ("imagenet", "simclr", "ResNet-50 as published"),
    "imagenet-vicreg": ("imagenet", "vicreg", "ResNet-50 as published"),
    "imagenet-barlow-twins": ("imagenet", "barlow_twins", "ResNet-50 as published"),
    "imagenet-byol": ("imagenet", "byol", "ResNet-50 as published"),
    "imagenet-simsiam": ("imagenet", "simsiam", "ResNet-50 as published"),
}


def load_recipe(name: str) -> RunConfig[Any]:
    """The config of a listed recipe, or of `MODULE:FUNCTION` on the user's own path."""
    if name in RECIPES:
        module, function, _ = RECIPES[name]
        return getattr(importlib.import_module(f"eigenview.recipes.{module}"), function)()
    module, colon, function = name.partition(":")
    if not colon:
        raise UserError(
            f"--recipe {name}: no such recipe. {nearest(name, RECIPES)} "
            "(eigenview list recipes), or MODULE:FUNCTION for one of your own."
        )
    try:
        make: Callable[[], RunConfig[Any]] = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError, ValueError) as error:  # ValueError: no module's name before the colon
        raise UserError(f"--recipe {name}: {error}. It must name a function importable from here.") from error
    config = make()
    if not isinstance(config, RunConfig):
        raise UserError(f"--recipe {name} returned {type(config).__name__}; a recipe returns an eigenview RunConfig.")
    return config


def default(method: str, data: str) -> RunConfig[Any]:
    """Where `eigenview pretrain` starts: the small recipe of the method, in its digits form for the built-in digits."""
    from eigenview.methods import objective_class
    from eigenview.recipes.small import for_digits

    objective_class(method)  # an unknown method is refused with the nearest name
    config = load_recipe(f"small-{method}")
    return for_digits(config) if data == "digits" else config
