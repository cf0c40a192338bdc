"""Read embeddings of any origin: one table of numbers in a .npy, .npz or Parquet file."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from eigenview.data.npz import read_npz, refuse_bomb
from eigenview.data.opening import kind_of, not_allowed
from eigenview.data.sources.arrays import READ_ERRORS
from eigenview.errors import UserError

SUFFIXES = (".npy", ".npz", ".parquet")


def read_embeddings(path: Path, column: str | None) -> np.ndarray:
    """float32 (N, width) of an embeddings file; never unpickles.

    Raises UserError for a missing, damaged or empty file, and where the array to take is not clear.
    """
    if kind_of(path) != "file":
        raise UserError(f"{path}: no such file. Give a .npy, .npz or .parquet of embeddings.")
    try:
        found = _arrays(path)
    except UserError:
        raise
    except PermissionError as error:
        raise not_allowed(path) from error
    except (
        OSError,
        TypeError,
        AttributeError,
        *READ_ERRORS,
    ) as error:  # the two: an archive named .npy, or the reverse
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise UserError(f"{path} cannot be read: {reason}") from None
    fitting = {k: v for k, v in found.items() if v.ndim == 2 and v.dtype.kind in "fiu"}
    if column is not None and column not in fitting:
        names = ", ".join(fitting) or "no numeric table"
        raise UserError(f"--column {column}: {path} has {names}. Choose one of them.")
    if column is None and len(fitting) != 1:
        shapes = ", ".join(f"{k} {v.shape}" for k, v in found.items()) or "no numbers in rows of one length"
        advice = "Name it with --column." if fitting else "Reshape it to one row for each image."
        raise UserError(f"{path} holds {shapes}; one numeric (rows, width) table is needed. {advice}")
    with np.errstate(over="ignore"):  # beyond float32: infinite, which the verdict names
        x = np.array(fitting[column] if column is not None else next(iter(fitting.values())), dtype=np.float32)
    if min(x.shape) < 2:
        raise UserError(f"{path}: embeddings of shape {x.shape}; a verdict needs at least 2 rows and 2 columns.")
    return x


def _arrays(path: Path) -> dict[str, np.ndarray]:
    if path.suffix.lower() == ".npy":
        array = np.load(path, allow_pickle=False)
        if not isinstance(array, np.ndarray):
            raise ValueError("it is an archive of arrays; call it .npz")
        return {"array": array}
    if path.suffix.lower() == ".npz":
        arrays, headers = read_npz(path, lambda _, header: len(header.shape) == 2 and header.dtype.kind in "fiu")
        # the others are shown in messages by their shapes, which need no memory
        others = {name: header for name, header in headers.items() if header is not None and name not in arrays}
        return arrays | {name: np.broadcast_to(np.empty((), each.dtype), each.shape) for name, each in others.items()}
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(path)
        groups = [file.metadata.row_group(i) for i in range(file.metadata.num_row_groups)]
        columns = [group.column(k) for group in groups for k in range(group.num_columns)]
        packed = sum(column.total_compressed_size for column in columns)
        refuse_bomb(str(path), packed, sum(column.total_uncompressed_size for column in columns))
        table = file.read()
    except pa.ArrowException as error:
        raise ValueError(str(error)) from error
    lists, numbers = {}, {}
    for name in table.column_names:
        values = table[name].combine_chunks()
        kind = values.type
        if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
            if values.null_count:
                raise ValueError(f"column {name} has {values.null_count:,} rows without a vector")
            widths = {len(v) for v in values}
            if len(widths) == 1 and len(values):
                lists[name] = np.asarray(values.flatten()).reshape(len(values), -1)
        elif pa.types.is_floating(kind):
            numbers[name] = np.asarray(values)
    # one column of vectors, or a table whose float columns are the dimensions
    return lists or ({"columns": np.stack(list(numbers.values()), axis=1)} if numbers else {})
