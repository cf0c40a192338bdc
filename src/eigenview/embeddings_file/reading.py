"""Read embeddings of any origin: one table of numbers in a .npy, .npz or Parquet file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from eigenview.data.npz import Header, read_npz, refuse_bomb
from eigenview.data.opening import kind_of, not_allowed, open_regular
from eigenview.data.sources.arrays import READ_ERRORS
from eigenview.errors import UserError

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

SUFFIXES = (".npy", ".npz", ".parquet")
BLOCK_BYTES = 16_000_000
"""Of a block of rows in float32."""

Rows = Callable[[str, int], Iterator[np.ndarray]]
"""(name of a table, rows of a block) -> its rows in order, in the file's own type."""


@dataclass(frozen=True, kw_only=True)
class Embeddings:
    """A table of a file, which is read anew with each pass over `blocks`."""

    path: Path
    rows: int
    width: int
    read: Callable[[int], Iterator[np.ndarray]]
    """Rows of a block -> blocks in the file's own type."""

    def blocks(self) -> Iterator[np.ndarray]:
        """float32 (n, width), all rows in order. Raises UserError if the file is damaged further down."""
        with _as_user_errors(self.path):
            for block in self.read(max(1, BLOCK_BYTES // (4 * self.width))):
                with np.errstate(over="ignore"):  # beyond float32: infinite, which the verdict names
                    rows = np.array(block, dtype=np.float32)
                yield rows


def open_embeddings(path: Path, column: str | None) -> Embeddings:
    """The one numeric table of a file, or the one named `column`; never unpickles. Reads what tells the shapes.

    Raises UserError for a missing, damaged or empty file, and where the array to take is not clear.
    """
    if kind_of(path) != "file":
        raise UserError(f"{path}: no such file. Give a .npy, .npz or .parquet of embeddings.")
    with _as_user_errors(path):
        found, rows_of = _opened(path)
    fitting = {k: v for k, v in found.items() if len(v.shape) == 2 and v.dtype.kind in "fiu"}
    if column is not None and column not in fitting:
        names = ", ".join(fitting) or "no numeric table"
        raise UserError(f"--column {column}: {path} has {names}. Choose one of them.")
    if column is None and len(fitting) != 1:
        shapes = ", ".join(f"{k} {v.shape}" for k, v in found.items()) or "no numbers in rows of one length"
        advice = "Name it with --column." if fitting else "Reshape it to one row for each image."
        raise UserError(f"{path} holds {shapes}; one numeric (rows, width) table is needed. {advice}")
    name = column if column is not None else next(iter(fitting))
    rows, width = fitting[name].shape
    if min(rows, width) < 2:
        raise UserError(f"{path}: embeddings of shape {(rows, width)}; a verdict needs at least 2 rows and 2 columns.")
    return Embeddings(path=path, rows=rows, width=width, read=lambda most: rows_of(name, most))


@contextmanager
def _as_user_errors(path: Path) -> Iterator[None]:
    """Whatever a damaged file makes NumPy, zipfile and pyarrow raise is a UserError that names it."""
    try:
        yield
    except UserError:
        raise
    except PermissionError as error:
        raise not_allowed(path) from error
    except (
        OSError,
        TypeError,
        AttributeError,
        *READ_ERRORS,
    ) as error:  # the two: an archive named .npy, or the reverse; pyarrow's errors are all ValueErrors or OSErrors here
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise UserError(f"{path} cannot be read: {reason}") from None


def _opened(path: Path) -> tuple[dict[str, Header], Rows]:
    """Shapes and types of the arrays of a file, and how their rows are read."""
    match path.suffix.lower():
        case ".npy":
            return _npy(path)
        case ".npz":
            headers = read_npz(path, lambda name, header: False)[1]
            shapes = {name: header for name, header in headers.items() if header is not None}
            return shapes, lambda name, most: _cut(read_npz(path, lambda each, _: each == name)[0][name], most)
        case _:
            return _parquet(path)


def _cut(array: np.ndarray, most: int) -> Iterator[np.ndarray]:
    return (array[first : first + most] for first in range(0, len(array), most))


def _npy(path: Path) -> tuple[dict[str, Header], Rows]:
    with open_regular(path) as file:
        if file.read(2) == b"PK":
            raise ValueError("it is an archive of arrays; call it .npz")
        file.seek(0)
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, is_fortran, dtype = read(file)
        start, held = file.tell(), file.seek(0, 2)
    size = int(np.prod(shape, dtype=object)) * dtype.itemsize
    if dtype.hasobject:
        raise ValueError("it holds pickled objects, which are not read")
    if start + size > held:
        raise ValueError(f"it should have {size:,} bytes of numbers and has {held - start:,}")

    def rows(name: str, most: int) -> Iterator[np.ndarray]:
        if is_fortran:  # rows are not in one piece
            yield from _cut(np.load(path, mmap_mode="r", allow_pickle=False), most)
            return
        with open_regular(path) as file:
            file.seek(start)
            for first in range(0, shape[0], most):
                count = min(most, shape[0] - first)
                content = file.read(count * shape[1] * dtype.itemsize)
                yield np.frombuffer(content, dtype).reshape(count, shape[1])

    return {"array": Header(shape, dtype)}, rows


def _parquet(path: Path) -> tuple[dict[str, Header], Rows]:
    """One column of vectors each, or a table "columns" whose floating columns are the dimensions."""
    import pyarrow as pa

    with _pyarrow_errors(), _parquet_file(path) as file:
        count, schema = file.metadata.num_rows, file.schema_arrow
        lists = {name: kind.value_type for name, kind in zip(schema.names, schema.types, strict=True) if _is_list(kind)}
        numbers = [name for name, kind in zip(schema.names, schema.types, strict=True) if pa.types.is_floating(kind)]
        if not lists:
            found = {"columns": Header((count, len(numbers)), np.dtype(np.float64))} if numbers else {}
        else:
            widths = {name: _width(file, name, schema.field(name).type) for name in lists}
            found = {
                name: Header((count, width), np.dtype(lists[name].to_pandas_dtype()))
                for name, width in widths.items()
                if width is not None
            }
        _refuse_bomb(path, file, list(found) if lists else numbers)

    def rows(name: str, most: int) -> Iterator[np.ndarray]:
        with _pyarrow_errors(), _parquet_file(path) as file:
            first = 0
            for batch in file.iter_batches(most, columns=[name] if lists else numbers, use_threads=False):
                if lists:
                    values = batch.column(0)
                    if values.null_count:
                        row = first + int(np.flatnonzero(np.asarray(values.is_null()))[0])
                        raise ValueError(f"column {name} has no vector in row {row:,}")
                    yield np.asarray(values.flatten()).reshape(len(values), -1)
                else:
                    yield np.stack([np.asarray(each) for each in batch.columns], axis=1)
                first += batch.num_rows

    return found, rows


@contextmanager
def _parquet_file(path: Path) -> Iterator[pq.ParquetFile]:
    """Read through a small buffer, not ahead: one row group may be as large as the file."""
    import pyarrow.parquet as pq

    with pq.ParquetFile(path, buffer_size=1 << 20, pre_buffer=False) as opened:
        yield opened


@contextmanager
def _pyarrow_errors() -> Iterator[None]:
    import pyarrow as pa

    try:
        yield
    except pa.ArrowException as error:
        raise ValueError(str(error)) from error


def _is_list(kind: Any) -> bool:
    import pyarrow as pa

    is_list = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    return is_list and (pa.types.is_floating(kind.value_type) or pa.types.is_integer(kind.value_type))


def _width(file: pq.ParquetFile, name: str, kind: pa.DataType) -> int | None:
    """The length that all vectors of a column have; None if there is no such length."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_fixed_size_list(kind):
        return kind.list_size
    widths: set[int] = set()
    for batch in file.iter_batches(4096, columns=[name], use_threads=False):
        lengths = pc.list_value_length(batch.column(0))  # pyright: ignore[reportAttributeAccessIssue]
        widths.update(width for width in lengths.unique().to_pylist() if width is not None)
        if len(widths) > 1:
            return None
    return widths.pop() if widths else None


def _refuse_bomb(path: Path, file: pq.ParquetFile, names: list[str]) -> None:
    groups = [file.metadata.row_group(i) for i in range(file.metadata.num_row_groups)]
    columns = [group.column(k) for group in groups for k in range(group.num_columns)]
    read = [each for each in columns if any(f"{each.path_in_schema}.".startswith(f"{name}.") for name in names)]
    packed = sum(each.total_compressed_size for each in read)
    refuse_bomb(str(path), packed, sum(each.total_uncompressed_size for each in read))
