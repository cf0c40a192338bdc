"""Embeddings are written in blocks in three formats and read in blocks again: same numbers, memory of a block."""

from __future__ import annotations

import csv
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from eigenview.diagnostics.diagnose import diagnose_blocks, diagnose_embeddings
from eigenview.embeddings_file import check_out, open_embeddings, reading, write_embeddings, writing
from eigenview.errors import UserError

X = np.random.default_rng(0).normal(size=(53, 6)).astype(np.float32)
LABELS = ["cat, big", "dog", 'the "third"']


def texts(first: int, count: int) -> dict[str, list[Any]]:
    rows = range(first, first + count)
    return {"index": list(rows), "path": [f"{k}.png" for k in rows], "label": [LABELS[k % 3] for k in rows]}


def blocks(x: np.ndarray, most: int) -> Iterator[np.ndarray]:
    yield from (x[first : first + most] for first in range(0, len(x), most))


def written(path: Path, x: np.ndarray = X, most: int = 7) -> Path:
    write_embeddings(path, blocks(x, most), texts, rows=len(x), width=x.shape[1])
    return path


def read(path: Path, column: str | None = None) -> np.ndarray:
    return np.concatenate(list(open_embeddings(path, column).blocks()))


@pytest.mark.parametrize("most", [1, 7, 53, 100])
def test_the_same_rows_come_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    """Whatever the blocks are in which they were computed, written and read."""
    import pyarrow.parquet as pq

    monkeypatch.setattr(writing, "GROUP_BYTES", 20 * 4 * 6)
    monkeypatch.setattr(reading, "BLOCK_BYTES", 9 * 4 * 6)
    parquet = written(tmp_path / "x.parquet", most=most)
    assert pq.ParquetFile(parquet).metadata.num_row_groups == 3
    table = pq.read_table(parquet).to_pydict()
    assert np.array_equal(np.array(table.pop("h"), np.float32), X)
    assert table == texts(0, 53)
    npy = written(tmp_path / "x.NPY", most=most)
    assert np.array_equal(np.load(npy), X)
    with written(tmp_path / "x.csv", most=most).open(newline="") as file:
        header, *rows = csv.reader(file)
    assert header == ["index", "path", "label", *(f"h{k}" for k in range(6))]
    assert [row[:3] for row in rows] == [list(map(str, row)) for row in zip(*texts(0, 53).values(), strict=True)]
    assert np.array_equal(np.array([row[3:] for row in rows], np.float32), X)
    for path in (parquet, npy):
        assert np.array_equal(read(path), X)
        assert max(len(block) for block in open_embeddings(path, None).blocks()) == 9


def test_a_failure_half_way_leaves_what_was_there(tmp_path: Path) -> None:
    def breaks() -> Iterator[np.ndarray]:
        yield X[:10]
        raise UserError("not finite")

    for suffix in (".parquet", ".npy", ".csv"):
        path = tmp_path / f"x{suffix}"
        path.write_bytes(b"earlier")
        with pytest.raises(UserError, match="not finite"):
            write_embeddings(path, breaks(), texts, rows=53, width=6)
        assert path.read_bytes() == b"earlier"
    assert len(list(tmp_path.iterdir())) == 3


@pytest.mark.parametrize("name", ["x", "x.txt", "x.npz"])
def test_another_suffix_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match=r"--out .*allowed: \.parquet or \.csv.*\.npy"):
        check_out(tmp_path / name)


def test_files_of_other_origin(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    np.save(tmp_path / "columns.npy", np.asfortranarray(X.astype(np.float64)))
    assert np.array_equal(read(tmp_path / "columns.npy"), X)
    np.savez_compressed(tmp_path / "two.npz", h=X, other=X[:, :2], labels=np.arange(53))
    assert np.array_equal(read(tmp_path / "two.npz", "h"), X)
    with pytest.raises(UserError, match=r"holds h \(53, 6\), other \(53, 2\), labels \(53,\)"):
        read(tmp_path / "two.npz")
    lists = X.tolist()
    tags = [[1] * (k % 3) for k in range(53)]
    pq.write_table(pa.table({"tags": tags, "h": lists, "name": ["a"] * 53}), tmp_path / "lists.parquet")
    assert np.array_equal(read(tmp_path / "lists.parquet"), X), "tags differ in length: no table"
    pq.write_table(pa.table({f"f{k}": X[:, k] for k in range(6)} | {"id": range(53)}), tmp_path / "columns.parquet")
    assert np.array_equal(read(tmp_path / "columns.parquet"), X)
    cut = (tmp_path / "columns.npy").read_bytes()[:-1]
    (tmp_path / "cut.npy").write_bytes(cut)
    with pytest.raises(
        UserError, match=r"cut\.npy cannot be read: it should have 2,544 bytes of numbers and has 2,543"
    ):
        read(tmp_path / "cut.npy")


def test_a_parquet_damaged_further_down_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "GROUP_BYTES", 10 * 4 * 6)
    content = bytearray(written(tmp_path / "x.parquet").read_bytes())
    content[len(content) // 3 : len(content) // 2] = bytes(len(content) // 2 - len(content) // 3)
    (tmp_path / "x.parquet").write_bytes(content)
    with pytest.raises(UserError, match=r"x\.parquet cannot be read") as error:
        read(tmp_path / "x.parquet")
    assert "\n" not in str(error.value)


def test_a_verdict_in_blocks_is_that_of_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    from eigenview.diagnostics import diagnose

    monkeypatch.setattr(diagnose, "MOST_ROWS", 20)
    expected = diagnose_embeddings(X)
    assert "20 of 53 rows" in expected[1].notes[-1]
    for most in (1, 8, 53):
        assert diagnose_blocks(blocks(X, most), 53, 6) == expected
    broken = X.copy()
    broken[[3, 50], 2] = np.nan
    measures, verdict = diagnose_blocks(blocks(broken, 8), 53, 6)
    assert set(measures.values()) == {None}
    assert verdict.label == "diverged"
    assert "2 of 53 rows contain nan" in verdict.notes[-1]


@pytest.mark.parametrize("suffix", [".parquet", ".npy", ".csv"])
def test_memory_is_that_of_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str) -> None:
    """Of NumPy and of pyarrow, whose pool counts its own."""
    import pyarrow as pa

    monkeypatch.setattr(writing, "GROUP_BYTES", 100_000)
    monkeypatch.setattr(reading, "BLOCK_BYTES", 100_000)
    x = np.random.default_rng(0).normal(size=(4_000 if suffix == ".csv" else 20_000, 64)).astype(np.float32)
    path, held = tmp_path / f"x{suffix}", []

    def watched(blocks: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
        for block in blocks:
            held.append(pa.total_allocated_bytes() - before)
            yield block

    def number(first: int, count: int) -> dict[str, list[Any]]:
        return {"index": list(range(first, first + count))}

    write_embeddings(path, blocks(x[:256], 256), number, rows=256, width=64)  # what is imported
    before = pa.total_allocated_bytes()
    tracemalloc.start()
    write_embeddings(path, watched(blocks(x, 50)), number, rows=len(x), width=64)
    if suffix != ".csv":
        rows = sum(len(block) for block in watched(open_embeddings(path, None).blocks()))
        assert rows == len(x)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < (0.5 if suffix == ".csv" else 0.2) * x.nbytes
    assert max(held) < 2_000_000, "with a buffer of a megabyte"


def test_an_archive_of_a_kind_that_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    """Flag bit 5 of a member says that it is a patch for another file."""
    np.savez(tmp_path / "x.npz", z=np.zeros((8, 4)))
    content = bytearray((tmp_path / "x.npz").read_bytes())
    for mark, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(mark) + place] |= 1 << 5
    (tmp_path / "x.npz").write_bytes(content)
    with pytest.raises(UserError, match=r"x\.npz.*flag bit 5"):
        open_embeddings(tmp_path / "x.npz", None)
