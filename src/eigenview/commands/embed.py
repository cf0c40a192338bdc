"""`eigenview embed`: representations of images in a Parquet file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from eigenview import runfiles
from eigenview.commands.options import parse
from eigenview.commands.represent import represent
from eigenview.errors import UserError
from eigenview.terminal import Console, write


@dataclass(frozen=True, kw_only=True)
class Embed:
    """Representations of images as a Parquet file: columns index, path and label (if there are any), h."""

    run: tyro.conf.Positional[str]
    """Run directory, encoder.safetensors, or timm:NAME."""
    images: tyro.conf.Positional[str]
    """Images, as for pretrain."""
    out: Path = Path("embeddings.parquet")
    """The file to write."""


def main(args: list[str]) -> int:
    """Write the Parquet file and print its size."""
    options: Embed = parse(Embed, args, "embed")
    rows, width = embed_images(options.run, options.images, options.out, Console(stderr=True))
    write(f"{options.out}: {rows:,} rows, {width} wide")
    return 0


def embed_images(model: str, images: str, out: Path, console: Console) -> tuple[int, int]:
    """Write a Parquet file of representations; returns the number of rows and the width.

    Raises:
        UserError: the folder of `out` does not exist, and as `represent`.
    """
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    from eigenview.data.images import printable

    if out.suffix.lower() != ".parquet":
        raise UserError(f"--out {out}: the file is written as Parquet; give it a name that ends in .parquet.")
    if not out.parent.is_dir():
        raise UserError(f"--out {out}: the folder {out.parent} does not exist. Create it, or choose another --out.")
    found, h = represent(model, images, console)
    columns: dict[str, Any] = {"index": pa.array(np.arange(len(found)))}
    if found.paths:
        columns["path"] = pa.array([printable(path) for path in found.paths])
    if found.labels is not None:
        columns["label"] = pa.array([found.class_names[k] for k in found.labels])
    columns["h"] = pa.FixedSizeListArray.from_arrays(pa.array(h.reshape(-1)), h.shape[1])
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(columns), sink)
    runfiles.write_bytes(out, sink.getvalue().to_pybytes())
    return h.shape
