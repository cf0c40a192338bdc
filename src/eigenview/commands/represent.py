"""What `embed` and `diagnose` share: an encoder from anywhere, applied to images from anywhere."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from eigenview.errors import UserError
from eigenview.progress import loading
from eigenview.terminal import Console

if TYPE_CHECKING:
    from eigenview.data.images import ImageSet
    from eigenview.models.saved import LoadedEncoder


def encoder_and_images(
    model: str,
    data: str,
    console: Console,
    *,
    labels: str = "auto",
    most: int | None = None,
    least: int = 1,
    architecture: str = "auto",
    image_size: int | None = None,
) -> tuple[LoadedEncoder, ImageSet]:
    """An encoder, and the images that `data` names, from which it makes representations.

    Args:
        model: run directory, encoder.safetensors, or weights (`load_encoder`).
        data: images, as for pretrain; train and test together.
        console: where progress and the number of unreadable files are shown.
        labels: auto, none, or a CSV file.
        least: fewest images; fewer are an error before any note on them is printed.
        architecture: of weights that do not name theirs.
        image_size: side in pixels to which images are brought; default: that of the run or of the weights.
        most: more images than this are reduced to a fixed random subset of this size, in their order.

    Raises:
        UserError: as `load_encoder` and `load_images`, and for fewer images than `least`.
    """
    with loading(console, "PyTorch"):
        import numpy as np

        from eigenview.data.load import find_source, load_images
        from eigenview.models.backbone import load_encoder

    encoder = load_encoder(model, encoder=architecture, image_size=image_size)
    show_loaded(model, encoder, console)
    sides = {"size": encoder.size, "source_size": encoder.source_size}
    found = find_source(data, labels)
    how = {"reading": encoder.reading, "is_decided": True, "console": console, "source": found}
    images = load_images(data, **sides, **how, split="all", most=most)
    if labels == "none":
        images = images.without_labels("no labels are used (--labels none)")
    if len(images) < least:
        left_out = f" and {len(images.skipped):,} that cannot be read" if images.skipped else ""
        raise UserError(
            f"{data} holds {len(images)} readable image{left_out}; allowed: {least} or more. Give more images."
        )
    for note in images.pixel_notes:
        console.print(f"{'pixels':9} {note}")
    if images.skipped:  # only a run writes the whole list, to skipped.csv
        first = images.skipped[0]
        text = f"left out: {len(images.skipped)} unreadable, the first {first.path}: {first.reason}"
        console.print(text)
    if most is not None and len(images) > most:  # a pack or a stream: rows of it are read when they are embedded
        images = images.take(np.sort(np.random.default_rng(0).permutation(len(images))[:most]))
    return encoder, images


def show_loaded(place: Path | str, encoder: LoadedEncoder, console: Console) -> None:
    """The line on what of the weights was loaded; none for a run of ours."""
    from eigenview.data.images import printable

    if encoder.loaded:
        console.print(f"{'weights':9} {printable(f'{place}: {encoder.loaded}')}")
