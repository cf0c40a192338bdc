"""`eigenview export`: the encoder of a run in another library's format."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from eigenview.commands.options import parse
from eigenview.terminal import write


@dataclass(frozen=True, kw_only=True)
class Export:
    """The encoder of a run in another library's format."""

    run: tyro.conf.Positional[Path]
    """The run directory."""
    format: Literal["timm", "torchvision", "onnx", "hf"] = "timm"
    """timm, torchvision: weights under the library's own names; onnx: a graph; hf: a hub folder for timm."""
    out: Path | None = None
    """Folder to write; default RUN/export-FORMAT."""


def main(args: list[str]) -> int:
    """Write the folder and print its path."""
    options: Export = parse(Export, args, "export")
    from eigenview.models.export import export

    write(str(export(options.run, options.format, options.out or options.run / f"export-{options.format}")))
    return 0
