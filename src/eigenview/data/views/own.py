"""Transforms of the user's: a function on a batch of views, named MODULE:FUNCTION so that a file can hold it.

    def my_transform(views, generator):
        # views: float32 (n, C, S, S), pixel values between 0 and 1; all random numbers come from `generator`
        return views

Free of torch, so that the configuration can name a function before torch is imported.
"""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from eigenview.errors import UserError, require

if TYPE_CHECKING:
    from torch import Generator, Tensor

OPTION = "augment.own"
SIGNATURE = "(views, generator) -> views, float (n, C, S, S) with pixel values between 0 and 1"


def name_of(function: Callable[..., Any]) -> str:
    """MODULE:FUNCTION of a function at the top of a module.

    Raises: UserError for anything that these two names would not find again, such as a lambda or a method.
    """
    module, name = inspect.getmodule(function), str(getattr(function, "__qualname__", ""))
    found = None if module is None or not name.isidentifier() else vars(module).get(name)
    allowed = "a function at the top of a module, so that config.json can name it as MODULE:FUNCTION"
    require(module is not None and found is function, OPTION, function, allowed)
    assert module is not None
    return f"{module.__name__}:{name}"


def module_of(name: str) -> str:
    """The module in MODULE:FUNCTION. Raises: UserError for another form."""
    module, colon, function = name.partition(":")
    is_named = bool(colon) and all(part.isidentifier() for part in (*module.split("."), function))
    require(is_named, OPTION, name, "MODULE:FUNCTION as in Python, such as my_transforms:stain")
    return module


def load_own(name: str) -> Callable[[Tensor, Generator], Tensor]:
    """The function MODULE:FUNCTION, imported from the user's path. In a notebook it is the one defined last.

    Raises: UserError if it is not there or does not take a batch of views and a generator.
    """
    module, function = module_of(name), name.partition(":")[2]
    try:
        found: Any = getattr(sys.modules.get(module) or importlib.import_module(module), function)
    except (ImportError, AttributeError, SyntaxError) as error:
        raise UserError(f"{OPTION} is {name!r}: {error}. It must name a function importable from here.") from error
    try:
        inspect.signature(found).bind(None, None)
    except TypeError as error:
        raise UserError(f"{OPTION} is {name!r}; allowed: a function {SIGNATURE}.") from error
    except ValueError:  # written in C without a signature
        pass
    return found
