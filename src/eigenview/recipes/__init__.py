"""Recipes: plain functions that return a RunConfig. `RECIPES` is what `eigenview list recipes` shows; `default` is what
`eigenview pretrain` starts from when no recipe is named.

A recipe of your own is any function without arguments: `eigenview pretrain --recipe my_module:my_recipe`.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable
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


def default(method: str, data: str) -> RunConfig[Any]:
    """Where `eigenview pretrain` starts: the small recipe of the method, in its digits form for the built-in digits."""
    config = small(method)
    return for_digits(config) if data == "digits" else config
