"""`eigenview embed`: representations of images in a file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import tyro

from eigenview.commands.options import parse
from eigenview.commands.represent import encoder_and_images
from eigenview.progress import counting
from eigenview.terminal import Console, write


@dataclass(frozen=True, kw_only=True)
class Embed:
    """Representations of images in a file: Parquet or CSV with index, path and label (if there are any) and h, or .npy
    with h alone."""

    run: tyro.conf.Positional[str]
    """Run directory, encoder.safetensors, or weights: a file, a folder of timm, timm:NAME, hf:OWNER/NAME."""
    images: tyro.conf.Positional[str]
    """Images, as for pretrain."""
    encoder: str = "auto"
    """Architecture of weights that do not name theirs: timm:NAME, torchvision:NAME, or one of eigenview's own."""
    image_size: int | None = None
    """Side in pixels to which images are brought; default: that of the run or of the weights."""
    labels: str = "auto"
    """Labels of the images, as for pretrain: auto, none, or a CSV file with the columns path and label."""
    out: Path = Path("embeddings.parquet")
    """The file to write; its suffix decides the format: .parquet, .csv or .npy."""


def main(args: list[str]) -> int:
    """Write the file and print its size."""
    options: Embed = parse(Embed, args, "embed")
    rows, width = embed_images(
        options.run,
        options.images,
        options.out,
        Console(stderr=True),
        labels=options.labels,
        architecture=options.encoder,
        image_size=options.image_size,
    )
    write(f"{options.out}: {rows:,} rows, {width} wide")
    return 0


def embed_images(
    model: str,
    images: str,
    out: Path,
    console: Console,
    *,
    labels: str = "auto",
    architecture: str = "auto",
    image_size: int | None = None,
) -> tuple[int, int]:
    """Write a file of representations, a block at a time; returns the number of rows and the width.

    Raises:
        UserError: a suffix that names no format, a folder that does not exist, and as `encoder_and_images`.
    """
    from eigenview.embeddings_file import check_out, write_embeddings

    check_out(out)
    sides = {"architecture": architecture, "image_size": image_size}
    encoder, found = encoder_and_images(model, images, console, labels=labels, **sides)
    from eigenview.data.images import printable
    from eigenview.data.pixels.byte_ranges import original
    from eigenview.probes.features import feature_blocks

    def texts(first: int, count: int) -> dict[str, list[int] | list[str]]:
        rows = slice(first, first + count)
        columns: dict[str, list[int] | list[str]] = {"index": list(range(first, first + count))}
        if found.paths:
            columns["path"] = [printable(original(path)) for path in found.paths[rows]]
        if found.labels is not None:
            columns["label"] = ["" if k < 0 else found.class_names[k] for k in found.labels[rows]]
        return columns

    with counting(console, "embedding") as progress:
        blocks = feature_blocks(encoder.embed, found, progress=progress)
        write_embeddings(out, blocks, texts, rows=len(found), width=encoder.width)
    return len(found), encoder.width
