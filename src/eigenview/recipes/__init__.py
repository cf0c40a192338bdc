"""Recipes: plain functions that return a RunConfig. `RECIPES` is what `eigenview list recipes` shows; `default` is what
`eigenview pretrain` starts from when no recipe is named.

A recipe of your own is any function without arguments: `eigenview pretrain --recipe my_module:my_recipe`.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from eigenview.config import RunConfig
from eigenview.errors import UserError, hint
from eigenview.methods import METHODS
from eigenview.recipes.small import for_digits, small

SMALL = "small images on a CPU or one GPU"
IMAGENET = {
    "imagenet-simclr": "simclr",
    "imagenet-vicreg": "vicreg",
    "imagenet-barlow-twins": "barlow_twins",
    "imagenet-byol": "byol",
    "imagenet-simsiam": "simsiam",
}
"""Name -> function in imagenet.py."""
RECIPES = {f"small-{name}": SMALL for name in METHODS} | dict.fromkeys(IMAGENET, "ResNet-50 as published")
"""Name -> one line. Importing a recipe imports torch, listing them does not."""


def load_recipe(name: str) -> RunConfig[Any]:
    """The config of a listed recipe, or of `MODULE:FUNCTION` on the user's own path."""
    if name in IMAGENET:
        from eigenview.recipes import imagenet

        return getattr(imagenet, IMAGENET[name])()
    if name in RECIPES:
        return small(name.removeprefix("small-"))
    module, colon, function = name.partition(":")
    if not colon:
        raise UserError(
            f"--recipe {name}: no such recipe. {hint(name, RECIPES)}"
            "(eigenview list recipes), or MODULE:FUNCTION for one of your own."
        )
    if not all(part.isidentifier() for part in (*module.split("."), function)):
        raise UserError(f"--recipe {name}: MODULE:FUNCTION is written as in Python, such as my_recipes:tiny.")
    try:
        make: Callable[[], RunConfig[Any]] = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError, SyntaxError) as error:
        raise UserError(f"--recipe {name}: {error}. It must name a function importable from here.") from error
    if not callable(make) or isinstance(make, type) or _arguments(make):
        raise UserError(f"--recipe {name}: give a function without arguments that returns an eigenview RunConfig.")
    config = make()
    if not isinstance(config, RunConfig):
        raise UserError(f"--recipe {name} returned {type(config).__name__}; a recipe returns an eigenview RunConfig.")
    return config


def _arguments(function: Callable[..., Any]) -> bool:
    """Whether a function cannot be called without arguments; False also for one whose signature is unknown."""
    try:
        inspect.signature(function).bind()
    except TypeError:
        return True
    except ValueError:  # written in C without a signature
        return False
    return False


OF_WEIGHTS = 0.1
"""Learning rate of an encoder that starts from weights, as a multiple of the heads'."""


def default(method: str, data: str, *, from_weights: bool = False, train: str | None = None) -> RunConfig[Any]:
    """Where `eigenview pretrain` starts: the small recipe of the method, in its digits form for the built-in digits.

    from_weights: the encoder is that of the weights that the run starts from, and moves slowly (experiment adapt).
    train: what of it is trained, if that is given. Adapters move as fast as the heads: of a step of theirs, which begin
    at B = 0 beside a layer of n inputs, their product gets 2 sqrt(R / 3n), a tenth for R = 8 and n = 768.
    """
    config = small(method)
    config = for_digits(config) if data == "digits" else config
    if not from_weights:
        return config
    if str(train).startswith("lora:"):
        return replace(config, encoder="auto")
    return replace(config, encoder="auto", optim=replace(config.optim, encoder_lr_factor=OF_WEIGHTS))
