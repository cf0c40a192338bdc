"""How every verb reads its options: tyro with one set of conventions."""

from __future__ import annotations

from typing import Any

import tyro

# marks a field whose own fields become options without a prefix: --epochs, not --run.epochs
FLAT = tyro.conf.arg(name="")


def parse(kind: Any, args: list[str], verb: str, default: Any = None, description: str | None = None) -> Any:
    """An instance of the dataclass `kind`: hyphens in option names, no subcommands, all of the help on one page.

    Exits with code 2 for an unknown option or a value of the wrong type, and with 0 after --help.
    """
    config = (tyro.conf.FlagCreatePairsOff, tyro.conf.AvoidSubcommands)
    keywords = {} if default is None else {"default": default}
    return tyro.cli(kind, args=args, prog=f"eigenview {verb}", description=description, config=config, **keywords)
