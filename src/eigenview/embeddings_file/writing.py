"""Write embeddings block by block, as they are computed, into a file that appears when it is complete."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np

from eigenview import runfiles
from eigenview.data.opening import why
from eigenview.errors import UserError

GROUP_BYTES = 32_000_000
"""Of the vectors in a row group of a Parquet file, which readers take at once."""

Texts = Callable[[int, int], Mapping[str, Sequence[Any]]]
"""(first row, number of rows) -> columns beside the vectors: index (int), path, label (text)."""


def check_out(out: Path) -> None:
    """Raises UserError unless a file of embeddings can have this name and place; called before anything is computed."""
    if out.suffix.lower() not in WRITTEN:
        given = f"the suffix {out.suffix}" if out.suffix else "no suffix"
        raise UserError(
            f"--out {out} has {given}; allowed: .parquet or .csv (index, path, label and vector of each image), or "
            ".npy (the vectors alone)."
        )
    if not out.parent.is_dir():
        raise UserError(f"--out {out}: the folder {out.parent} does not exist. Create it, or choose another --out.")


def write_embeddings(out: Path, blocks: Iterable[np.ndarray], texts: Texts, *, rows: int, width: int) -> None:
    """Write float32 `blocks` (n, width), `rows` rows in all, in the format that the suffix names.

    The file is written beside `out` and renamed when it is complete; memory is that of a row group.

    Raises: UserError if it cannot be written. What `blocks` raises is passed on, and then `out` is as it was.
    """
    try:
        runfiles.delete_leftovers(out)
        with runfiles.atomic_write(out) as file:
            WRITTEN[out.suffix.lower()](file, blocks, texts, rows, width)
    except OSError as error:
        raise UserError(f"{out} cannot be written: {why(error)}. Free space or choose another --out.") from error


def _write_npy(file: IO[bytes], blocks: Iterable[np.ndarray], texts: Texts, rows: int, width: int) -> None:
    header = {"descr": np.lib.format.dtype_to_descr(np.dtype("<f4")), "fortran_order": False, "shape": (rows, width)}
    np.lib.format.write_array_header_1_0(file, header)
    for block in blocks:
        file.write(np.ascontiguousarray(block, "<f4").data)


def _write_csv(file: IO[bytes], blocks: Iterable[np.ndarray], texts: Texts, rows: int, width: int) -> None:
    """Columns of `texts`, and h0, h1, ... with as many digits as tell one float32 from the next."""
    import pyarrow as pa
    from pyarrow.csv import CSVWriter, WriteOptions

    names = [f"h{k}" for k in range(width)]
    schema = pa.schema([*_fields(texts), *((name, pa.float32()) for name in names)])
    with CSVWriter(file, schema, write_options=WriteOptions(quoting_style="needed", quoting_header="none")) as writer:
        first = 0
        for block in blocks:
            h = zip(names, np.ascontiguousarray(block.T), strict=True)
            writer.write_table(pa.table({**texts(first, len(block)), **dict(h)}, schema=schema))
            first += len(block)


def _write_parquet(file: IO[bytes], blocks: Iterable[np.ndarray], texts: Texts, rows: int, width: int) -> None:
    """Columns of `texts`, and h as a list of fixed length."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema([*_fields(texts), ("h", pa.list_(pa.float32(), width))])
    with pq.ParquetWriter(file, schema) as writer:
        first = 0
        for group in _groups(blocks, min(rows, max(1, GROUP_BYTES // (4 * width))), width):
            columns = dict(texts(first, len(group)))
            h = pa.FixedSizeListArray.from_arrays(pa.array(group.reshape(-1)), width)
            writer.write_table(pa.table({**columns, "h": h}, schema=schema))
            first += len(group)


def _fields(texts: Texts) -> list[tuple[str, Any]]:
    import pyarrow as pa

    return [(name, pa.int64() if name == "index" else pa.string()) for name in texts(0, 0)]


def _groups(blocks: Iterable[np.ndarray], most: int, width: int) -> Iterator[np.ndarray]:
    """The same rows in blocks of `most`; each is valid until the next."""
    group, held = np.empty((most, width), np.float32), 0
    for block in blocks:
        while len(block):
            taken = block[: most - held]
            group[held : held + len(taken)] = taken
            held, block = held + len(taken), block[len(taken) :]
            if held == most:
                yield group
                held = 0
    if held:
        yield group[:held]


WRITTEN = {".parquet": _write_parquet, ".npy": _write_npy, ".csv": _write_csv}
"""Suffix -> how such a file is written."""
