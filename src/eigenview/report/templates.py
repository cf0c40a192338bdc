"""The templates of pages: all that comes from a run or a user is escaped, and a name that is missing is an error."""

from __future__ import annotations

from jinja2 import Environment, PackageLoader, StrictUndefined


def page_templates() -> Environment:
    """The environment of report/template."""
    return Environment(
        loader=PackageLoader("eigenview.report", "template"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
