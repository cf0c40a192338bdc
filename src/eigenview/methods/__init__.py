"""The methods, one file each. `METHODS` is the one line per method that users see, in the order of their lists.

Every file holds its config (options, card, needs; free of torch), the paper's lines and a thin module. `config_class`
imports torch; `declared` reads a config and its card without importing it, for lists and help.
"""

from __future__ import annotations

import importlib

from eigenview.errors import UserError, hint
from eigenview.methods.parts.declared import declared, defined_classes, defined_config
from eigenview.records import Card, MethodConfig

METHODS = (
    "simclr",
    "directclr",
    "infonce",
    "vicreg",
    "unbiased-vicreg",
    "barlow-twins",
    "byol",
    "simsiam",
    "directcopy",
    "directpred",
    "directset",
    "isoloss",
)
"""Names on the command line; the file of each has underscores in place of hyphens."""


def module_name(method: str) -> str:
    """The module of a method: a file of this folder, or, for a name with a dot, any module that can be imported."""
    if "." in method:
        if not all(part.isidentifier() for part in method.split(".")):
            raise UserError(f"--method {method}: a module is named as in Python, such as my_methods.centred.")
        return method
    if method == "__main__":
        raise UserError(
            "the method's config is defined in the program that was started, which a resumed run could not import: "
            "move it into a module of a package, such as my_methods/centred.py (docs/add-a-method.md)."
        )
    if method not in METHODS:
        raise UserError(f"--method {method}: no such method. {hint(method, METHODS)}(eigenview list methods)")
    return f"{__name__}.{method.replace('-', '_')}"


def config_class(method: str) -> type[MethodConfig]:
    """The config class of a method. Raises UserError for an unknown name, with the hint one."""
    try:
        module = importlib.import_module(module_name(method))
    except ModuleNotFoundError as error:
        raise UserError(f"--method {method}: {error}. It must name a module that can be imported from here.") from error
    return defined_config(vars(module), module.__name__)


def declared_config(method: str) -> type[MethodConfig]:
    """As `config_class`, without importing torch: for help and lists only."""
    return declared(module_name(method))


def card(method: str) -> Card:
    """The card of a method, without importing torch."""
    return declared_config(method).card


def exported() -> dict[str, str]:
    """Class name -> module of all classes that the method files define, without importing torch."""
    return {name: module_name(method) for method in METHODS for name in defined_classes(module_name(method))}
