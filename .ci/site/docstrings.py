"""Griffe extension: docstrings as docstrings_text.py writes them."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import griffe

sys.path.insert(0, str(Path(__file__).parent))  # griffe imports this file alone

from docstrings_text import markdown


class PlainDocstrings(griffe.Extension):
    """Rewrites every docstring when its object is complete."""

    def __init__(self) -> None:
        super().__init__()
        self.done: list[griffe.Docstring] = []  # two classes may have one docstring, which is rewritten once

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Rewrite the docstring of any object."""
        if obj.docstring is not None and not any(each is obj.docstring for each in self.done):
            self.done.append(obj.docstring)
            obj.docstring.value = markdown(obj.docstring.value)

    def on_package(self, *, pkg: griffe.Module, **kwargs: Any) -> None:
        """A class with `__doc__ = Other.__doc__` gets the docstring of the other."""
        for module in pkg["methods"].modules.values():
            for kind in module.classes.values():
                named = re.fullmatch(r"(\w+)\.__doc__", str(getattr(kind.members.get("__doc__"), "value", "")))
                if named:
                    kind.docstring = module[named[1]].docstring
                    kind.del_member("__doc__")
