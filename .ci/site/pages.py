"""The pages of the site that are made from the code: methods, help texts and the Python API. Free of mkdocs.

A new method, or a module in functional/, theory/ or diagnostics/, gets its page or its section without a change here.
"""

from __future__ import annotations

import contextlib
import io
import os
from pathlib import Path

from method_pages import method_page, methods_page

import eigenview
from eigenview.cli import run
from eigenview.methods import METHODS, module_name

ROOT = Path(__file__).resolve().parents[2]
HELP_WIDTH = "82"
"""Columns of a help text: as many as fit beside the navigation at 1280 pixels."""
OUTSIDE = {"index.md": "README.md", "contributing.md": "CONTRIBUTING.md", "security.md": "SECURITY.md"}
"""Page -> the file at the root of the repository that it shows."""
PACKAGES = {
    "functional": "Pure tensor mathematics: moments, similarities, spectra, predictors, and the statistics of a batch.",
    "theory": "Training dynamics of linear joint embedding, in float64 and without torch.",
    "diagnostics": "What an embedding looks like, and whether it collapsed.",
}
"""Packages whose modules are documented, with the first sentence of their page."""
METHOD_API = (
    *("methods.parts.method.Objective", "methods.parts.method.Method", "views.Loss"),
    *("records.MethodConfig", "records.Card", "records.Needs"),
)


def generated() -> dict[str, str]:
    """Path below docs/ -> Markdown, of every page that is made from the code."""
    methods = {f"methods/{name}.md": method_page(name) for name in METHODS}
    packages = {f"api/{name}.md": package_page(name) for name in PACKAGES}
    apis = {"api/eigenview.md": exports_page(), "api/methods.md": method_api_page()} | packages
    return {"methods/index.md": methods_page()} | methods | apis


def help_text(verb: str) -> str:
    """What `eigenview VERB --help` prints."""
    printed, columns = io.StringIO(), os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = HELP_WIDTH
    try:
        with contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit):  # tyro ends a help text so
            run([verb, "--help"])
    finally:
        os.environ.pop("COLUMNS")
        if columns is not None:
            os.environ["COLUMNS"] = columns
    return "\n".join(line.rstrip() for line in printed.getvalue().strip().splitlines())


def help_section(verb: str) -> str:
    """The help text of a verb, for the end of its page."""
    return f"\n## All options\n\n```text\n$ eigenview {verb} --help\n\n{help_text(verb)}\n```\n"


def exports_page() -> str:
    """What `import eigenview as ev` gives, other than the methods."""
    of_methods = {module_name(name) for name in METHODS}
    parts = [
        "# eigenview\n\nThe names of `import eigenview as ev`. They are imported on first use: the import itself does "
        "not load torch. The class of every [method](../methods/index.md) and its options are names of the package "
        "too, such as `ev.VICReg` and `ev.VICRegConfig`."
    ]
    exports = [(name, module) for name, module in eigenview._exports().items() if module not in of_methods]
    exports.sort(key=lambda each: each[0][0].isupper())  # functions, then classes
    parts += [f"::: {module}.{name}" for name, module in exports]
    return "\n\n".join(parts) + "\n"


def method_api_page() -> str:
    """What all methods have in common: the classes that the page on adding a method names."""
    parts = [
        "# Objectives and methods\n\nWhat every method of the package is made of. The losses themselves: "
        "[methods](../methods/index.md). How to write one: [adding a method](../add-a-method.md)."
    ]
    return "\n\n".join([*parts, *(f"::: eigenview.{name}" for name in METHOD_API)]) + "\n"


def package_page(name: str) -> str:
    """A package's modules, each under its own heading."""
    files = sorted((ROOT / "src/eigenview" / name).glob("[!_]*.py"))
    parts = [f"# eigenview.{name}\n\n{PACKAGES[name]}", *(f"::: eigenview.{name}.{file.stem}" for file in files)]
    return "\n\n".join(parts) + "\n"
