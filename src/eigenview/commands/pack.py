"""`eigenview pack`: images decoded once, into a folder for repeated runs."""

from __future__ import annotations

from eigenview.commands.options import parse
from eigenview.config.names import refuse_old_flags
from eigenview.data.packing import PackOptions, write_pack
from eigenview.terminal import Console, write


def main(args: list[str]) -> int:
    """Write the pack and print what it holds."""
    refuse_old_flags(args)
    options: PackOptions = parse(PackOptions, args, "pack")
    write(write_pack(options, Console(stderr=True)).summary())
    return 0
