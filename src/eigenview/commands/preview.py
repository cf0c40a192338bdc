"""`eigenview preview`: originals and their views on one sheet, before any training."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

from eigenview.commands.grouped import COMMAND, Command
from eigenview.commands.pretrain import parsed, show_help
from eigenview.config import RunConfig
from eigenview.config.names import refuse_old_flags
from eigenview.errors import UserError, require
from eigenview.terminal import Console, write

SUFFIXES = (".png", ".html")
PREVIEW: Command = {
    "method_name": COMMAND["method_name"],
    "recipe": COMMAND["recipe"],
    "out": (Path, Path("preview.png"), "The sheet to write: .png or .html."),
    "images": (int, 8, "Images on the sheet: the first of the first batch of training."),
}
"""Its options beside those of a run."""


def main(args: list[str]) -> int:
    """Write the sheet; print what each view does."""
    refuse_old_flags(args)
    if {"-h", "--help"} & set(args):
        return show_help(args, "preview", PREVIEW)
    config, options = parsed(args, "preview", PREVIEW)
    _preview(config, options.images, options.out, ["eigenview", "preview", *args])
    return 0


def _preview(config: RunConfig[Any], images: int, out: Path, command: list[str]) -> None:
    share = config.batch_size // config.devices
    require(1 <= images <= share, "--images", images, f"1 up to {share}, a batch of one process")
    _check_out(out)
    from eigenview.progress import loading
    from eigenview.report.sheet import write_sheet

    console = Console(stderr=True)
    with loading(console, "PyTorch"):
        from eigenview.data.images import printable
        from eigenview.engine.preview import first_views

    columns = first_views(config, images, console)
    write_sheet(out, columns, command=shlex.join(command))
    for column in columns:
        write(f"{column.title:9} {printable(column.text)}")
    write(f"{'sheet':9} {out}: {images} images of the first batch of {config.batch_size}")


def _check_out(out: Path) -> None:
    """Raises UserError unless a sheet can have this name and place; called before images are loaded."""
    require(out.suffix.lower() in SUFFIXES, "--out", str(out), "a file that ends in .png or .html")
    if not out.parent.is_dir():
        raise UserError(f"--out {out}: the folder {out.parent} does not exist. Create it, or choose another --out.")
    if out.is_dir():
        raise UserError(f"--out {out} is a folder; allowed: a file that ends in .png or .html.")
